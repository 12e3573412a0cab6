// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hostctl/hostctl/internal/testutil"
)

// corpusManifests are the roots; the other files are what they include.
var corpusManifests = []string{
	"fedora-coreos-config/*/manifest.yaml",
	"workstation-ostree-config/f*/fedora-*.yaml",
	"LorbusChris_fedora-iot-config/*.yaml",
	"rocky-linux_sig-ostree_ostree-config/manifest*.yaml",
	"openshift-os/packages-openshift.yaml",
}

func TestCorpusTreefiles(t *testing.T) {
	t.Parallel()
	dir := testutil.Corpus(t, "treefiles")
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	count := 0
	for _, pattern := range corpusManifests {
		names, err := fs.Glob(root.FS(), pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s matches nothing (%v)", pattern, err)
		}
		for _, name := range names {
			sub, err := fs.Sub(root.FS(), path.Dir(name))
			if err != nil {
				t.Fatal(err)
			}
			o := Options{Basearch: "x86_64"}
			if strings.HasPrefix(name, "openshift-os/") {
				o.Variables = map[string]Value{"osversion": StringValue("c10s")}
			}
			m, err := Load(withPostScript{sub}, path.Base(name), o)
			if want := corpusDefect(name); want != "" {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: got %v, want an error with %q", name, err, want)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			count++
			if len(m.Packages) == 0 && !strings.Contains(name, "-ostree.yaml") {
				t.Errorf("%s: no packages", name)
			}
		}
	}
	t.Logf("%d real manifests loaded", count)
}

// corpusDefect is what Load must say about a manifest that is broken, or whose
// submodule the corpus lacks.
func corpusDefect(name string) string {
	switch {
	case strings.HasPrefix(name, "workstation-ostree-config/f37/") && !strings.HasSuffix(name, "-pkgs.yaml"):
		return "fedora-common-ostree.yaml:122: parse YAML"
	case strings.HasPrefix(name, "LorbusChris"):
		return "fedora-iot-base.yaml:8: include: read fedora-coreos-config/manifests/fedora-coreos-base.yaml"
	}
	return ""
}

// withPostScript adds the post.sh that the corpus, a collection of data only,
// left out.
type withPostScript struct{ fs.FS }

func (f withPostScript) Open(name string) (fs.File, error) {
	if name == "post.sh" {
		return fstest.MapFS{name: {Data: []byte("#!/bin/bash\n"), Mode: 0o755}}.Open(name)
	}
	return f.FS.Open(name)
}

// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

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

// corpusRoot is one manifest of the corpus, ready to be loaded.
type corpusRoot struct {
	path    string // inside the corpus
	fsys    fs.FS
	name    string
	options Options
}

func corpusRoots(t *testing.T) []corpusRoot {
	t.Helper()
	root, err := os.OpenRoot(testutil.Corpus(t, "treefiles"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	var out []corpusRoot
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
			c := corpusRoot{path: name, fsys: withPostScript{sub}, name: path.Base(name), options: Options{Basearch: "x86_64"}}
			if strings.HasPrefix(name, "LorbusChris") {
				// Its submodule is another folder of the corpus.
				c.fsys = withFolder{sub, "fedora-coreos-config", root.FS(), "fedora-coreos-config/rhcos-4.9"}
			}
			if strings.HasPrefix(name, "openshift-os/") {
				c.options.Variables = map[string]Value{"osversion": StringValue("c10s")}
			}
			out = append(out, c)
		}
	}
	return out
}

func TestCorpusTreefiles(t *testing.T) {
	t.Parallel()
	count := 0
	for _, c := range corpusRoots(t) {
		m, err := Load(c.fsys, c.name, c.options)
		if want := corpusDefect(c.path); want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want an error with %q", c.path, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		count++
		if len(m.Packages) == 0 && !strings.Contains(c.path, "-ostree.yaml") {
			t.Errorf("%s: no packages", c.path)
		}
	}
	t.Logf("%d real manifests loaded", count)
}

// Every treefile of the corpus that is no root is sound by itself, too, and all
// files keep their content in every notation.
func TestCorpusFilesConvert(t *testing.T) {
	t.Parallel()
	root := os.DirFS(testutil.Corpus(t, "treefiles"))
	count := 0
	err := fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(name, ".yaml") || notTreefile(name) {
			return err
		}
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		d, err := Parse(name, data)
		if name == "workstation-ostree-config/f37/fedora-common-ostree.yaml" {
			if err == nil || !strings.Contains(err.Error(), name+":122: parse YAML") {
				t.Errorf("%s: %v", name, err)
			}
			return nil
		}
		if err != nil {
			t.Error(err)
			return nil
		}
		for _, f := range []Format{TOML, YAML, JSON} {
			text, err := d.Encode(f, EncodeOptions{})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			again, err := Parse("converted."+string(f), text)
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, text)
				continue
			}
			if diff := cmp.Diff(d.root.plain(), again.root.plain()); diff != "" {
				t.Errorf("%s as %s (-want +got):\n%s", name, f, diff)
			}
		}
		count++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files converted", count)
}

func notTreefile(name string) bool {
	switch path.Base(name) {
	case "image.yaml", "image-base.yaml", "kola-denylist.yaml", "platforms.yaml", "manifest-lock.overrides.yaml", "extensions.yaml":
		return true
	}
	return strings.Contains(name, "/extensions/") || strings.Contains(name, "/.")
}

// A manifest, flattened and written in any notation beside its root, loads as
// the same manifest; so does the root alone, converted.
func TestCorpusRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range corpusRoots(t) {
		if corpusDefect(c.path) != "" {
			continue
		}
		m, err := Load(c.fsys, c.name, c.options)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		data, err := fs.ReadFile(c.fsys, c.name)
		if err != nil {
			t.Fatal(err)
		}
		own, err := Parse(c.name, data)
		if err != nil {
			t.Fatal(err)
		}
		flat, err := m.Flat(false)
		if err != nil {
			t.Fatal(err)
		}
		all, err := m.Flat(true)
		if err != nil {
			t.Fatal(err)
		}
		sameManifest(t, c, m, all, all, TOML)
		for _, f := range []Format{TOML, YAML, JSON} {
			sameManifest(t, c, m, flat, flat, f)
			sameManifest(t, c, m, own, flat, f)
		}
	}
}

func sameManifest(t *testing.T, c corpusRoot, want *Manifest, d, flat *Document, f Format) {
	t.Helper()
	text, err := d.Encode(f, EncodeOptions{Origins: f == TOML})
	if err != nil {
		t.Errorf("%s as %s: %v", c.path, f, err)
		return
	}
	name := "converted." + string(f)
	got, err := Load(withFile{c.fsys, name, text}, name, c.options)
	if err != nil {
		t.Errorf("%s as %s: %v", c.path, f, err)
		return
	}
	one, err1 := want.Canonical()
	two, err2 := got.Canonical()
	if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
		t.Errorf("%s as %s differs (%v, %v):\n%s", c.path, f, err1, err2, cmp.Diff(string(one), string(two)))
	}
	if diff := cmp.Diff(flat.root.plain(), got.flat.plain()); diff != "" {
		t.Errorf("%s as %s: flattened again (-want +got):\n%s", c.path, f, diff)
	}
}

// withFolder is a file system with a folder of another one.
type withFolder struct {
	fs.FS
	name  string
	other fs.FS
	dir   string
}

func (f withFolder) Open(name string) (fs.File, error) {
	if rest, ok := strings.CutPrefix(name, f.name+"/"); ok {
		return f.other.Open(path.Join(f.dir, rest))
	}
	return f.FS.Open(name)
}

// withFile is a file system with one more file.
type withFile struct {
	fs.FS
	name string
	data []byte
}

func (f withFile) Open(name string) (fs.File, error) {
	if name == f.name {
		return fstest.MapFS{name: {Data: f.data, Mode: 0o644}}.Open(name)
	}
	return f.FS.Open(name)
}

// corpusDefect is what Load must say about a manifest that includes the broken
// file.
func corpusDefect(name string) string {
	switch {
	case strings.HasPrefix(name, "workstation-ostree-config/f37/") && !strings.HasSuffix(name, "-pkgs.yaml"):
		return "fedora-common-ostree.yaml:122: parse YAML"
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

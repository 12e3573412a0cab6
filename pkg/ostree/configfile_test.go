// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

func TestConfigValues(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r := newTestRepo(t, ModeArchive)
	group := `remote "o.x"`
	if err := errors.Join(r.SetConfigValue(group, "url", "http://example.com/a b"), r.SetConfigValue("core", "mode", "bare-user-only"),
		r.SetConfigValue("core", "gone", "1"), r.UnsetConfigValue("core", "gone"), r.UnsetConfigValue("none", "gone")); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "ostree", repoPath(r), "config", "get", "--group="+group, "url"); out != "http://example.com/a b" {
		t.Errorf("url = %q", out)
	}
	r = reopen(t, r)
	if v, err := r.ConfigValue("core", "mode"); v != "bare-user-only" || err != nil || r.Mode() != ModeBareUserOnly {
		t.Errorf("mode = %q, %v", v, err)
	}
	for key, want := range map[[2]string]string{
		{"core", "gone"}: "Key file does not have key “gone” in group “core”", {"none", "x"}: "Key file does not have group “none”",
	} {
		if _, err := r.ConfigValue(key[0], key[1]); !errors.Is(err, ErrNotFound) || err.Error() != want {
			t.Errorf("%v: %v", key, err)
		}
	}
}

// A repository is made the same way as by ostree, also around a config that exists.
func TestInteropCreate(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	for _, mode := range []Mode{ModeBare, ModeBareUser, ModeBareUserOnly, ModeArchive} {
		theirs, ours := filepath.Join(t.TempDir(), "r"), filepath.Join(t.TempDir(), "r")
		run(t, "ostree", "--repo="+theirs, "init", "--mode="+mode.String(), "--collection-id=org.example.Main")
		if err := os.Mkdir(ours, 0o755); err != nil {
			t.Fatal(err)
		}
		r, err := Create(testutil.OpenDir(t, ours), mode, Options{CollectionID: "org.example.Main"})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if out, err := runFails(t, "diff", "-r", theirs, ours); err != nil {
			t.Errorf("%s: %v\n%s", mode, err, out)
		}
	}
	half := filepath.Join(t.TempDir(), "r")
	if err := os.Mkdir(half, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(half+"/config", []byte("[core]\nrepo_version=1\nmode=bare-user\nx=y\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := Create(testutil.OpenDir(t, half), ModeBareUser, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if v, err := r.ConfigValue("core", "x"); v != "y" || err != nil {
		t.Errorf("an existing config was replaced: %q, %v", v, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	owner := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	for _, c := range []struct{ a, b, want string }{
		{"f:one", "f:one", ""},
		{"f:one", "f:one:600", "default/n has mode 0644 and owner " + owner + ", etc/n has mode 0600 and owner " + owner + "\n"},
		{"f:one", "f:two", "--- default/n\n+++ etc/n\n@@ -1 +1 @@\n-one\n\\ No newline at end of file\n+two\n\\ No newline at end of file\n"},
		{"", "f:one\n", "--- /dev/null\n+++ etc/n\n@@ -0,0 +1 @@\n+one\n"},
		{"f:one\n", "", "--- default/n\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n"},
		{"f:o\x00ne", "f:two", "Binary files default/n and etc/n differ\n"},
		{"l:x", "l:y", "default/n is a link to x, etc/n is a link to y\n"},
		{"f:one", "d:", "default/n is a file, etc/n is a directory\n"},
		{"p", "", "default/n is a special file, etc/n is absent\n"},
	} {
		root := emptyTrees(t)
		build(t, root+"/base", "n", shape(c.a))
		build(t, root+"/current", "n", shape(c.b))
		got, err := Diff(testutil.OpenDir(t, root+"/base"), testutil.OpenDir(t, root+"/current"), "n", "default", "etc")
		if err != nil || got != c.want {
			t.Errorf("%q → %q: %v\n got %q\nwant %q", c.a, c.b, err, got, c.want)
		}
	}
	root := emptyTrees(t)
	for d, end := range map[string]string{"base": "x", "current": "y"} {
		testutil.Must(t, os.WriteFile(filepath.Join(root, d, "n"), []byte(strings.Repeat(" ", maxDiff)+end), 0o644))
	}
	got, err := Diff(testutil.OpenDir(t, root+"/base"), testutil.OpenDir(t, root+"/current"), "n", "a", "b")
	if err != nil || got != "Binary files a/n and b/n differ\n" {
		t.Errorf("large files: %q, %v", got, err)
	}
}

func resetOne(defaults, current *fsx.Dir, name string) (saved string, changed bool, err error) {
	list, err := Reset(context.Background(), defaults, current, []string{name})
	if err != nil {
		return "", false, err
	}
	return list[0].Saved, list[0].Changed, nil
}

// Every pair of shapes: afterwards the default is in place and the local version
// beside it.
func TestReset(t *testing.T) {
	t.Parallel()
	for _, b := range shapes() {
		for _, c := range shapes() {
			root := emptyTrees(t)
			build(t, root+"/base", "n", b)
			build(t, root+"/current", "n", c)
			def, local := listing(t, root+"/base"), listing(t, root+"/current")
			saved, changed, err := resetOne(testutil.OpenDir(t, root+"/base"), testutil.OpenDir(t, root+"/current"), "n")
			if b == "" && c == "" {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("nothing there: %v", err)
				}
				continue
			}
			want := map[string]string{}
			for p, s := range def {
				want[p] = s
			}
			if c != "" && !cmp.Equal(def, local) {
				for p, s := range local {
					want["n.rpmsave"+strings.TrimPrefix(p, "n")] = s
				}
				if saved != "n.rpmsave" {
					t.Errorf("%q over %q: saved %q", b, c, saved)
				}
			} else if saved != "" {
				t.Errorf("%q over %q: saved %q", b, c, saved)
			}
			if d := cmp.Diff(want, listing(t, root+"/current")); d != "" || err != nil {
				t.Errorf("%q over %q: %v\n%s", b, c, err, d)
			}
			if changed == cmp.Equal(def, local) {
				t.Errorf("%q over %q: changed = %v", b, c, changed)
			}
		}
	}
}

func TestResetTaken(t *testing.T) {
	t.Parallel()
	root := emptyTrees(t)
	for d, text := range map[string]string{"base/f": "one", "current/f": "two", "current/f.rpmsave": "older", "base/d/x": "1", "current/.keep": ""} {
		testutil.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, d)), 0o755))
		write(t, filepath.Join(root, d), text, "")
	}
	base, current := testutil.OpenDir(t, root+"/base"), testutil.OpenDir(t, root+"/current")
	if saved, changed, err := resetOne(base, current, "/f"); saved != "f.rpmsave.1" || !changed || err != nil {
		t.Errorf("saved %q, %v", saved, err)
	}
	if _, _, err := resetOne(base, current, "d/x"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "reset that instead") {
		t.Errorf("below a removed directory: %v", err)
	}
	for _, bad := range []string{"", "/", "../etc/f", "a/../../f"} {
		if _, _, err := resetOne(base, current, bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	want := map[string]string{"f": "-rw-r--r-- one", "f.rpmsave": "-rw-r--r-- older", "f.rpmsave.1": "-rw-r--r-- two", ".keep": "-rw-r--r-- "}
	if d := cmp.Diff(want, listing(t, root+"/current")); d != "" {
		t.Error(d)
	}
}

// A list is judged as a whole: nothing changes if one of its names is wrong, and a
// name below another is reset with that.
func TestResetList(t *testing.T) {
	t.Parallel()
	root := emptyTrees(t)
	for name, text := range map[string]string{"base/d/x": "1", "current/d/x": "2", "base/f": "1", "current/f": "2", "base/g": "1", "current/g": "1"} {
		testutil.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		write(t, filepath.Join(root, name), text, "")
	}
	base, current := testutil.OpenDir(t, root+"/base"), testutil.OpenDir(t, root+"/current")
	before := listing(t, root+"/current")
	if _, err := Reset(t.Context(), base, current, []string{"f", "missing"}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, listing(t, root+"/current")); d != "" {
		t.Fatal(d)
	}
	got, err := Reset(t.Context(), base, current, []string{"d", "/d/x", "f", "g"})
	testutil.Must(t, err)
	want := []ResetResult{{"d", true, "d.rpmsave"}, {"d/x", true, ""}, {"f", true, "f.rpmsave"}, {"g", false, ""}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if n := listing(t, root+"/current"); n["d/x"] != "-rw-r--r-- 1" || n["d.rpmsave/x"] != "-rw-r--r-- 2" || n["d/x.rpmsave"] != "" {
		t.Error(n)
	}
}

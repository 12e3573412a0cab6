// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// explained merges three versions of the file n and returns what is told about it.
func explained(t *testing.T, pol Policy, base, current, next string) []Clash {
	t.Helper()
	root := emptyTrees(t)
	for d, s := range map[string]string{"base": base, "current": current, "merged": next} {
		build(t, filepath.Join(root, d), "n", shape(s))
	}
	dir := func(d string) Source { return FromDir(testutil.OpenDir(t, filepath.Join(root, d))) }
	changes, err := pol.Compare(t.Context(), testutil.OpenDir(t, root+"/base"), testutil.OpenDir(t, root+"/current"), testutil.OpenDir(t, root+"/merged"))
	testutil.Must(t, err)
	list, err := Explain(t.Context(), changes, dir("current"), dir("merged"))
	testutil.Must(t, err)
	return list
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ base, current, next, want string }{
		{"f:one\n", "f:mine\n", "f:new\n", "--- /etc/n\n+++ /usr/etc/n\n@@ -1 +1 @@\n-mine\n+new\n"},
		{"f:one", "f:mi\x00ne", "f:new", "/etc/n has 5 bytes (sha256 "},
		{"f:one", "f:secret:600", "f:new", "/etc/n has 6 bytes, the new /usr/etc/n has 3 bytes; not everybody may read them\n"},
		{"f:one", "f:mine", "f:hidden:640", "/etc/n has 4 bytes, the new /usr/etc/n has 6 bytes; not everybody may read them\n"},
		{"f:one", "f:new:664", "f:new", "/etc/n has mode 0664 and owner 0:0, the new /usr/etc/n has mode 0644 and owner 0:0\n"},
		{"f:one", "f:mine", "", "/etc/n is a file, the new /usr/etc/n is absent\n"},
		{"f:one", "", "f:new", "/etc/n is absent, the new /usr/etc/n is a file\n"},
		{"", "f:mine", "d:", "/etc/n is a file, the new /usr/etc/n is a directory\n"},
		{"l:x", "l:y", "l:z", "/etc/n is a link to y, the new /usr/etc/n is a link to z\n"},
	} {
		testutil.Root(t, "the owner is told")
		for _, pol := range []Policy{{}, {Replace: []string{"n"}}} {
			got := explained(t, pol, c.base, c.current, c.next)
			if len(got) != 1 || !strings.HasPrefix(got[0].Diff, c.want) || got[0].Replaced != (pol.Replace != nil) {
				t.Errorf("%q %q %q: %+v, want %q", c.base, c.current, c.next, got, c.want)
			}
		}
	}
	if got := explained(t, Policy{}, "f:one", "f:mine", "f:one"); len(got) != 0 {
		t.Errorf("no conflict: %+v", got)
	}
}

// What stands below a directory that is closed to others is as secret as the file itself.
func TestExplainBelowClosedDirectory(t *testing.T) {
	t.Parallel()
	root := emptyTrees(t)
	for d, text := range map[string]string{"base": "1", "current": "secret", "merged": "3"} {
		testutil.Must(t, os.Mkdir(filepath.Join(root, d, "d"), 0o700))
		write(t, filepath.Join(root, d, "d/n"), text, "")
	}
	cur, next := testutil.OpenDir(t, root+"/current"), testutil.OpenDir(t, root+"/merged")
	changes, err := Compare(t.Context(), testutil.OpenDir(t, root+"/base"), cur, next)
	testutil.Must(t, err)
	list, err := Explain(t.Context(), changes, FromDir(cur), FromDir(next))
	testutil.Must(t, err)
	if len(list) != 1 || strings.Contains(list[0].Diff, "secret") {
		t.Errorf("%+v", list)
	}
}

func TestExplainIsBounded(t *testing.T) {
	t.Parallel()
	root := emptyTrees(t)
	for i := range 40 {
		name := strings.Repeat("x", i+1)
		for _, d := range []string{"base", "current", "merged"} {
			write(t, filepath.Join(root, d, name), strings.Repeat("line of "+d+"\n", 3000), "")
		}
	}
	cur, next := testutil.OpenDir(t, root+"/current"), testutil.OpenDir(t, root+"/merged")
	changes, err := Compare(t.Context(), testutil.OpenDir(t, root+"/base"), cur, next)
	testutil.Must(t, err)
	list, err := Explain(t.Context(), changes, FromDir(cur), FromDir(next))
	testutil.Must(t, err)
	total := 0
	for _, c := range list {
		total += len(c.Diff)
		if len(c.Diff) > maxShown+50 || !strings.HasSuffix(c.Diff, " more lines)\n") {
			t.Errorf("%d bytes, ending in %q", len(c.Diff), c.Diff[max(0, len(c.Diff)-40):])
		}
	}
	if len(list) != 40 || total > maxExplain+40*50 {
		t.Errorf("%d conflicts, %d bytes", len(list), total)
	}
}

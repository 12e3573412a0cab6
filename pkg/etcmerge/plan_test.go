// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// shape is one state of a name in a tree: "" absent, "f:TEXT[:MODE]" a file,
// "l:TARGET" a link, "p" a FIFO, "d:CHILD=TEXT,…" a directory with files, "closed" an
// empty one for its owner only.
type shape string

func shapes() []shape {
	return []shape{"", "f:one", "f:two", "f:six", "f:one:600", "l:x", "l:y", "d:", "d:c=one", "d:c=two", "d:e=one", "d:c=one,e=two"}
}

func build(t *testing.T, root, name string, s shape) {
	t.Helper()
	p := filepath.Join(root, name)
	kind, arg, _ := strings.Cut(string(s), ":")
	switch kind {
	case "":
	case "f":
		text, mode, _ := strings.Cut(arg, ":")
		write(t, p, text, mode)
	case "l":
		testutil.Must(t, os.Symlink(arg, p))
	case "p":
		testutil.Must(t, syscall.Mkfifo(p, 0o644))
	case "closed":
		testutil.Must(t, os.Mkdir(p, 0o700))
	case "d":
		testutil.Must(t, os.Mkdir(p, 0o755))
		for child := range strings.SplitSeq(arg, ",") {
			if name, text, ok := strings.Cut(child, "="); ok {
				write(t, filepath.Join(p, name), text, "")
			}
		}
	default:
		t.Fatalf("shape %q", s)
	}
}

func write(t *testing.T, p, text, mode string) {
	t.Helper()
	perm := os.FileMode(0o644)
	if mode != "" {
		n, err := strconv.ParseUint(mode, 8, 12)
		testutil.Must(t, err)
		perm = os.FileMode(n)
	}
	testutil.Must(t, os.WriteFile(p, []byte(text), perm))
	testutil.Must(t, os.Chmod(p, perm))
}

// listing describes a tree as path -> "kind mode content".
func listing(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	testutil.Must(t, filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		switch {
		case st.Mode().IsRegular():
			data, err := os.ReadFile(p)
			out[rel] = fmt.Sprintf("%v %s", st.Mode(), data)
			return err
		case st.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(p)
			out[rel] = "-> " + target
			return err
		}
		out[rel] = st.Mode().String()
		return nil
	}))
	return out
}

// oracle is the rule in one sentence, worked out on listings instead of on
// snapshots: start from the new defaults; every path whose listing differs
// between the old defaults and the live tree becomes what it is in the live
// tree, with the directories it needs; FIFOs do not count.
func oracle(base, current, next map[string]string) map[string]string {
	out := maps.Clone(next)
	remove := func(p string) {
		for q := range out {
			if q == p || strings.HasPrefix(q, p+"/") {
				delete(out, q)
			}
		}
	}
	isDir := func(s string) bool { return strings.HasPrefix(s, "d") }
	paths := slices.Sorted(maps.Keys(mergeMaps(base, current)))
	for _, p := range paths {
		if base[p] == current[p] || strings.HasPrefix(current[p], "p") {
			continue
		}
		parent := filepath.Dir(p)
		if current[p] == "" {
			if parent == "." || isDir(current[parent]) {
				remove(p)
			}
			continue
		}
		if parent != "." && !isDir(out[parent]) {
			out[parent] = current[parent]
		}
		if isDir(current[p]) && isDir(out[p]) {
			out[p] = current[p]
			continue
		}
		remove(p)
		out[p] = current[p]
	}
	return out
}

func mergeMaps(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// TestEveryCombination merges every base × current × next at one name each, all
// in one tree, through real directories, and compares with the oracle.
func TestEveryCombination(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, d := range []string{"base", "current", "next", "merged"} {
		testutil.Must(t, os.Mkdir(filepath.Join(root, d), 0o755))
	}
	n := 0
	for _, b := range shapes() {
		for _, c := range append(shapes(), "p") {
			for _, x := range shapes() {
				name := fmt.Sprintf("n%04d", n)
				n++
				build(t, filepath.Join(root, "base"), name, b)
				build(t, filepath.Join(root, "current"), name, c)
				build(t, filepath.Join(root, "next"), name, x)
				build(t, filepath.Join(root, "merged"), name, x)
			}
		}
	}
	before := listing(t, filepath.Join(root, "current"))
	want := oracle(listing(t, filepath.Join(root, "base")), before, listing(t, filepath.Join(root, "next")))
	changes := mergeReal(t, root)
	if d := cmp.Diff(want, listing(t, filepath.Join(root, "merged"))); d != "" {
		t.Fatal(d)
	}
	if d := cmp.Diff(before, listing(t, filepath.Join(root, "current"))); d != "" {
		t.Fatalf("the live tree changed:\n%s", d)
	}
	if len(Conflicts(changes)) == 0 || len(Conflicts(changes)) == len(changes) {
		t.Fatalf("%d conflicts of %d changes", len(Conflicts(changes)), len(changes))
	}
}

func mergeReal(t *testing.T, root string) []Change {
	t.Helper()
	current, merged := testutil.OpenDir(t, filepath.Join(root, "current")), testutil.OpenDir(t, filepath.Join(root, "merged"))
	changes, err := Compare(context.Background(), testutil.OpenDir(t, filepath.Join(root, "base")), current, merged)
	testutil.Must(t, err)
	vanished, err := Apply(context.Background(), current, merged, changes)
	testutil.Must(t, err)
	if len(vanished) > 0 {
		t.Fatalf("vanished: %q", vanished)
	}
	return changes
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		base, current, next shape
		want                string // "KIND OP CONFLICT" of each change, in order
	}{
		{"f:one", "f:one", "f:two", ""},
		{"f:one", "f:one", "", ""},
		{"f:one", "f:one", "d:c=one", ""},
		{"", "", "f:one", ""},
		{"f:one", "f:two", "f:one", "n modified copy "},
		{"f:one", "f:two", "f:two", "n modified copy "},
		{"f:one", "f:two", "f:six", "n modified copy both-modified"},
		{"f:one", "f:one:600", "f:two", "n modified copy both-modified"},
		{"f:one", "f:two", "", "n modified copy modified-and-dropped"},
		{"f:one", "f:two", "d:c=one", "n modified copy file-and-directory"},
		{"f:one", "", "f:one", "n removed remove "},
		{"f:one", "", "", "n removed  "},
		{"f:one", "", "f:two", "n removed remove removed-and-changed"},
		{"f:one", "", "d:", "n removed remove file-and-directory"},
		{"d:c=one", "", "d:c=one", "n removed remove "},
		{"d:c=one", "", "d:c=two", "n removed remove removed-and-changed"},
		{"d:c=one,e=two", "", "d:c=one", "n removed remove removed-and-changed"},
		{"d:c=one", "d:", "d:c=one", "n/c removed remove "},
		{"", "f:one", "", "n added copy "},
		{"", "f:one", "f:one", "n added copy "},
		{"", "f:one", "f:two", "n added copy both-added"},
		{"", "f:one", "d:", "n added copy file-and-directory"},
		{"", "d:c=one", "f:one", "n added mkdir file-and-directory; n/c added copy "},
		{"", "d:c=one", "d:c=two", "n added mkdir ; n/c added copy both-added"},
		{"d:", "d:c=one", "", "n parent mkdir ; n/c added copy "},
		{"d:", "d:c=one", "l:x", "n parent mkdir file-and-directory; n/c added copy "},
		{"d:c=one", "d:c=two", "f:one", "n parent mkdir file-and-directory; n/c modified copy modified-and-dropped"},
		{"f:one", "d:c=one", "f:two", "n modified mkdir file-and-directory; n/c added copy "},
		{"d:c=one", "", "f:one", "n removed remove file-and-directory"},
		{"", "closed", "d:", "n added mkdir both-added"},
		{"", "closed", "closed", "n added mkdir "},
		{"d:", "closed", "d:", "n modified mkdir "},
		{"l:x", "l:y", "l:z", "n modified copy both-modified"},
		{"f:one", "p", "f:two", "n ignored  "},
		{"", "p", "", "n ignored  "},
	} {
		root := t.TempDir()
		for d, s := range map[string]shape{"base": c.base, "current": c.current, "merged": c.next} {
			testutil.Must(t, os.Mkdir(filepath.Join(root, d), 0o755))
			build(t, filepath.Join(root, d), "n", s)
		}
		var got []string
		for _, ch := range mergeReal(t, root) {
			got = append(got, fmt.Sprintf("%s %s %s %s", ch.Path, ch.Kind, ch.Op, ch.Conflict))
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("%q × %q × %q:\n got %s\nwant %s", c.base, c.current, c.next, s, c.want)
		}
	}
}

// TestAttributes: owner, mode with set-id bits, times and extended attributes of
// a local file travel; so do a directory's.
func TestAttributes(t *testing.T) {
	t.Parallel()
	testutil.Root(t, "changing owners needs root")
	root := t.TempDir()
	for _, d := range []string{"base", "current", "merged"} {
		testutil.Must(t, os.MkdirAll(filepath.Join(root, d, "dir"), 0o755))
	}
	f := filepath.Join(root, "current", "dir", "f")
	testutil.Must(t, os.WriteFile(f, []byte("x"), 0o600))
	testutil.Must(t, os.Chown(f, 12, 34))
	testutil.Must(t, os.Chmod(f, 0o640|os.ModeSetuid))
	testutil.Must(t, os.Chown(filepath.Join(root, "current", "dir"), 5, 6))
	testutil.Must(t, os.Chmod(filepath.Join(root, "current", "dir"), 0o700))
	cur := testutil.OpenDir(t, filepath.Join(root, "current"))
	if err := cur.SetXattr("dir/f", "user.k", []byte("v")); errors.Is(err, syscall.ENOTSUP) {
		t.Skip("no extended attributes on this filesystem")
	} else if err != nil {
		t.Fatal(err)
	}
	merged := testutil.OpenDir(t, filepath.Join(root, "merged"))
	testutil.Must(t, merged.SetXattr("dir", "user.stale", []byte("v")))
	mergeReal(t, root)
	for _, name := range []string{"dir", "dir/f"} {
		want, err := cur.Lstat(name)
		testutil.Must(t, err)
		got, err := merged.Lstat(name)
		testutil.Must(t, err)
		if got.Mode != want.Mode || got.UID != want.UID || got.GID != want.GID {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		wx, _ := cur.Xattrs(name)
		gx, _ := merged.Xattrs(name)
		if d := cmp.Diff(wx, gx); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	a, _ := cur.Lstat("dir/f")
	b, _ := merged.Lstat("dir/f")
	if !a.Mtime.Equal(b.Mtime) {
		t.Errorf("mtime %v, want %v", b.Mtime, a.Mtime)
	}
}

func TestVanished(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, d := range []string{"base", "current", "merged"} {
		testutil.Must(t, os.Mkdir(filepath.Join(root, d), 0o755))
	}
	build(t, filepath.Join(root, "current"), "d", "d:c=one")
	build(t, filepath.Join(root, "current"), "f", "f:one")
	cur, merged := testutil.OpenDir(t, filepath.Join(root, "current")), testutil.OpenDir(t, filepath.Join(root, "merged"))
	changes, err := Compare(context.Background(), testutil.OpenDir(t, filepath.Join(root, "base")), cur, merged)
	testutil.Must(t, err)
	testutil.Must(t, os.RemoveAll(filepath.Join(root, "current", "d")))
	vanished, err := Apply(context.Background(), cur, merged, changes)
	testutil.Must(t, err)
	if d := cmp.Diff([]string{"d", "d/c"}, vanished); d != "" {
		t.Fatal(d)
	}
	if d := cmp.Diff(map[string]string{"f": "-rw-r--r-- one"}, listing(t, filepath.Join(root, "merged"))); d != "" {
		t.Fatal(d)
	}
}

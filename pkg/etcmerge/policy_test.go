// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
)

// mergeInto applies a policy to root/base, current and merged, which holds the new defaults.
func mergeInto(t *testing.T, pol Policy, root string) []Change {
	t.Helper()
	base, current, merged := openTree(t, root, "base"), openTree(t, root, "current"), openTree(t, root, "merged")
	defer base.Close()
	defer current.Close()
	defer merged.Close()
	changes, err := pol.Compare(context.Background(), base, current, merged)
	testutil.Must(t, err)
	vanished, err := Apply(context.Background(), current, merged, changes)
	testutil.Must(t, err)
	if len(vanished) > 0 {
		t.Fatalf("vanished: %q", vanished)
	}
	return changes
}

// openTree opens a directory for who closes it soon: a property is tried thousands of
// times, and more often while a failure is made smaller.
func openTree(t *testing.T, root, name string) *fsx.Dir {
	t.Helper()
	d, err := fsx.OpenDir(filepath.Join(root, name))
	testutil.Must(t, err)
	return d
}

// checkKept fails unless everything that was written locally is in the merged
// tree, where the plan says, and every new default that collides is where the
// plan says.
func checkKept(t interface{ Errorf(string, ...any) }, changes []Change, base, current, next, merged map[string]string) {
	at, replaced := map[string]string{}, map[string]string{}
	gaveWay := map[string]bool{} // saved defaults, like the old or the new one but for attributes
	for _, c := range changes {
		if c.Replaced {
			for p := range current {
				if p == c.Path || strings.HasPrefix(p, c.Path+"/") {
					replaced[p] = c.Path
				}
			}
		}
		if at[c.Path] = c.Path; c.Dest != "" {
			at[c.Path] = c.Dest
		}
		if c.Saved != "" && merged[c.Saved] != next[c.Path] {
			t.Errorf("%s: new default %q saved as %q", c.Path, next[c.Path], merged[c.Saved])
		}
		if there := current[c.Saved]; sameButAttributes(there, base[c.Path]) || sameButAttributes(there, next[c.Path]) {
			gaveWay[c.Saved] = true
		}
		if c.Replaced && c.Conflict != NoConflict && merged[c.Path] != next[c.Path] {
			t.Errorf("%s: %q instead of the new default %q", c.Path, merged[c.Path], next[c.Path])
		}
	}
	for p, local := range current {
		if gaveWay[p] {
			continue
		}
		if at[p] == "" {
			at[p] = p
		}
		counts := strings.HasPrefix(local, "-") || replaced[p] == "" // a file, a link
		if counts && !sameButAttributes(local, base[p]) && merged[at[p]] != local {
			t.Errorf("%s: local %q is lost (base %q, next %q, merged at %q: %q)", p, local, base[p], next[p], at[p], merged[at[p]])
		}
	}
}

func policies() map[string]Policy {
	return map[string]Policy{
		"local":       {},
		"save":        {SaveNew: true},
		"replace":     {Replace: []string{"."}},
		"replace-one": {SaveNew: true, Replace: []string{"/n", "n0007/"}},
	}
}

// Under every policy, nothing that was written locally is lost, and what the
// plan says about the new defaults is true.
func TestPoliciesEveryCombination(t *testing.T) {
	t.Parallel()
	for policyName, pol := range policies() {
		t.Run(policyName, func(t *testing.T) {
			t.Parallel()
			root := emptyTrees(t)
			n := 0
			for _, b := range shapes() {
				for _, c := range shapes() {
					for _, x := range shapes() {
						name := fmt.Sprintf("n%04d", n)
						n++
						build(t, filepath.Join(root, "base"), name, b)
						build(t, filepath.Join(root, "current"), name, c)
						build(t, filepath.Join(root, "merged"), name, x)
					}
				}
			}
			lists := func(d string) map[string]string { return listing(t, filepath.Join(root, d)) }
			base, current, next := lists("base"), lists("current"), lists("merged")
			changes := mergeInto(t, pol, root)
			checkKept(t, changes, base, current, next, lists("merged"))
			if left := len(Conflicts(changes)); (left == 0) != (policyName == "replace") {
				t.Errorf("%d conflicts are left", left)
			}
		})
	}
}

func emptyTrees(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, d := range []string{"base", "current", "merged"} {
		testutil.Must(t, os.Mkdir(filepath.Join(root, d), 0o755))
	}
	return root
}

// sameButAttributes compares two lines of listingWithAttributes, or of listing.
func sameButAttributes(a, b string) bool {
	a, _, _ = strings.Cut(a, " attr:")
	b, _, _ = strings.Cut(b, " attr:")
	return a == b
}

// listingWithAttributes adds owners and an extended attribute to listing.
func listingWithAttributes(t *testing.T, root string) map[string]string {
	t.Helper()
	dir := openTree(t, root, "")
	defer dir.Close()
	out := listing(t, root)
	for p := range out {
		st, err := dir.Lstat(p)
		testutil.Must(t, err)
		list, err := dir.Xattrs(p)
		testutil.Must(t, err)
		out[p] += fmt.Sprintf(" %d:%d attr:", st.UID, st.GID)
		for _, x := range list {
			out[p] += fmt.Sprintf(" %s=%s", x.Name, x.Value)
		}
	}
	return out
}

// drawn is what may stand in a tree: all that the merge tells apart.
type drawn struct {
	Kind, Text string
	Mode       os.FileMode
	Owner      int
	Attr       bool
}

func drawOne(r *rapid.T, label string) drawn {
	return drawn{
		Kind:  rapid.SampledFrom([]string{"", "file", "file", "link", "dir", "dir"}).Draw(r, label),
		Text:  rapid.SampledFrom([]string{"1", "2", "3"}).Draw(r, label+" text"),
		Mode:  rapid.SampledFrom([]os.FileMode{0o644, 0o644, 0o600, 0o755 | os.ModeSetuid}).Draw(r, label+" mode"),
		Owner: rapid.SampledFrom([]int{0, 0, 7}).Draw(r, label+" owner"),
		Attr:  rapid.Bool().Draw(r, label+" attribute"),
	}
}

func (x drawn) make(t *testing.T, dir, name string, root bool) {
	t.Helper()
	p := filepath.Join(dir, name)
	switch x.Kind {
	case "":
		return
	case "link":
		testutil.Must(t, os.Symlink(x.Text, p))
	case "dir":
		testutil.Must(t, os.Mkdir(p, 0o755))
		testutil.Must(t, os.Chmod(p, x.Mode|0o111))
	case "file":
		testutil.Must(t, os.WriteFile(p, []byte(x.Text), 0o600))
	}
	if !root {
		return
	}
	testutil.Must(t, os.Lchown(p, x.Owner, x.Owner))
	if x.Kind == "file" {
		testutil.Must(t, os.Chmod(p, x.Mode)) // a change of owner takes set-id bits away
	}
	if x.Attr {
		d := openTree(t, dir, "")
		defer d.Close()
		testutil.Must(t, d.SetXattr(name, "trusted.merge", []byte(filepath.Base(dir))))
	}
}

// Deeper trees than the table has, by chance, with all kinds, modes, owners and
// attributes.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	names := []string{"a", "a.rpmnew", "a.rpmsave", "b", "b/c", "b/c/d", "b/c.rpmnew", "b.rpmsave", "b.rpmsave/c"}
	gen := rapid.Custom(func(r *rapid.T) map[string]drawn {
		tree := map[string]drawn{}
		for _, n := range names {
			if parent := filepath.Dir(n); parent == "." || tree[parent].Kind == "dir" {
				tree[n] = drawOne(r, n)
			}
		}
		return tree
	})
	for part := range 5 {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			nothingIsLost(t, names, gen)
		})
	}
}

func nothingIsLost(t *testing.T, names []string, gen *rapid.Generator[map[string]drawn]) {
	rapid.Check(t, func(r *rapid.T) {
		root, err := os.MkdirTemp(t.TempDir(), "")
		testutil.Must(t, err)
		trees := map[string]map[string]drawn{"base": gen.Draw(r, "base")}
		for _, d := range []string{"current", "merged"} {
			trees[d] = gen.Draw(r, d)
			// Most names of a real /etc are equal everywhere.
			for _, n := range names {
				if parent := filepath.Dir(n); rapid.Bool().Draw(r, "as in base") && (parent == "." || trees[d][parent].Kind == "dir") {
					trees[d][n] = trees["base"][n]
				}
			}
		}
		for d, tree := range trees {
			testutil.Must(t, os.Mkdir(filepath.Join(root, d), 0o755))
			for _, n := range names {
				if parent := filepath.Dir(n); parent != "." && tree[parent].Kind != "dir" {
					delete(tree, n)
				} else {
					tree[n].make(t, filepath.Join(root, d), n, os.Geteuid() == 0)
				}
			}
		}
		var pol Policy
		pol.SaveNew = rapid.Bool().Draw(r, "save")
		pol.Replace = rapid.SliceOfN(rapid.SampledFrom(names), 0, 2).Draw(r, "replace")
		lists := func(d string) map[string]string { return listingWithAttributes(t, filepath.Join(root, d)) }
		base, current, next := lists("base"), lists("current"), lists("merged")
		changes := mergeInto(t, pol, root)
		checkKept(r, changes, base, current, next, lists("merged"))
	})
}

// A saved default gives way to a newer one, but not if somebody edited it.
func TestSavedDefaultOverTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit string // of f.rpmnew after the first merge; "-" removes it
		want map[string]string
	}{
		"untouched": {"", map[string]string{"f": "-rw-r--r-- mine", "f.rpmnew": "-rw-r--r-- v3"}},
		"removed":   {"-", map[string]string{"f": "-rw-r--r-- mine", "f.rpmnew": "-rw-r--r-- v3"}},
		"edited":    {"notes", map[string]string{"f": "-rw-r--r-- mine", "f.rpmnew": "-rw-r--r-- notes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := emptyTrees(t)
			write(t, filepath.Join(first, "base/f"), "v1", "")
			write(t, filepath.Join(first, "current/f"), "mine", "")
			write(t, filepath.Join(first, "merged/f"), "v2", "")
			mergeInto(t, Policy{SaveNew: true}, first)
			second := emptyTrees(t)
			testutil.Must(t, os.Remove(filepath.Join(second, "current")))
			testutil.Must(t, os.Rename(filepath.Join(first, "merged"), filepath.Join(second, "current")))
			write(t, filepath.Join(second, "base/f"), "v2", "")
			write(t, filepath.Join(second, "merged/f"), "v3", "")
			switch saved := filepath.Join(second, "current/f.rpmnew"); c.edit {
			case "":
			case "-":
				testutil.Must(t, os.Remove(saved))
			default:
				write(t, saved, c.edit, "")
			}
			mergeInto(t, Policy{SaveNew: true}, second)
			if d := cmp.Diff(c.want, listing(t, filepath.Join(second, "merged"))); d != "" {
				t.Error(d)
			}
		})
	}
}

// A file that vanishes before its default was moved aside leaves the default where it was.
func TestVanishedWithSavedDefault(t *testing.T) {
	t.Parallel()
	root := emptyTrees(t)
	write(t, filepath.Join(root, "base/f"), "v1", "")
	write(t, filepath.Join(root, "current/f"), "mine", "")
	write(t, filepath.Join(root, "merged/f"), "v2", "")
	cur, merged := testutil.OpenDir(t, filepath.Join(root, "current")), testutil.OpenDir(t, filepath.Join(root, "merged"))
	changes, err := Policy{SaveNew: true}.Compare(context.Background(), testutil.OpenDir(t, filepath.Join(root, "base")), cur, merged)
	testutil.Must(t, err)
	testutil.Must(t, os.Remove(filepath.Join(root, "current/f")))
	vanished, err := Apply(context.Background(), cur, merged, changes)
	testutil.Must(t, err)
	if len(vanished) != 1 {
		t.Errorf("vanished: %q", vanished)
	}
	if d := cmp.Diff(map[string]string{"f": "-rw-r--r-- v2"}, listing(t, filepath.Join(root, "merged"))); d != "" {
		t.Error(d)
	}
}

// BenchmarkMerge compares and merges an /etc of 5,000 files, 100 of them edited.
func BenchmarkMerge(b *testing.B) {
	root := b.TempDir()
	for _, d := range []string{"base", "current", "next"} {
		for i := range 5000 {
			dir := filepath.Join(root, d, fmt.Sprintf("dir%02d", i%100))
			testutil.Must(b, os.MkdirAll(dir, 0o755))
			text := strings.Repeat(fmt.Sprintf("line %d\n", i), 200)
			if d == "current" && i%50 == 0 || d == "next" && i%70 == 0 {
				text += d
			}
			testutil.Must(b, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%04d", i)), []byte(text), 0o644))
		}
	}
	base, current, next := testutil.OpenDir(b, root+"/base"), testutil.OpenDir(b, root+"/current"), testutil.OpenDir(b, root+"/next")
	var used time.Duration
	for b.Loop() {
		start := testutil.CPUTime(b)
		changes, err := Policy{SaveNew: true}.Compare(context.Background(), base, current, next)
		testutil.Must(b, err)
		used += testutil.CPUTime(b) - start
		b.StopTimer()
		merged := filepath.Join(root, "merged")
		testutil.Must(b, os.RemoveAll(merged))
		testutil.Must(b, os.Mkdir(merged, 0o755))
		to := testutil.OpenDir(b, merged)
		testutil.Must(b, CopyTree(context.Background(), next, to))
		b.StartTimer()
		start = testutil.CPUTime(b)
		_, err = Apply(context.Background(), current, to, changes)
		testutil.Must(b, err)
		used += testutil.CPUTime(b) - start
	}
	b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
}

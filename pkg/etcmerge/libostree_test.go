// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

func ostree(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command("ostree", args...).CombinedOutput()
	return string(out), err
}

func needOstree(t *testing.T) {
	t.Helper()
	const why = "a bare repository needs root"
	if os.Geteuid() != 0 && os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	testutil.Root(t, why)
	testutil.Tool(t, "ostree")
}

type sysroot struct{ root string }

// newSysroot makes a sysroot with one deployment whose usr/etc is filled by base.
func newSysroot(t *testing.T, base func(etc string)) sysroot {
	t.Helper()
	s := sysroot{t.TempDir()}
	s.run(t, "admin", "init-fs", s.root)
	s.run(t, "admin", "os-init", "--sysroot="+s.root, "os")
	s.run(t, "config", "--repo="+s.root+"/ostree/repo", "set", "sysroot.bootloader", "none")
	t.Cleanup(func() { _, _ = ostree(t, "admin", "undeploy", "--sysroot="+s.root, "0"); s.mutable() })
	out, err := s.deploy(t, "1", base)
	if err != nil {
		t.Fatal(out)
	}
	return s
}

func (s sysroot) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := ostree(t, args...); err != nil {
		t.Fatalf("ostree %q: %v\n%s", args, err, out)
	}
}

// mutable lets the temporary directory be removed.
func (s sysroot) mutable() {
	dirs, _ := filepath.Glob(s.root + "/ostree/deploy/os/deploy/*.?")
	for _, d := range dirs {
		_ = exec.Command("chattr", "-i", d).Run()
	}
}

func (s sysroot) deploy(t *testing.T, version string, etc func(string)) (string, error) {
	t.Helper()
	tree := t.TempDir()
	mods := filepath.Join(tree, "usr/lib/modules/1")
	testutil.Must(t, os.MkdirAll(mods, 0o755))
	testutil.Must(t, os.MkdirAll(filepath.Join(tree, "usr/etc"), 0o755))
	testutil.Must(t, os.WriteFile(filepath.Join(mods, "vmlinuz"), []byte("kernel"+version), 0o644))
	testutil.Must(t, os.WriteFile(filepath.Join(mods, "initramfs.img"), []byte("initramfs"), 0o644))
	testutil.Must(t, os.WriteFile(filepath.Join(tree, "usr/etc/os-release"), []byte("NAME=x\nPRETTY_NAME=x\n"), 0o644))
	etc(filepath.Join(tree, "usr/etc"))
	out, err := ostree(t, "commit", "--repo="+s.root+"/ostree/repo", "-b", "b", "--fsync=false", "--tree=dir="+tree,
		"--add-metadata-string=version="+version)
	if err != nil {
		t.Fatal(out)
	}
	return ostree(t, "admin", "deploy", "--sysroot="+s.root, "--os=os", strings.TrimSpace(out))
}

// deployments gives the deployment directory of each version.
func (s sysroot) deployment(t *testing.T, version string) string {
	t.Helper()
	dirs, _ := filepath.Glob(s.root + "/ostree/deploy/os/deploy/*.0")
	for _, d := range dirs {
		data, err := os.ReadFile(d + "/usr/lib/modules/1/vmlinuz")
		testutil.Must(t, err)
		if string(data) == "kernel"+version {
			return d
		}
	}
	t.Fatalf("no deployment of version %s", version)
	return ""
}

type combo struct {
	name    string
	b, c, n shape
}

// planOf plans one combination without touching the disk.
func planOf(c combo) []Change {
	return Plan(snapshotOf(c.name, c.b), snapshotOf(c.name, c.c), snapshotOf(c.name, c.n))
}

func snapshotOf(name string, s shape) Snapshot {
	file := func(text, mode string) Node {
		n := Node{Kind: File, Mode: 0o644, Size: int64(len(text)), Digest: sha256.Sum256([]byte(text)), HasDigest: true}
		if mode == "600" {
			n.Mode = 0o600
		}
		return n
	}
	out := Snapshot{}
	kind, arg, _ := strings.Cut(string(s), ":")
	switch kind {
	case "f":
		text, mode, _ := strings.Cut(arg, ":")
		out[name] = file(text, mode)
	case "l":
		out[name] = Node{Kind: Link, Target: arg}
	case "d":
		out[name] = Node{Kind: Dir, Mode: 0o755}
		for child := range strings.SplitSeq(arg, ",") {
			if sub, text, ok := strings.Cut(child, "="); ok {
				out[name+"/"+sub] = file(text, "")
			}
		}
	}
	return out
}

// aborts tells whether libostree refuses the merge: a local file or link where
// the new defaults have a directory, even if they always had, or the reverse
// above a local change, even where that is a removal, which needs no work.
func aborts(changes []Change, c combo) bool {
	nextDir := strings.HasPrefix(string(c.n), "d")
	for _, ch := range changes {
		switch {
		case ch.Path == c.name && ch.Op == OpCopy && nextDir:
			return true
		case ch.Path == c.name && ch.Kind == Parent && c.n != "":
			return true
		case ch.Path != c.name && ch.Kind == Removed && c.n != "" && !nextDir:
			return true
		}
	}
	return false
}

// loses tells where libostree drops local files: a name that was a file or link,
// is a directory now and is one in the new defaults too. It takes the children
// for handled, but never lists them.
func loses(c combo) bool {
	return c.b != "" && c.b[0] != 'd' && strings.HasPrefix(string(c.c), "d") && strings.HasPrefix(string(c.n), "d")
}

// TestAgainstLibostree lets `ostree admin deploy` merge every combination of
// shapes that it accepts, in one deployment, and compares the resulting /etc and
// the counts with ours.
func TestAgainstLibostree(t *testing.T) {
	t.Parallel()
	needOstree(t)
	var accepted, refused []combo
	for _, b := range shapes() {
		for _, c := range shapes() {
			for _, n := range shapes() {
				x := combo{fmt.Sprintf("n%04d", len(accepted)+len(refused)), b, c, n}
				switch {
				case aborts(planOf(x), x):
					refused = append(refused, x)
				case !loses(x):
					accepted = append(accepted, x)
				}
			}
		}
	}
	if len(refused) < 100 || len(accepted) < 1000 {
		t.Fatalf("%d accepted, %d refused", len(accepted), len(refused))
	}
	s := newSysroot(t, func(etc string) {
		for _, c := range accepted {
			build(t, etc, c.name, c.b)
		}
	})
	old := s.deployment(t, "1")
	for _, c := range accepted {
		testutil.Must(t, os.RemoveAll(filepath.Join(old, "etc", c.name)))
		build(t, filepath.Join(old, "etc"), c.name, c.c)
	}
	out, err := s.deploy(t, "2", func(etc string) {
		for _, c := range accepted {
			build(t, etc, c.name, c.n)
		}
	})
	if err != nil {
		t.Fatal(out)
	}
	now := s.deployment(t, "2")
	merged := t.TempDir()
	if out, err := exec.Command("cp", "-a", now+"/usr/etc/.", merged).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cur := testutil.OpenDir(t, old+"/etc")
	changes, err := Compare(t.Context(), testutil.OpenDir(t, old+"/usr/etc"), cur, testutil.OpenDir(t, merged))
	testutil.Must(t, err)
	_, err = Apply(t.Context(), cur, testutil.OpenDir(t, merged), changes)
	testutil.Must(t, err)
	if d := cmp.Diff(listing(t, now+"/etc"), listing(t, merged)); d != "" {
		t.Fatal(d)
	}
	// libostree does not list what is below a file that became a directory.
	n := Count(changes)
	for _, c := range changes {
		if dir := filepath.Dir(c.Path); c.Kind == Added && dir != "." && isFile(old+"/usr/etc/"+dir) {
			n.Added--
		}
	}
	want := fmt.Sprintf("Copying /etc changes: %d modified, %d removed, %d added", n.Modified, n.Removed, n.Added)
	if !strings.Contains(out, want) {
		t.Errorf("want %q in\n%s", want, out)
	}
}

func isFile(p string) bool {
	st, err := os.Lstat(p)
	return err == nil && !st.IsDir()
}

// TestLibostreeAborts pins the clashes where we go on and libostree does not, so
// that TestAgainstLibostree leaves out nothing else.
func TestLibostreeAborts(t *testing.T) {
	t.Parallel()
	needOstree(t)
	for _, c := range []combo{
		{"n", "f:one", "f:two", "d:c=one"},
		{"n", "", "f:one", "d:"},
		{"n", "", "l:x", "d:c=one"},
		{"n", "d:", "d:c=one", "f:one"},
		{"n", "d:c=one", "d:", "f:one"},
		{"n", "d:c=one", "f:one", "d:c=one"},
	} {
		if !aborts(planOf(c), c) {
			t.Errorf("%+v: no clash in our plan", c)
		}
		s := newSysroot(t, func(etc string) { build(t, etc, c.name, c.b) })
		old := s.deployment(t, "1")
		testutil.Must(t, os.RemoveAll(filepath.Join(old, "etc", c.name)))
		build(t, filepath.Join(old, "etc"), c.name, c.c)
		if out, err := s.deploy(t, "2", func(etc string) { build(t, etc, c.name, c.n) }); err == nil {
			t.Errorf("%+v: libostree merged it\n%s", c, out)
		}
		s.mutable()
	}
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
)

// drawTree lays out a random tree below root.
func drawTree(rt *rapid.T, root string, depth int) error {
	d, err := fsx.OpenDir(root)
	if err != nil {
		return err
	}
	defer d.Close()
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zA-Z.☃ -][a-z.é]{0,6}x`), 0, 6, rapid.ID).Draw(rt, "names")
	for _, name := range names {
		switch rapid.IntRange(0, 6).Draw(rt, "kind") {
		case 0:
			err = d.Symlink(rapid.StringMatching(`[a-z/.]{1,20}`).Draw(rt, "target"), name)
		case 1, 2:
			if depth == 0 {
				continue
			}
			if err = d.Mkdir(name, 0o755); err == nil {
				err = drawTree(rt, filepath.Join(root, name), depth-1)
			}
		default:
			size := rapid.SampledFrom([]int{0, 1, 4095, 4096, 70000}).Draw(rt, "size")
			data := []byte(strings.Repeat(rapid.StringN(1, 3, 9).Draw(rt, "data"), size))
			err = d.WriteFile(name, data[:size], 0o600)
		}
		if err == nil {
			err = decorate(rt, d, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// decorate draws permissions, owner and an attribute.
func decorate(rt *rapid.T, d *fsx.Dir, name string) error {
	st, err := d.Lstat(name)
	if err != nil {
		return err
	}
	uid, gid := rapid.IntRange(0, 3).Draw(rt, "uid"), rapid.IntRange(0, 3).Draw(rt, "gid")
	err = d.Lchown(name, uid, gid)
	if st.IsSymlink() || err != nil {
		return err
	}
	if rapid.Bool().Draw(rt, "attribute") {
		err = d.SetXattr(name, "user.x", []byte(rapid.StringN(0, 4, 9).Draw(rt, "value")))
	}
	return errors.Join(err, d.Chmod(name, uint32(rapid.SampledFrom([]int{0o644, 0o755, 0o600, 0o4755, 0o2711, 0o400, 0o1777}).Draw(rt, "mode"))))
}

// TestCheckoutRoundTrip commits random trees and checks them out in every mode:
// what comes back is the same, and commits to the same tree again.
func TestCheckoutRoundTrip(t *testing.T) {
	t.Parallel()
	needRoot(t)
	rapid.Check(t, func(rt *rapid.T) {
		tmp, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		src := filepath.Join(tmp, "src")
		if err := errors.Join(os.Mkdir(src, 0o755), drawTree(rt, src, 3)); err != nil {
			rt.Fatal(err)
		}
		mode := rapid.SampledFrom(allModes).Draw(rt, "mode of the repository")
		thereAndBack(rt, t, mode, src, filepath.Join(tmp, mode.String()))
		if err := os.RemoveAll(tmp); err != nil {
			rt.Fatal(err)
		}
	})
}

func thereAndBack(rt *rapid.T, t *testing.T, mode Mode, src, at string) {
	if err := os.Mkdir(at, 0o755); err != nil {
		rt.Fatal(err)
	}
	d, err := fsx.OpenDir(at)
	if err != nil {
		rt.Fatal(err)
	}
	defer d.Close()
	r, err := Create(d, mode, Options{DisableFsync: true})
	if err != nil {
		rt.Fatal(err)
	}
	defer r.Close()
	want := commitTree(rt, r, src)
	o := CheckoutOptions{ForceCopy: rapid.Bool().Draw(rt, "copy"), Workers: rapid.IntRange(1, 4).Draw(rt, "workers")}
	if err := r.Checkout(t.Context(), want, d, "out", o); err != nil {
		rt.Fatal(err)
	}
	out := filepath.Join(at, "out")
	if got := commitTree(rt, r, out); got != want {
		rt.Errorf("%s: the checkout commits to %s instead of %s", mode, got, want)
	}
	if mode == ModeBareUserOnly {
		return
	}
	if diff := cmp.Diff(plain(layout(t, src)), plain(layout(t, out))); diff != "" {
		rt.Errorf("%s: the checkout differs from the tree (-tree +checkout):\n%s", mode, diff)
	}
}

var (
	placement = regexp.MustCompile(` (linked|epoch)=(true|false)`)
	emptyAttr = regexp.MustCompile(` user\.[a-z]+=""`) // not recorded
)

// plain drops what is no part of the tree.
func plain(lines []string) []string {
	for i, l := range lines {
		lines[i] = emptyAttr.ReplaceAllString(placement.ReplaceAllString(l, ""), "")
	}
	return lines
}

// commitTree commits a directory with fixed metadata.
func commitTree(rt *rapid.T, r *Repo, dir string) (c Checksum) {
	d, err := fsx.OpenDir(dir)
	if err != nil {
		rt.Fatal(err)
	}
	defer d.Close()
	_, err = r.Update(context.Background(), func(ctx context.Context, tx *Txn) error {
		m := NewMTree()
		if err := tx.WriteDir(ctx, d, m, CommitOptions{}); err != nil {
			return err
		}
		var commit Commit
		var err error
		if commit.RootTree, commit.RootMeta, err = tx.WriteTree(ctx, m); err != nil {
			return err
		}
		c, err = tx.WriteCommit(ctx, commit)
		return err
	})
	if err != nil {
		rt.Fatal(err)
	}
	return c
}

const killedEnv = "HOSTCTL_TEST_CHECKOUT_AND_DIE"

// A process that is killed in the middle of a checkout leaves complete files only,
// under their own names, and directories that others cannot enter.
func TestCheckoutKilled(t *testing.T) {
	t.Parallel()
	if at := os.Getenv(killedEnv); at != "" {
		checkOutForever(t, at)
		return
	}
	for _, mode := range []Mode{ModeBareUser, ModeArchive} {
		tmp := t.TempDir()
		r := createRepo(t, filepath.Join(tmp, "repo"), mode)
		files := map[string]string{}
		for i := range 400 {
			files[fmt.Sprintf("d%d/f%d", i%7, i)] = strings.Repeat(fmt.Sprint(i), 20000)
		}
		commitFiles(t, r, "b", Checksum{}, files)
		cmd := exec.Command(os.Args[0], "-test.run=^TestCheckoutKilled$")
		cmd.Env = append(os.Environ(), killedEnv+"="+tmp)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			time.Sleep(5 * time.Millisecond)
			if found, _ := filepath.Glob(filepath.Join(tmp, "out/d*/f*")); len(found) > 20 {
				break
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		checkTorso(t, tmp, files)
	}
}

func checkOutForever(t *testing.T, at string) {
	r, err := Open(testutil.OpenDir(t, filepath.Join(at, "repo")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.ReadRef("b")
	if err != nil {
		t.Fatal(err)
	}
	// Slow enough to be caught in the middle.
	slow := func(string) bool { time.Sleep(time.Millisecond); return true }
	_ = r.Checkout(t.Context(), c, testutil.OpenDir(t, at), "out", CheckoutOptions{UserMode: true, Filter: slow})
	select {}
}

func checkTorso(t *testing.T, tmp string, files map[string]string) {
	t.Helper()
	seen := 0
	out := filepath.Join(tmp, "out")
	err := filepath.WalkDir(out, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		seen++
		rel, _ := filepath.Rel(out, p)
		data, err := os.ReadFile(p)
		if want, ok := files[rel]; !ok || string(data) != want {
			t.Errorf("%s: of %d bytes, wanted %v", rel, len(data), ok)
		}
		return err
	})
	if err != nil || seen == 0 || seen == len(files) {
		t.Fatalf("killed with %d of %d files: %v", seen, len(files), err)
	}
	if st, err := os.Stat(out); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("unfinished directory: %v, %v", st.Mode(), err)
	}
}

func TestCheckoutLabels(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := newTestRepo(t, ModeBare)
	c := commitDir(t, r, makeTree(t), "b", CommitOptions{})
	for _, v := range []struct {
		o    CheckoutOptions
		name string
		want string
	}{
		{CheckoutOptions{}, "usr/bin/tool", "/usr/bin/tool"}, {CheckoutOptions{}, ".", "/"}, {CheckoutOptions{}, "usr/lib/link", "/usr/lib/link"}, {CheckoutOptions{}, "usr/share", "/usr/share"},
		{CheckoutOptions{Subpath: "/usr"}, "bin/tool", "/usr/bin/tool"}, {CheckoutOptions{Subpath: "/usr", LabelPrefix: "/x"}, "lib/link", "/x/lib/link"},
	} {
		out := t.TempDir()
		v.o.Label = func(p string, mode uint32) (string, error) { return "l:" + p, nil }
		if err := r.Checkout(t.Context(), c, testutil.OpenDir(t, out), "t", v.o); err != nil {
			t.Fatal(err)
		}
		got, err := testutil.OpenDir(t, filepath.Join(out, "t")).Xattrs(v.name)
		i := slices.IndexFunc(got, func(x fsx.Xattr) bool { return x.Name == selinuxXattr })
		if err != nil || i < 0 || string(got[i].Value) != "l:"+v.want+"\x00" {
			t.Errorf("%+v %s: %q, %v", v.o.Subpath, v.name, got, err)
		}
		if st, err := os.Stat(filepath.Join(out, "t", "usr/bin/tool")); err == nil && st.Sys().(*syscall.Stat_t).Nlink > 1 {
			t.Error("a file with a label of its own is linked")
		}
	}
}

// A tree can be small and yet unpack to more than any disk holds.
func TestCheckoutBomb(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	var c Checksum
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		meta, err := DirMeta{Mode: syscall.S_IFDIR | 0o755}.Marshal()
		if err != nil {
			return err
		}
		m, err := tx.WriteMetadata(ctx, TypeDirMeta, meta)
		if err != nil {
			return err
		}
		tree := DirTree{}
		for range maxTreeDepth + 2 {
			data, err := tree.Marshal()
			if err != nil {
				return err
			}
			sum, err := tx.WriteMetadata(ctx, TypeDirTree, data)
			if err != nil {
				return err
			}
			tree = DirTree{Dirs: []TreeDir{{Name: "a", Tree: sum, Meta: m}}}
			c = sum
		}
		c, err = tx.WriteCommit(ctx, Commit{RootTree: c, RootMeta: m})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Checkout(t.Context(), c, testutil.OpenDir(t, t.TempDir()), "x", CheckoutOptions{UserMode: true}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a tree of %d levels: %v", maxTreeDepth+1, err)
	}
}

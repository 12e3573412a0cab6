// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// kernelViewVersion changes with what the sandbox shows besides the tree, and with how
// the commands are called.
const kernelViewVersion = 1

// kernelHidden are the directories that depmod and dracut find empty: an initramfs has
// nothing of them, and so nothing in them can make another one. They hold what changes
// with every package, the package database and documentation, and with every compose:
// what scriptlets leave in /var.
var kernelHidden = []string{
	"var", "usr/share/rpm", "usr/lib/sysimage", "usr/share/rpm-ostree", "usr/share/doc", "usr/share/man", "usr/share/info",
	"usr/share/help", "usr/share/gtk-doc", "usr/share/licenses", "usr/share/locale", "usr/share/bash-completion", "usr/share/zsh",
	"usr/share/fish", "usr/share/applications", "usr/share/icons", "usr/share/metainfo", "usr/share/mime", "usr/include", "usr/src",
	"usr/lib/debug",
}

// hiddenFromKernel gives those that the tree has. One that links lead to is not hidden:
// it has another name, too.
func hiddenFromKernel(tree *fsx.Dir) ([]string, error) {
	var out []string
	for _, name := range kernelHidden {
		ok, err := realDir(tree, name)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, name)
		}
	}
	return out, nil
}

// kernelScratch is where dracut works, below a hidden directory.
const kernelScratch = "var/tmp"

func realDir(tree *fsx.Dir, name string) (bool, error) {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		st, err := tree.Lstat(name[:i])
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil || !st.IsDir() {
			return false, err
		}
	}
	return true, nil
}

// shownToKernel keeps the version of the commit out of the initramfs, which else would
// change with every commit, and need its place in /boot. A file that something edited
// after that is shown as it is, and so is one that has a second name in /etc.
func (r *runner) shownToKernel() ([]scripts.ShownFile, error) {
	e := r.release
	if e.name == "" || strings.HasPrefix(e.name, "usr/etc/") {
		return nil, nil
	}
	if ok, err := realDir(r.root, path.Dir(e.name)); err != nil || !ok {
		return nil, err
	}
	st, err := r.root.Lstat(e.name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsRegular() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now, err := r.root.ReadFile(e.name, maxText)
	if err != nil || string(now) != e.after {
		return nil, err
	}
	return []scripts.ShownFile{{Name: e.name, Mode: st.Mode & 0o777, Data: []byte(e.before)}}, nil
}

// kernelKey is the same for two runs where their commands are, and everything that
// these can read. Times are not told apart, as they are those of the compose.
func (r *runner) kernelKey(k kernelRun) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "kernel files %d\n%q\n%q\n%q\n", kernelViewVersion, r.o.Sandbox.Env, k.depmod.Args, k.dracut.Args)
	v := &kernelView{sum: h, links: r.o.Links, hidden: k.depmod.Hide, shown: k.depmod.Show}
	// What of the top the sandbox shows: three directories, and links.
	entries, err := r.root.ReadDir(".")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains([]string{"usr", "var", "boot"}, e.Name) {
			continue
		}
		if err := v.entry(r.root, e.Name, e.Name); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// kernelView hashes what the commands can read.
type kernelView struct {
	sum    hash.Hash
	links  *ostree.DevInoCache
	hidden []string
	shown  []scripts.ShownFile
}

func (v *kernelView) dir(d *fsx.Dir, dir string) error {
	entries, err := d.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := v.entry(d, e.Name, path.Join(dir, e.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (v *kernelView) entry(d *fsx.Dir, name, full string) error {
	if slices.Contains(v.hidden, full) {
		fmt.Fprintf(v.sum, "%q hidden\n", full)
		if full == path.Dir(kernelScratch) {
			return v.entry(d, kernelScratch, kernelScratch)
		}
		return nil
	}
	for _, s := range v.shown {
		if s.Name == full {
			fmt.Fprintf(v.sum, "%q shown %o %q\n", full, s.Mode, s.Data)
			return nil
		}
	}
	st, err := d.Lstat(name)
	if err != nil {
		return err
	}
	if st.IsDir() {
		return v.subdir(d, name, full, st)
	}
	if !st.IsRegular() && !st.IsSymlink() {
		fmt.Fprintf(v.sum, "%q special %o %d\n", full, st.Mode, st.Rdev)
		return nil
	}
	c, known := v.links.Lookup(st)
	if !known {
		if c, err = objectOf(d, name, st); err != nil {
			return fmt.Errorf("/%s: %w", full, err)
		}
	}
	fmt.Fprintf(v.sum, "%q %s\n", full, c)
	return nil
}

func (v *kernelView) subdir(d *fsx.Dir, name, full string, st fsx.Stat) error {
	xattrs, err := d.Xattrs(name)
	if err != nil {
		return err
	}
	fmt.Fprintf(v.sum, "%q %o %d:%d %q\n", full, st.Mode, st.UID, st.GID, xattrs)
	sub, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	return v.dir(sub, full)
}

// objectOf gives the object that a file would be: of its content, owner, mode and
// attributes.
func objectOf(d *fsx.Dir, name string, st fsx.Stat) (ostree.Checksum, error) {
	h := ostree.FileHeader{UID: st.UID, GID: st.GID, Mode: st.Mode}
	xattrs, err := d.Xattrs(name)
	if err != nil {
		return ostree.Checksum{}, err
	}
	for _, x := range xattrs {
		h.Xattrs = append(h.Xattrs, ostree.Xattr(x))
	}
	if st.IsSymlink() {
		if h.Target, err = d.Readlink(name); err != nil {
			return ostree.Checksum{}, err
		}
		return ostree.HashContent(h, 0, strings.NewReader(""))
	}
	f, err := d.Open(name)
	if err != nil {
		return ostree.Checksum{}, err
	}
	defer f.Close()
	return ostree.HashContent(h, st.Size, f)
}

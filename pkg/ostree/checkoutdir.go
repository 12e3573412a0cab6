// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

const (
	whiteoutPrefix = ".wh."
	opaqueWhiteout = ".wh..wh..opq"
	overlayPrefix  = ".ostree-wh."
)

// dir makes one directory. Until it is filled only its owner can enter it; then
// come permissions, owner and, as its content no longer changes, the time.
func (c *checkout) dir(ctx context.Context, parent *fsx.Dir, p place, td TreeDir, depth int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	meta, err := c.meta(td.Meta)
	if err != nil {
		return err
	}
	tree, err := c.r.LoadDirTree(td.Tree)
	if err != nil {
		return err
	}
	if left := c.left.Add(-int64(len(tree.Files) + len(tree.Dirs))); left < 0 || depth > maxTreeDepth {
		return fmt.Errorf("%s: %w: tree too deep or too large", clip(p.path), ErrInvalid)
	}
	if c.skip(p.path, true) {
		return nil
	}
	d, fresh, err := c.enter(parent, p, tree)
	if err != nil {
		return err
	}
	defer d.Close()
	if p.top {
		c.root = d
	}
	if fresh && !c.o.UserMode {
		if err := c.dirXattrs(d, p, meta); err != nil {
			return err
		}
	}
	if err := c.children(ctx, d, p, tree, depth); err != nil || !fresh {
		return err
	}
	return c.finishDir(d, meta)
}

func (c *checkout) meta(sum Checksum) (DirMeta, error) {
	if m, ok := c.metas.Load(sum); ok {
		return m.(DirMeta), nil
	}
	m, err := c.r.LoadDirMeta(sum)
	if err == nil {
		c.metas.Store(sum, m)
	}
	return m, err
}

func (c *checkout) skip(p string, dir bool) bool {
	if c.o.Filter == nil {
		return false
	}
	if dir && p != "/" {
		p += "/"
	}
	return !c.o.Filter(p)
}

// enter makes and opens a directory, or opens the one that is there.
func (c *checkout) enter(parent *fsx.Dir, p place, tree DirTree) (d *fsx.Dir, fresh bool, err error) {
	if _, opaque := tree.File(opaqueWhiteout); opaque && c.o.Whiteouts {
		if err := removeTree(parent, p.name); err != nil {
			return nil, false, err
		}
	}
	fresh = true
	if p.name == "." {
		err = fs.ErrExist
	} else {
		err = parent.Mkdir(p.name, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		if c.o.Union == UnionNone {
			return nil, false, worded(ErrExists, "mkdirat: File exists")
		}
		fresh, err = false, nil
	}
	if err != nil {
		return nil, false, worded(err, "mkdirat: %s", errnoText(err))
	}
	d, err = c.open(parent, p)
	if err == nil && c.oneDev {
		if err = c.sameDevice(d); err != nil {
			err = errors.Join(err, d.Close())
		}
	}
	return d, fresh, err
}

// removeTree deletes what has a name; of "." only the content.
func removeTree(d *fsx.Dir, name string) error {
	if name != "." {
		return d.RemoveAll(name)
	}
	entries, err := d.ReadDir(".")
	for _, e := range entries {
		if err == nil {
			err = d.RemoveAll(e.Name)
		}
	}
	return err
}

// open opens a directory of the destination. A link that is there already is
// followed, but no further than the top of the checkout.
func (c *checkout) open(parent *fsx.Dir, p place) (*fsx.Dir, error) {
	d, err := parent.OpenDir(p.name)
	if c.root != nil && (errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)) {
		d, err = c.root.OpenDirInRoot(p.path)
	}
	if err != nil {
		return nil, worded(errors.Join(ErrExists, err), "opendir(%s): %s", p.name, errnoText(err))
	}
	return d, nil
}

func (c *checkout) sameDevice(d *fsx.Dir) error {
	have, err := d.Lstat(".")
	if err != nil {
		return err
	}
	want, err := c.r.dir.Lstat(".")
	if err == nil && have.Dev != want.Dev {
		err = worded(ErrUnsupported, "Unable to do hardlink checkout across devices (src=%d destination=%d)", want.Dev, have.Dev)
	}
	return err
}

func (c *checkout) dirXattrs(d *fsx.Dir, p place, m DirMeta) error {
	xattrs, err := c.relabel(p.path, m.Mode, m.Xattrs)
	for _, x := range xattrs {
		if err == nil {
			err = fsx.FSetXattr(d.File(), x.Name, x.Value)
		}
	}
	return err
}

// relabel gives the attributes to set: with labels asked for, not the recorded one.
func (c *checkout) relabel(p string, mode uint32, xattrs []Xattr) ([]Xattr, error) {
	if c.labels == "" {
		return xattrs, nil
	}
	label, err := c.o.Label(path.Join(c.labels, p), mode)
	if err != nil {
		return nil, fmt.Errorf("label %s: %w", clip(p), err)
	}
	out := slices.DeleteFunc(slices.Clone(xattrs), func(x Xattr) bool { return x.Name == selinuxXattr })
	if label != "" {
		out = append(out, Xattr{Name: selinuxXattr, Value: append([]byte(label), 0)})
	}
	return out, nil
}

// children lays out files, then subdirectories. Copies, which unpack and write, are
// spread over the crew; links of one directory would only wait for each other. What
// whiteouts do depends on the order.
func (c *checkout) children(ctx context.Context, d *fsx.Dir, p place, tree DirTree, depth int) error {
	var wg sync.WaitGroup
	file := func(i int) error {
		f := tree.Files[i]
		sub := p.child(f.Name)
		if c.skip(sub.path, false) {
			return nil
		}
		return c.file(ctx, d, sub, f.Checksum)
	}
	dir := func(i int) error { return c.dir(ctx, d, p.child(tree.Dirs[i].Name), tree.Dirs[i], depth+1) }
	ordered := c.o.Whiteouts || c.o.PassthroughWhiteouts || c.sources[0].link && !c.o.ForceCopy
	c.lay(&wg, len(tree.Files), ordered, file)
	// Two directories of a union may lead, by links, to the same place.
	c.lay(&wg, len(tree.Dirs), c.o.Union != UnionNone, dir)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// lay does a number of things, in their order if need be, and waits for them.
func (c *checkout) lay(wg *sync.WaitGroup, n int, ordered bool, fn func(i int) error) {
	if ordered || n < 2 {
		for i := range n {
			c.crew.note(fn(i))
		}
		return
	}
	c.crew.each(wg, 0, n, fn)
	c.crew.wait(wg)
}

func (c *checkout) finishDir(d *fsx.Dir, m DirMeta) error {
	mode := m.Mode & 0o7777
	if c.o.BareUserOnlyDirs {
		mode &= 0o775
	}
	if err := sys.Fchmod(d.Fd(), mode); err != nil {
		return fmt.Errorf("set mode %o of %s: %w", mode, d.Path(), err)
	}
	if !c.o.UserMode {
		if err := sys.Fchown(d.Fd(), int(m.UID), int(m.GID)); err != nil {
			return fmt.Errorf("set owner %d:%d of %s: %w", m.UID, m.GID, d.Path(), err)
		}
	}
	if c.o.ForceCopy {
		return nil
	}
	return d.Lutimes(".", time.Unix(0, 0))
}

// errnoText gives the words of the C library for an error of the system.
func errnoText(err error) string {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return err.Error()
	}
	text := no.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

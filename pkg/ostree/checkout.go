// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
)

// UnionMode says what Checkout does with what is there already.
type UnionMode uint8

// The union modes. In all but UnionNone directories that are there keep their
// metadata.
const (
	UnionNone      UnionMode = iota // anything there is an error
	UnionOverwrite                  // replace files, each by a rename
	UnionAddFiles                   // keep files that are there
	UnionIdentical                  // accept files that are the same, fail otherwise
)

// CheckoutOptions say how Checkout lays out files; the zero value makes a new
// tree with real owners, by hard links where the repository allows it.
type CheckoutOptions struct {
	// Subpath is a directory or file of the commit; "" for the whole tree.
	Subpath string
	Union   UnionMode
	// ForceCopy never links and leaves modification times as they come: for /etc.
	ForceCopy bool
	// RequireHardlinks fails instead of copying what could be linked. Links need a
	// bare repository and no UserMode, or bare-user with it, on the same
	// filesystem. Empty files are always copied, so that they do not share the
	// one inode with its limited number of links.
	RequireHardlinks bool
	// UserMode sets no owner and no attributes and drops setuid and setgid bits.
	UserMode bool
	// DevIno records what was linked, for a later WriteDir.
	DevIno *DevInoCache
	// Fsync syncs the destination's filesystem at the end.
	Fsync bool
	// Filter leaves out the paths, "/usr/bin" as seen from the top of the checkout,
	// for which it returns false, and all below them. It may be called from several
	// goroutines at once.
	Filter func(path string) (include bool)
}

// Checkout lays out the tree of a commit as dst/name; "." puts it into dst itself,
// whose metadata are then set in mode UnionNone only. Directories and linked files get
// modification time 0. It is not atomic: after an error or a crash a part of the
// tree remains. ErrExists reports a path that is in the way.
func (r *Repo) Checkout(ctx context.Context, commit Checksum, dst *fsx.Dir, name string, o CheckoutOptions) error {
	c := &checkout{r: r, o: o, metas: map[Checksum]DirMeta{}}
	defer c.close()
	err := c.prepare()
	if err == nil {
		err = c.run(ctx, commit, dst, name)
	}
	if err == nil && o.Fsync {
		err = dst.Syncfs()
	}
	if err != nil {
		return fmt.Errorf("check out %s: %w", commit, err)
	}
	return nil
}

type checkout struct {
	r     *Repo
	o     CheckoutOptions
	link  bool // this mode of repository and checkout can link regular files
	metas map[Checksum]DirMeta
	// dirs are the objects/XX directories, kept open while linking: a look-up of
	// each object's path would cost more than its link.
	dirs [256]*fsx.Dir
}

func (c *checkout) close() {
	for _, d := range c.dirs {
		if d != nil {
			_ = d.Close()
		}
	}
}

// object gives the directory and the name in it of a content object.
func (c *checkout) object(sum Checksum) (*fsx.Dir, string, error) {
	p := ObjectName{sum, TypeFile}.loosePath(c.r.mode)
	d := c.dirs[sum[0]]
	if d == nil {
		var err error
		if d, err = c.r.objects.OpenDir(p[:2]); err != nil {
			return nil, "", err
		}
		c.dirs[sum[0]] = d
	}
	return d, p[3:], nil
}

func (c *checkout) prepare() error {
	switch c.r.mode {
	case ModeBare:
		c.link = !c.o.UserMode
	case ModeBareUser:
		c.link = c.o.UserMode
	case ModeBareUserOnly:
		c.link = true
	}
	if c.o.ForceCopy {
		c.link = false
	}
	if c.o.RequireHardlinks && !c.link {
		return fmt.Errorf("hard links from a %s repository with these options: %w", c.r.mode, ErrUnsupported)
	}
	return nil
}

func (c *checkout) run(ctx context.Context, commit Checksum, dst *fsx.Dir, name string) error {
	node, err := c.r.Lookup(commit, path.Join("/", c.o.Subpath))
	if err != nil {
		return err
	}
	if !node.IsDir {
		if name == "." {
			name = path.Base(node.Path)
		}
		return c.file(dst, name, "/"+name, node.File)
	}
	return c.dir(ctx, dst, name, "/", TreeDir{Tree: node.Tree, Meta: node.Meta}, 0)
}

// dir makes one directory. Until it is filled only its owner can enter it; then
// come owner, permissions and, as its content no longer changes, the time.
func (c *checkout) dir(ctx context.Context, parent *fsx.Dir, name, p string, td TreeDir, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth > maxTreeDepth {
		return fmt.Errorf("%s: %w: nested too deeply", clip(p), ErrInvalid)
	}
	meta, err := c.meta(td.Meta)
	if err != nil {
		return err
	}
	tree, err := c.r.LoadDirTree(td.Tree)
	if err != nil {
		return err
	}
	fresh, err := c.mkdir(parent, name, p)
	if err != nil {
		return err
	}
	d, err := parent.OpenDir(name)
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return fmt.Errorf("%s: %w as no directory", p, ErrExists)
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if fresh && !c.o.UserMode {
		for _, x := range meta.Xattrs {
			if err := fsx.FSetXattr(d.File(), x.Name, x.Value); err != nil {
				return err
			}
		}
	}
	if err := c.children(ctx, d, p, tree, depth); err != nil {
		return err
	}
	if !fresh {
		return nil
	}
	return c.finishDir(d, meta)
}

func (c *checkout) meta(sum Checksum) (DirMeta, error) {
	if m, ok := c.metas[sum]; ok {
		return m, nil
	}
	m, err := c.r.LoadDirMeta(sum)
	if err == nil {
		c.metas[sum] = m
	}
	return m, err
}

func (c *checkout) mkdir(parent *fsx.Dir, name, p string) (fresh bool, err error) {
	if name == "." {
		return c.o.Union == UnionNone, nil
	}
	err = parent.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if c.o.Union == UnionNone {
			return false, fmt.Errorf("%s: %w", p, ErrExists)
		}
		return false, nil
	}
	return true, err
}

func (c *checkout) children(ctx context.Context, d *fsx.Dir, p string, tree DirTree, depth int) error {
	if err := c.files(ctx, d, p, tree.Files); err != nil {
		return err
	}
	for _, t := range tree.Dirs {
		sub := path.Join(p, t.Name)
		if c.o.Filter != nil && !c.o.Filter(sub) {
			continue
		}
		if err := c.dir(ctx, d, t.Name, sub, t, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// files lays out the files of one directory. Copies, which unpack and write, are
// made by several workers; links are too cheap for that.
func (c *checkout) files(ctx context.Context, d *fsx.Dir, p string, files []TreeFile) error {
	workers := 1
	if !c.link {
		workers = min(max(2, runtime.GOMAXPROCS(0)), len(files))
	}
	if workers <= 1 {
		for _, f := range files {
			if err := c.entry(ctx, d, p, f); err != nil {
				return err
			}
		}
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(files)); i = next.Add(1) - 1 {
				if err := c.entry(ctx, d, p, files[i]); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (c *checkout) entry(ctx context.Context, d *fsx.Dir, p string, f TreeFile) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	sub := path.Join(p, f.Name)
	if c.o.Filter != nil && !c.o.Filter(sub) {
		return nil
	}
	return c.file(d, f.Name, sub, f.Checksum)
}

func (c *checkout) finishDir(d *fsx.Dir, m DirMeta) error {
	mode := m.Mode & 0o7777
	if c.o.UserMode {
		mode &^= syscall.S_ISUID | syscall.S_ISGID
	} else if err := d.Lchown(".", int(m.UID), int(m.GID)); err != nil {
		return err
	}
	if err := d.Chmod(".", mode); err != nil {
		return err
	}
	if c.o.ForceCopy {
		return nil
	}
	return d.Lutimes(".", time.Unix(0, 0))
}

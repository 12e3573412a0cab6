// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hostctl/hostctl/internal/fsx"
)

// UnionMode says what Checkout does with what is there already.
type UnionMode uint8

// The union modes. In all but UnionNone directories that are there keep their
// metadata, and symbolic links to directories are followed inside of the checkout.
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
	// AllowNoent makes a Subpath that is absent no error: nothing is done.
	AllowNoent bool
	// ForceCopy never links and leaves the modification times of directories as they
	// come: for /etc. Where the filesystem can, copies share their blocks.
	ForceCopy bool
	// RequireHardlinks fails instead of copying what could be linked. Links need a
	// bare repository and no UserMode, or bare-user with it, on the same
	// filesystem. Empty files are always copied, so that they do not share the
	// one inode with its limited number of links; so are the symbolic links of
	// bare-user and bare-user-only, and files that UserMode makes readable.
	RequireHardlinks bool
	// UserMode sets no owner and no attributes, drops the setuid and setgid bits of
	// files and lets the owner read them. A bare-user-only repository implies it.
	UserMode bool
	// BareUserOnlyDirs drops the permissions of directories outside of 0775.
	BareUserOnlyDirs bool
	// Whiteouts makes a regular file .wh.NAME delete NAME instead of appearing, and
	// .wh..wh..opq empty its directory first; with UnionOverwrite files then replace
	// directories, too. That is how layers of container images are put together.
	Whiteouts bool
	// PassthroughWhiteouts makes a regular file .ostree-wh.NAME appear as NAME, the
	// character device 0:0 that hides a name from an overlay filesystem.
	PassthroughWhiteouts bool
	// UncompressedCache keeps what UserMode unpacks from an archive repository in its
	// uncompressed-objects-cache and links from there, unless core.enable-uncompressed-cache
	// is off or the repository cannot be written.
	UncompressedCache bool
	// DevIno records what was linked, for a later WriteDir.
	DevIno *DevInoCache
	// Fsync syncs the destination's filesystem at the end.
	Fsync bool
	// Filter leaves out the paths for which it returns false, and all below them. It
	// gets them as seen from the top of the checkout, directories with a slash at
	// the end: "/", "/usr/", "/usr/file". It is not asked where Subpath is a file and
	// may be called from several goroutines at once.
	Filter func(path string) (include bool)
	// Label gives the security.selinux value for a path, without terminating NUL; ""
	// for none. Labels that the commit records are then not used. It implies ForceCopy,
	// does nothing in UserMode and may be called from several goroutines at once.
	Label func(path string, mode uint32) (string, error)
	// LabelPrefix stands before the paths that Label gets; "" means Subpath.
	LabelPrefix string
	// Workers is the number of goroutines; 0 means one per CPU, at least 2.
	Workers int
}

// Checkout lays out the tree of a commit as dst/name; "." merges it into dst itself and
// is an error in mode UnionNone. Where Subpath is a file, it comes under its own name
// into the directory dst/name, which is made with permissions 0700 if it is absent.
// Directories get modification time 0, linked files that of the repository, which is 0
// too, and copies the present. It is not atomic: after an error or a crash a part of
// the tree remains; every file in it is complete. ErrExists reports a path that is in
// the way, ErrUnsupported hard links that cannot be, both in the words of libostree.
func (r *Repo) Checkout(ctx context.Context, commit Checksum, dst *fsx.Dir, name string, o CheckoutOptions) error {
	c := newCheckout(r, o)
	err := c.run(ctx, commit, dst, name)
	if err = errors.Join(err, c.close()); err == nil && o.Fsync {
		err = dst.Syncfs()
	}
	if err == nil {
		return nil
	}
	var w *wordedError
	if errors.As(err, &w) {
		return &wordedError{w.text, err} // the words that scripts look for, with nothing around them
	}
	return fmt.Errorf("check out %s: %w", commit, err)
}

// checkout is one run.
type checkout struct {
	r       *Repo
	o       CheckoutOptions
	sources []*source // the repository, then its parents
	metas   sync.Map  // Checksum to DirMeta
	crew    crew
	left    atomic.Int64 // how many entries a tree may still have
	root    *fsx.Dir     // the top of the checkout, where links stay inside
	labels  string       // what stands before the paths to label; "" for no labels
	oneDev  bool         // the destination must be on the repository's filesystem
}

func newCheckout(r *Repo, o CheckoutOptions) *checkout {
	if r.mode == ModeBareUserOnly {
		o.UserMode, o.BareUserOnlyDirs = true, true
	}
	c := &checkout{r: r, o: o, oneDev: o.RequireHardlinks}
	if o.Label != nil {
		c.o.ForceCopy = true
		if !o.UserMode && !r.opts.disableXattrs {
			c.labels = path.Join("/", labelTop(o))
		}
	}
	for s := r; s != nil; s = s.parent {
		c.sources = append(c.sources, newSource(s, c.o))
	}
	if o.Workers <= 0 {
		o.Workers = max(2, runtime.GOMAXPROCS(0))
	}
	c.crew.workers = int32(min(o.Workers, 1024))
	c.crew.running.Store(1)
	c.left.Store(maxTreeEntries)
	return c
}

func labelTop(o CheckoutOptions) string {
	if o.LabelPrefix != "" {
		return o.LabelPrefix
	}
	return o.Subpath
}

func (c *checkout) close() error {
	var errs []error
	for _, s := range c.sources {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

func (c *checkout) run(ctx context.Context, commit Checksum, dst *fsx.Dir, name string) error {
	node, err := c.r.Lookup(commit, c.o.Subpath)
	if err != nil {
		return c.absent(err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.crew.fail = cancel
	if node.IsDir {
		err = c.dir(ctx, dst, place{name: name, path: "/", top: true}, TreeDir{Tree: node.Tree, Meta: node.Meta}, 0)
	} else {
		err = c.single(ctx, dst, name, node)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// absent tells of a Subpath that is not in the commit.
func (c *checkout) absent(err error) error {
	var p *fs.PathError
	if !errors.As(err, &p) || !errors.Is(err, ErrNotFound) {
		return err
	}
	if errors.Is(err, ErrNotDir) {
		return worded(ErrNotDir, "Not a directory")
	}
	if c.o.AllowNoent {
		return nil
	}
	return worded(ErrNotFound, "No such file or directory: %s", p.Path)
}

// single lays out a Subpath that is a file.
func (c *checkout) single(ctx context.Context, dst *fsx.Dir, name string, n Node) error {
	c.o.Filter = nil
	if name != "." {
		if err := dst.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return worded(err, "mkdirat: %s", errnoText(err))
		}
		d, err := dst.OpenDir(name)
		if err != nil {
			return worded(ErrExists, "opendir(%s): %s", name, errnoText(err))
		}
		defer d.Close()
		dst = d
	}
	c.root = dst
	base := path.Base(n.Path)
	return c.file(ctx, dst, place{name: base, path: "/" + base}, n.File)
}

// place is where something goes: the name in its directory, and the path as seen
// from the top of the checkout.
type place struct {
	name, path string
	top        bool // the top of the checkout itself
}

func (p place) child(name string) place {
	return place{name: name, path: strings.TrimSuffix(p.path, "/") + "/" + name}
}

// crew runs work in a bounded number of goroutines. One that waits for others does
// not count.
type crew struct {
	workers int32
	running atomic.Int32
	fail    context.CancelCauseFunc
}

// each calls fn for the numbers from lo up to hi. Whenever a worker is free it gets
// the second half of what is left: few and large pieces, as passing work on costs
// more than a link. An error ends the whole run: the context tells its cause.
func (w *crew) each(wg *sync.WaitGroup, lo, hi int, fn func(i int) error) {
	for lo < hi {
		if hi-lo > 1 && w.enlist() {
			mid, end := lo+(hi-lo+1)/2, hi
			wg.Go(func() {
				defer w.running.Add(-1)
				w.each(wg, mid, end, fn)
			})
			hi = mid
			continue
		}
		w.note(fn(lo))
		lo++
	}
}

func (w *crew) enlist() bool {
	if w.running.Add(1) <= w.workers {
		return true
	}
	w.running.Add(-1)
	return false
}

func (w *crew) wait(wg *sync.WaitGroup) {
	w.running.Add(-1)
	wg.Wait()
	w.running.Add(1)
}

func (w *crew) note(err error) {
	if err != nil {
		w.fail(err)
	}
}

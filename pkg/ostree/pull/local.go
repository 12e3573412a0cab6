// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// localSource is a repository in a directory.
type localSource struct {
	dir   *fsx.Dir
	repo  *ostree.Repo
	meter *meter
	link  bool // objects may be linked instead of copied
}

// openLocal opens the repository at where; dst is where its objects will go.
func openLocal(where string, dst *ostree.Repo, untrusted bool, m *meter) (*localSource, error) {
	dir, err := fsx.OpenDir(where)
	if err != nil {
		return nil, err
	}
	repo, err := ostree.Open(dir, ostree.Options{})
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	l := &localSource{dir: dir, repo: repo, meter: m}
	if !untrusted {
		l.link, err = linkable(repo, dst)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// linkable tells whether files can be shared: both repositories store them
// alike, on one filesystem, and nobody else owns the source, who could change
// the files later.
func linkable(src, dst *ostree.Repo) (bool, error) {
	if src.Mode() != dst.Mode() {
		return false, nil
	}
	a, err := src.Dir().Lstat("objects")
	if err != nil {
		return false, err
	}
	b, err := dst.Dir().Lstat("objects")
	if err != nil {
		return false, err
	}
	return a.Dev == b.Dev && a.UID == b.UID && a.UID == uint32(os.Geteuid()), nil
}

func (l *localSource) close() {
	_ = l.repo.Close()
	_ = l.dir.Close()
}

func (l *localSource) refs(_ context.Context, want []string) (map[string]ostree.Checksum, error) {
	out := map[string]ostree.Checksum{}
	if want == nil {
		all, err := l.repo.Refs("")
		for ref, c := range all {
			// What the source itself pulled from elsewhere is not its own.
			if !strings.Contains(ref, ":") {
				out[ref] = c
			}
		}
		return out, err
	}
	for _, ref := range want {
		c, err := l.repo.Resolve(ref)
		if errors.Is(err, ostree.ErrNotFound) {
			err = fmt.Errorf("ref %s: %w: %s has no such ref", ref, ErrNotFound, l.dir.Path())
		}
		if err != nil {
			return nil, err
		}
		out[ref] = c
	}
	return out, nil
}

func (l *localSource) metadata(_ context.Context, n ostree.ObjectName) ([]byte, error) {
	raw, err := l.read(n)
	if errors.Is(err, ostree.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	l.meter.transferred(len(raw))
	return raw, err
}

func (l *localSource) read(n ostree.ObjectName) ([]byte, error) {
	if n.Type != ostree.TypeCommitMeta {
		return l.repo.LoadRaw(n)
	}
	d, err := l.repo.CommitMeta(n.Checksum)
	if err != nil || d.Len() == 0 {
		return nil, err
	}
	return d.Marshal()
}

func (l *localSource) content(ctx context.Context, t *ostree.Txn, c ostree.Checksum) (int64, error) {
	if l.link {
		if done, err := l.linkObject(t, c); done || err != nil {
			return 0, err
		}
	}
	h, size, r, err := l.repo.OpenFile(c)
	if errors.Is(err, ostree.ErrNotFound) {
		return 0, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return size, t.WriteContentExpected(ctx, c, h, size, counted{r, l.meter})
}

// linkObject gives a stored file a second name. Its bytes are durable, since
// they have a name in the source; that of the new name's directory is the
// transaction's business once Has has seen it. The transaction holds the lock
// that keeps a prune away. done is false where the filesystem refuses.
func (l *localSource) linkObject(t *ostree.Txn, c ostree.Checksum) (done bool, err error) {
	n := ostree.ObjectName{Checksum: c, Type: ostree.TypeFile}
	name := ostree.LoosePath(n)
	if l.repo.Mode() != ostree.ModeArchive {
		name = strings.TrimSuffix(name, "z")
	}
	dst := t.Repo().Dir()
	if err := dst.MkdirAll(path.Dir(name), 0o755); err != nil {
		return false, err
	}
	err = l.dir.Link(name, dst, name)
	switch {
	case errors.Is(err, fs.ErrExist):
	case errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EMLINK), errors.Is(err, syscall.EPERM):
		return false, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("%w: %w", ErrNotFound, err)
	case err != nil:
		return false, err
	}
	return t.Has(n)
}

// counted reports what is read.
type counted struct {
	io.Reader
	meter *meter
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.meter.transferred(n)
	return n, err
}

// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// localSource is a repository in a directory.
type localSource struct {
	repo   *ostree.Repo
	opened *fsx.Dir // closed with the source; nil: the repository is the caller's
	localOptions
	link bool // objects may be linked instead of copied
}

// localOptions say how objects are taken over.
type localOptions struct {
	meter     *meter
	untrusted bool                    // copied and verified
	check     func(mode uint32) error // of file objects; nil: none
}

func (p *puller) localOptions() localOptions {
	return localOptions{meter: p.meter, untrusted: p.req.Untrusted, check: p.modeCheck()}
}

// openLocal opens the repository at where; dst is where its objects will go.
func openLocal(where string, dst *ostree.Repo, o localOptions) (*localSource, error) {
	dir, err := fsx.OpenDir(where)
	if err != nil {
		return nil, err
	}
	repo, err := ostree.Open(dir, ostree.Options{})
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	l := newLocal(repo, dst, o)
	l.opened = dir
	return l, nil
}

func newLocal(src, dst *ostree.Repo, o localOptions) *localSource {
	l := &localSource{repo: src, localOptions: o}
	l.link = linkable(src, dst)
	return l
}

// linkable tells whether files can be shared: both repositories store them
// alike, on one filesystem, and nobody else owns the source, who could change
// the files later. An attempt may still fail.
func linkable(src, dst *ostree.Repo) bool {
	if src.Mode() != dst.Mode() && (src.Mode() != ostree.ModeBareUser || dst.Mode() != ostree.ModeBareUserOnly) {
		return false
	}
	a, err := src.Dir().Lstat("objects")
	if err != nil {
		return false
	}
	b, err := dst.Dir().Lstat("objects")
	return err == nil && a.Dev == b.Dev && a.UID == b.UID && a.UID == uint32(os.Geteuid())
}

func (l *localSource) close() {
	if l.opened != nil {
		_ = l.repo.Close()
		_ = l.opened.Close()
	}
}

// refs lists what belongs to the source itself, not what it pulled from elsewhere.
func (l *localSource) refs() (map[string]ostree.Checksum, error) {
	all, err := l.repo.Refs("")
	out := map[string]ostree.Checksum{}
	for ref, c := range all {
		if !strings.Contains(ref, ":") {
			out[ref] = c
		}
	}
	return out, err
}

func (l *localSource) resolve(w *want) (err error) {
	if w.collection != "" {
		c := ostree.CollectionRef{Collection: w.collection, Ref: w.ref}
		w.commit, err = l.repo.ResolveCollectionRef(c, false)
	} else {
		w.commit, err = l.repo.Resolve(w.ref)
	}
	if errors.Is(err, ostree.ErrNotFound) {
		return &condition{err.Error(), errors.Join(ErrNotFound, err)}
	}
	return err
}

func (l *localSource) file(_ context.Context, name string, r request) (fetched, error) {
	data, err := l.repo.Dir().ReadFile(name, r.max)
	return fetched{data: data}, localError(err)
}

// localError makes what is absent look as it does elsewhere.
func localError(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ostree.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

func (l *localSource) open(_ context.Context, name, _ string) (stream, error) {
	f, err := l.repo.Dir().Open(name)
	if err != nil {
		return nil, localError(err)
	}
	return &localStream{counted{f, l.meter}, f}, nil
}

type localStream struct {
	io.Reader
	f io.Closer
}

func (s *localStream) finish(error) { _ = s.f.Close() }

func (l *localSource) metadata(_ context.Context, n ostree.ObjectName, max int64) ([]byte, error) {
	raw, err := l.read(n)
	if err != nil {
		return nil, localError(err)
	}
	if int64(len(raw)) > max {
		return nil, fmt.Errorf("%w: object %s of %d bytes", ostree.ErrInvalid, n, len(raw))
	}
	l.meter.transferred(len(raw))
	return raw, nil
}

func (l *localSource) read(n ostree.ObjectName) ([]byte, error) {
	if n.Type == ostree.TypeCommit {
		return l.repo.LoadUnverified(n) // fetchCommit compares
	}
	if n.Type != ostree.TypeCommitMeta {
		return l.repo.LoadRaw(n)
	}
	d, err := l.repo.CommitMeta(n.Checksum)
	if err != nil {
		return nil, err
	}
	if d.Len() == 0 {
		return nil, ostree.ErrNotFound
	}
	return d.Marshal()
}

// has tells whether the repository stores an object.
func (l *localSource) has(n ostree.ObjectName) (bool, error) { return l.repo.Has(n) }

func (l *localSource) store(ctx context.Context, t *ostree.Txn, c ostree.Checksum) (int64, error) {
	n := ostree.ObjectName{Checksum: c, Type: ostree.TypeFile}
	if l.link {
		done, err := l.linkFile(t, n)
		if done || err != nil {
			return 0, localError(err)
		}
	}
	h, size, r, err := l.repo.OpenFile(c)
	if err != nil {
		return 0, localError(err)
	}
	defer r.Close()
	if l.check != nil && h.IsRegular() {
		if err := l.check(h.Mode); err != nil {
			return 0, modeError(c, err)
		}
	}
	if done, err := t.CloneObject(ctx, l.repo, c, l.untrusted); done || err != nil {
		return 0, localError(err)
	}
	in := counted{r, l.meter}
	if l.untrusted {
		return size, t.WriteContentExpected(ctx, c, h, size, in)
	}
	return size, t.ImportContent(ctx, c, h, size, in)
}

// linkFile takes a file object over by a link, after reading it if it has to be
// verified: nobody else can change it.
func (l *localSource) linkFile(t *ostree.Txn, n ostree.ObjectName) (bool, error) {
	if l.untrusted || l.check != nil {
		if err := l.vet(n.Checksum); err != nil {
			return false, err
		}
	}
	return t.LinkObject(l.repo, n)
}

func (l *localSource) vet(c ostree.Checksum) error {
	h, size, r, err := l.repo.OpenFile(c)
	if err != nil {
		return err
	}
	defer r.Close()
	if l.check != nil && h.IsRegular() {
		if err := l.check(h.Mode); err != nil {
			return modeError(c, err)
		}
	}
	if !l.untrusted {
		return nil
	}
	sum, err := ostree.HashContent(h, size, r)
	if err == nil && sum != c {
		err = fmt.Errorf("%w: checksum %s", ostree.ErrCorrupt, sum)
	}
	return err
}

// storeMeta stores a metadata object: by a link to the local repository where raw
// is from, else as a copy.
func (p *puller) storeMeta(ctx context.Context, t *ostree.Txn, n ostree.ObjectName, raw []byte) error {
	if p.local != nil {
		done, err := t.LinkObject(p.local.repo, n)
		if done || err != nil && !errors.Is(err, ostree.ErrNotFound) {
			return err
		}
	}
	if n.Type == ostree.TypeCommit && p.trustsCommits() {
		return t.ImportMetadata(ctx, n, raw)
	}
	return t.WriteMetadataExpected(ctx, n, raw)
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

// modeCheck is for Request.BareUserOnlyFiles, and for repositories that could not
// store other modes.
func (p *puller) modeCheck() func(uint32) error {
	if !p.req.BareUserOnlyFiles && p.repo.Mode() != ostree.ModeBareUserOnly {
		return nil
	}
	return func(mode uint32) error {
		const allowed = 0o775
		perm := mode & 0o7777
		if bad := perm &^ allowed; bad != 0 {
			return sayf(ostree.ErrInvalid, "invalid mode 0%04o with bits 0%04o", perm, bad)
		}
		return nil
	}
}

func modeError(c ostree.Checksum, err error) error {
	return fmt.Errorf("Content object %s: %w", c, err) //nolint:staticcheck // ST1005: the words scripts look for
}

// checkedMode looks at the mode in the header of a .filez stream and gives the
// whole stream.
func checkedMode(r io.Reader, c ostree.Checksum, check func(uint32) error) (io.Reader, error) {
	// u32 header length, 4 bytes of padding, then u64 size, u32 uid, gid and mode,
	// big-endian.
	var head [8 + 8 + 4 + 4 + 4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("read header of object %s: %w", c, err)
	}
	m := head[len(head)-4:]
	mode := uint32(m[0])<<24 | uint32(m[1])<<16 | uint32(m[2])<<8 | uint32(m[3])
	if regular := mode&0o170000 == 0o100000; regular {
		if err := check(mode); err != nil {
			return nil, modeError(c, err)
		}
	}
	return io.MultiReader(bytes.NewReader(head[:]), r), nil
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/hostctl/hostctl/internal/deflate"
	"github.com/hostctl/hostctl/internal/fsx"
)

const bufSize = 128 << 10

// pools keep what is costly to make: flate state and buffers.
type pools struct {
	inflaters stash // *deflate.Reader
	deflaters stash // *deflate.Writer of the repository's level
	readers   stash // *bufio.Reader of bufSize
	buffers   stash // *[]byte of smallContent
}

// stash keeps a few things for the next user. Unlike a sync.Pool it keeps them when
// garbage is collected, which with a small heap is many times a second.
type stash struct {
	mu    sync.Mutex
	items []any
}

const stashed = 8 // as many as a pull has transfers at a time

// Get gives nil where there is nothing.
func (s *stash) Get() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.items)
	if n == 0 {
		return nil
	}
	v := s.items[n-1]
	s.items = s.items[:n-1]
	return v
}

func (s *stash) Put(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.items) < stashed {
		s.items = append(s.items, v)
	}
}

func (p *pools) reader(r io.Reader) *bufio.Reader {
	if b, ok := p.readers.Get().(*bufio.Reader); ok {
		b.Reset(r)
		return b
	}
	return bufio.NewReaderSize(r, bufSize)
}

func (p *pools) putReader(b *bufio.Reader) {
	b.Reset(nil)
	p.readers.Put(b)
}

func (p *pools) buffer() *[]byte {
	if b, ok := p.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, smallContent)
	return &b
}

func (p *pools) inflater(r *bufio.Reader) *deflate.Reader {
	if v, ok := p.inflaters.Get().(*deflate.Reader); ok {
		v.Reset(r)
		return v
	}
	return deflate.NewReader(r)
}

func (p *pools) deflater(w io.Writer, level int) (*deflate.Writer, error) {
	if z, ok := p.deflaters.Get().(*deflate.Writer); ok {
		z.Reset(w)
		return z, nil
	}
	return deflate.NewWriter(w, level)
}

func (r *Repo) openArchived(d *fsx.Dir, path string) (h FileHeader, size int64, rc io.ReadCloser, err error) {
	f, err := d.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return h, 0, nil, err
	}
	h, size, rc, err = r.readArchived(f)
	if err != nil {
		return h, 0, nil, errors.Join(err, f.Close())
	}
	return h, size, &closeBoth{rc, f}, nil
}

type closeBoth struct {
	io.ReadCloser
	f io.Closer
}

func (c *closeBoth) Close() error { return errors.Join(c.ReadCloser.Close(), c.f.Close()) }

// readArchived reads the header of a .filez stream and gives its content.
func (r *Repo) readArchived(src io.Reader) (h FileHeader, size int64, rc io.ReadCloser, err error) {
	br := r.pools.reader(src)
	h, size, err = readArchiveHeader(br)
	if err != nil {
		return h, 0, nil, err
	}
	z := &inflated{pools: &r.pools, src: br, left: size}
	if h.IsRegular() {
		z.zr = r.pools.inflater(br)
	}
	return h, size, z, nil
}

// inflated unpacks exactly the declared number of bytes: a stream that holds
// more is refused without unpacking the rest, and so are bytes after its end.
// For a symbolic link zr is nil and the input must end after the header.
type inflated struct {
	pools *pools
	src   *bufio.Reader
	zr    *deflate.Reader
	left  int64
	err   error // sticky
}

func (z *inflated) Read(p []byte) (int, error) {
	if z.err != nil || len(p) == 0 {
		return 0, z.err
	}
	if z.left == 0 {
		z.err = z.finish()
		return 0, z.err
	}
	n, err := z.zr.Read(p[:min(int64(len(p)), z.left)])
	z.left -= int64(n)
	if err != nil && (n == 0 || !errors.Is(err, io.EOF)) {
		z.err = unpackError(err)
	}
	return n, z.err
}

// finish checks that stream and input end where the declared size ends.
func (z *inflated) finish() error {
	if z.zr != nil {
		var one [1]byte
		switch n, err := io.ReadFull(z.zr, one[:]); {
		case n > 0:
			return fmt.Errorf("%w: content is longer than its header says", ErrCorrupt)
		case !errors.Is(err, io.EOF):
			return unpackError(err)
		}
	}
	_, err := z.src.ReadByte()
	if err == nil || z.zr != nil && z.zr.Extra() > 0 {
		return fmt.Errorf("%w: bytes after the content", ErrCorrupt)
	}
	return err // io.EOF, or what the source of the stream met
}

func unpackError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: content is shorter than its header says", ErrCorrupt)
	}
	if errors.Is(err, deflate.ErrCorrupt) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

func (z *inflated) Close() error {
	if z.src == nil {
		return nil
	}
	if z.zr != nil {
		z.pools.inflaters.Put(z.zr)
	}
	z.pools.putReader(z.src)
	z.zr, z.src, z.err = nil, nil, os.ErrClosed
	return nil
}

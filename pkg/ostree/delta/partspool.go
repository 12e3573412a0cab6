// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

const (
	// chunkSize is a multiple of blockSize, so that no block reaches into a chunk that
	// was released.
	chunkSize = 1 << 20
	// maxChunks is the memory for all unpacked parts of an Applier. What does not fit
	// costs a write to a file and a read from it.
	maxChunks = 32
)

// chunkPool hands out the memory for unpacked parts.
type chunkPool struct {
	mu   sync.Mutex
	more *sync.Cond // a chunk came back
	all  [][]byte
	free [][]byte
	// draining are the chunks of parts that are being executed: they come back, and to
	// wait for one takes no longer than to go without.
	draining int
}

func newChunkPool() *chunkPool {
	p := &chunkPool{}
	p.more = sync.NewCond(&p.mu)
	return p
}

// get gives nil where there is none and none will come back by itself.
func (p *chunkPool) get() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch n := len(p.free); {
		case n > 0:
			c := p.free[n-1]
			p.free = p.free[:n-1]
			return c
		case len(p.all) < maxChunks:
			c, err := sys.Memory(chunkSize)
			if err != nil {
				return nil
			}
			p.all = append(p.all, c)
			return c
		case p.draining == 0:
			return nil
		}
		p.more.Wait()
	}
}

func (p *chunkPool) drain(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining += n
}

func (p *chunkPool) put(list [][]byte, drained bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, list...)
	if drained {
		p.draining -= len(list)
	}
	p.more.Broadcast()
}

// close gives all memory back. No part may be in use.
func (p *chunkPool) close() error {
	var errs []error
	for _, c := range p.all {
		errs = append(errs, sys.FreeMemory(c))
	}
	p.all, p.free = nil, nil
	return errors.Join(errs...)
}

// partSpool is an unpacked part: in chunks of memory, and from where those do not
// suffice in an unnamed file of dir. It is written once and then read at any place, by
// several readers at once.
type partSpool struct {
	dir  *fsx.Dir
	pool *chunkPool
	mem  [][]byte // from chunk number gone on
	file *os.File // what follows the chunks
	size int64

	mu       sync.RWMutex
	gone     int // chunks released
	draining bool
}

var errReleased = errors.New("range of the part was released")

func (s *partSpool) inMemory() bool { return s.file == nil }

func (s *partSpool) Write(p []byte) (total int, err error) {
	for len(p) > 0 && s.file == nil {
		at := int(s.size) - (len(s.mem)-1)*chunkSize
		if len(s.mem) == 0 || at == chunkSize {
			c := s.pool.get()
			if c == nil {
				break
			}
			s.mem, at = append(s.mem, c), 0
		}
		n := copy(s.mem[len(s.mem)-1][at:], p)
		p, s.size, total = p[n:], s.size+int64(n), total+n
	}
	if len(p) == 0 {
		return total, nil
	}
	if s.file == nil {
		if s.file, err = tempFile(s.dir); err != nil {
			return total, fmt.Errorf("create temporary file: %w", err)
		}
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	return total + n, err
}

// ReadAt is io.ReaderAt's.
func (s *partSpool) ReadAt(p []byte, off int64) (total int, err error) {
	if off < 0 {
		return 0, io.EOF
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	inMem := min(s.size, int64(s.gone+len(s.mem))*chunkSize)
	for total < len(p) && off < inMem {
		i := int(off/chunkSize) - s.gone
		if i < 0 {
			return total, errReleased
		}
		c := s.mem[i][:min(chunkSize, inMem-off/chunkSize*chunkSize)]
		n := copy(p[total:], c[off%chunkSize:])
		total, off = total+n, off+int64(n)
	}
	switch {
	case total == len(p):
		return total, nil
	case s.file == nil:
		return total, io.EOF
	}
	n, err := s.file.ReadAt(p[total:], off-inMem)
	return total + n, err
}

// drain announces that chunks will be released.
func (s *partSpool) drain() {
	s.draining = true
	s.pool.drain(len(s.mem))
}

// release gives back what lies before off: nobody reads it again.
func (s *partSpool) release(off int64) {
	s.mu.Lock()
	n := int(off/chunkSize) - s.gone
	n = max(0, min(n, len(s.mem)))
	list := s.mem[:n]
	s.mem, s.gone = s.mem[n:], s.gone+n
	s.mu.Unlock()
	if n > 0 {
		s.pool.put(list, s.draining)
	}
}

// Close ends all use.
func (s *partSpool) Close() error {
	s.release(s.size + chunkSize)
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

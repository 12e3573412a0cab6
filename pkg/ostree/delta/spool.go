// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

const (
	// spoolMemory is how much of a spool stays in memory.
	spoolMemory = 1 << 20
	copyBuffer  = 128 << 10
)

// spool is data written once and then read at any place: in memory while it is
// small, then in an unnamed file of dir.
type spool struct {
	dir  *fsx.Dir
	mem  []byte
	file *os.File
	size int64
}

func newSpool(dir *fsx.Dir) *spool { return &spool{dir: dir} }

func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.size+int64(len(p)) <= spoolMemory {
		s.mem = append(s.mem, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	if s.file == nil {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	return n, err
}

func (s *spool) spill() error {
	f, err := tempFile(s.dir)
	if err != nil {
		return fmt.Errorf("create temporary file: %w", err)
	}
	if _, err := f.Write(s.mem); err != nil {
		return errors.Join(fmt.Errorf("write temporary file: %w", err), f.Close())
	}
	s.file, s.mem = f, nil
	return nil
}

// tempFile makes a file without a name.
func tempFile(dir *fsx.Dir) (*os.File, error) {
	f, err := sys.TmpFile(dir.Fd(), dir.Path(), 0o600)
	if err == nil || !sys.IsNotSupported(err) && !errors.Is(err, syscall.EISDIR) && !errors.Is(err, syscall.ENOENT) {
		return f, err
	}
	name := "tmp-" + rand.Text()
	f, err = dir.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := dir.Remove(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(p, off)
	}
	if off < 0 || off > int64(len(s.mem)) {
		return 0, io.EOF
	}
	n := copy(p, s.mem[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// reader reads the whole from its beginning.
func (s *spool) reader() io.Reader { return io.NewSectionReader(s, 0, s.size) }

func (s *spool) Close() error {
	s.mem = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

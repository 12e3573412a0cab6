// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// maxName bounds file names and link targets in the archive: PATH_MAX.
const maxName = 4096

const (
	newcMagic     = "070701"
	newcCRCMagic  = "070702"
	strippedMagic = "07070X"
)

// cpioEntry is one archive header. The stripped form, which rpm uses for files beyond 4 GiB, carries only
// the index of the file in the package header.
type cpioEntry struct {
	index    int
	mode     uint32
	size     int64
	stripped bool
	trailer  bool
}

func (p *Payload) readCPIO() (cpioEntry, error) {
	magic, err := p.read(6)
	if err != nil {
		return cpioEntry{}, err
	}
	switch string(magic) {
	case newcMagic, newcCRCMagic:
		return p.readNewc()
	case strippedMagic:
		return p.readStripped()
	}
	return cpioEntry{}, fmt.Errorf("offset %d: archive magic %q: %w", p.offset-6, magic, ErrFormat)
}

func (p *Payload) readStripped() (cpioEntry, error) {
	b, err := p.read(8)
	if err != nil {
		return cpioEntry{}, err
	}
	index, err := p.hex(b)
	if err != nil {
		return cpioEntry{}, err
	}
	if index >= int64(len(p.files)) {
		return cpioEntry{}, fmt.Errorf("offset %d: file %d of %d: %w", p.offset, index, len(p.files), ErrFormat)
	}
	return cpioEntry{index: int(index), stripped: true}, p.pad()
}

// readNewc reads the 13 hexadecimal fields behind the magic and the name.
func (p *Payload) readNewc() (cpioEntry, error) {
	start := p.offset - 6
	b, err := p.read(13 * 8)
	if err != nil {
		return cpioEntry{}, err
	}
	mode, err1 := p.hex(b[8:16])
	size, err2 := p.hex(b[48:56])
	nameSize, err3 := p.hex(b[88:96])
	if err := errors.Join(err1, err2, err3); err != nil {
		return cpioEntry{}, err
	}
	if nameSize < 2 || nameSize > maxName {
		return cpioEntry{}, fmt.Errorf("offset %d: file name of %d bytes: %w", start, nameSize, ErrFormat)
	}
	raw, err := p.read(int(nameSize))
	if err != nil {
		return cpioEntry{}, err
	}
	name, ok := strings.CutSuffix(string(raw), "\x00")
	if !ok || strings.Contains(name, "\x00") {
		return cpioEntry{}, fmt.Errorf("offset %d: file name %q: %w", start, raw, ErrFormat)
	}
	if err := p.pad(); err != nil {
		return cpioEntry{}, err
	}
	if name == trailerName {
		return cpioEntry{trailer: true}, nil
	}
	index, err := p.find(name)
	if err != nil {
		return cpioEntry{}, fmt.Errorf("offset %d: %w", start, err)
	}
	return cpioEntry{index: index, mode: uint32(mode), size: size}, nil
}

// find maps an archive name ("./usr/bin/x", "usr/bin/x" or "/usr/bin/x") to the header's file.
func (p *Payload) find(name string) (int, error) {
	if i, ok := p.byPath[name]; ok {
		return i, nil
	}
	abs := name
	if rest, ok := strings.CutPrefix(name, "."); ok && strings.HasPrefix(rest, "/") {
		abs = rest
	}
	if !strings.HasPrefix(abs, "/") {
		abs = "/" + abs
	}
	// A name that is not clean never matches: header names are clean.
	if i, ok := p.byPath[abs]; ok && path.Clean(abs) == abs {
		return i, nil
	}
	return 0, fmt.Errorf("file %q is not in the header: %w", name, ErrFormat)
}

func (p *Payload) hex(b []byte) (int64, error) {
	n, err := strconv.ParseUint(string(b), 16, 32)
	if err != nil {
		return 0, fmt.Errorf("offset %d: number %q: %w", p.offset, b, ErrFormat)
	}
	return int64(n), nil
}

// pad skips to the next multiple of 4 in the archive.
func (p *Payload) pad() error {
	_, err := p.read(int(-p.offset & 3))
	return err
}

func (p *Payload) read(n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(p.r, b)
	p.offset += int64(got)
	if err != nil {
		return nil, p.wrap(err)
	}
	return b, nil
}

// wrap names the offset in the decompressed archive.
func (p *Payload) wrap(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("archive offset %d: %w", p.offset, ErrTruncated)
	}
	return fmt.Errorf("archive offset %d: %w: %w", p.offset, ErrFormat, err)
}

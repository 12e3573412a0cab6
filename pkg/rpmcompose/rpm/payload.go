// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bufio"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// ErrDigest is wrapped where bytes do not match the digest or size that the package promises.
var ErrDigest = errors.New("digest mismatch")

const trailerName = "TRAILER!!!"

// Payload streams the files of a package in archive order. Every file's size, digest and link target is
// checked against the header. Not safe for concurrent use.
type Payload struct {
	pkg    *Package
	files  []File
	byPath map[string]int
	z      io.ReadCloser
	r      *bufio.Reader
	offset int64
	links  map[linkKey][]int
	seen   []bool
	given  map[linkKey]bool
	cur    *content
	err    error
}

// linkKey tells hard-link groups apart. Size and digest take part because some builders number all files
// alike.
type linkKey struct {
	dev, inode uint32
	size       int64
	digest     string
}

// content reads one file's data and checks it at the end.
type content struct {
	p      *Payload
	name   string
	left   int64
	size   int64
	sum    hash.Hash
	digest string
	done   error // io.EOF after a successful check
}

// Payload starts reading the payload from r, which stands at its first byte, as [ReadPackage] leaves it.
// Close frees the decompressor.
func (p *Package) Payload(r io.Reader) (*Payload, error) {
	if f := p.Header.String(TagPayloadFormat); f != "" && f != "cpio" {
		return nil, fmt.Errorf("read payload: format %q: %w", f, ErrUnsupported)
	}
	name := p.Header.String(TagPayloadCompressor)
	z, err := Decompress(r, name)
	if err != nil {
		return nil, fmt.Errorf("read payload: %w", err)
	}
	pl := &Payload{pkg: p, files: p.Files(), z: z, r: bufio.NewReaderSize(z, 64<<10)}
	pl.byPath = make(map[string]int, len(pl.files))
	pl.links = map[linkKey][]int{}
	pl.given = map[linkKey]bool{}
	pl.seen = make([]bool, len(pl.files))
	for i := range pl.files {
		f := &pl.files[i]
		pl.byPath[f.Path] = i
		if f.IsRegular() && !f.IsGhost() && f.Inode != 0 {
			k := f.linkKey()
			pl.links[k] = append(pl.links[k], i)
		}
	}
	return pl, nil
}

func (f *File) linkKey() linkKey { return linkKey{f.Dev, f.Inode, f.Size, f.Digest} }

// Close frees the decompressor. It does not close the underlying reader.
func (p *Payload) Close() error { return p.z.Close() }

// Links gives the indexes of all members of the hard-link group of a file, itself included, in header
// order; nil if the file has no other names.
func (p *Payload) Links(index int) []int {
	f := &p.files[index]
	if !f.IsRegular() || f.IsGhost() {
		return nil
	}
	if g := p.links[f.linkKey()]; len(g) > 1 {
		return g
	}
	return nil
}

// Next goes to the next file of the archive and gives its index in [Package.Files] and, for a regular
// file, its content; directories, links and devices have a nil reader. After the last file the error is
// io.EOF.
//
// A hard-link group is given once, under the name that carries the content (rpm writes it with the last
// one); the other names are those of [Payload.Links]. What the caller leaves unread of a file is read and
// checked by the next call. Errors wrap [ErrFormat], [ErrTruncated], [ErrDigest] or [ErrUnsupported], and
// all later calls repeat them.
func (p *Payload) Next() (int, io.Reader, error) {
	if p.err != nil {
		return 0, nil, p.err
	}
	i, r, err := p.next()
	if err != nil {
		p.err = err
		if !errors.Is(err, io.EOF) || errors.Is(err, ErrFormat) {
			p.err = fmt.Errorf("read payload: %w", err)
		}
		return 0, nil, p.err
	}
	return i, r, nil
}

func (p *Payload) next() (int, io.Reader, error) {
	for {
		if err := p.finish(); err != nil {
			return 0, nil, err
		}
		ent, err := p.readCPIO()
		if err != nil {
			return 0, nil, err
		}
		if ent.trailer {
			return 0, nil, p.end()
		}
		give, err := p.open(ent)
		if err != nil {
			return 0, nil, fmt.Errorf("file %s: %w", p.files[ent.index].Path, err)
		}
		if !give {
			continue
		}
		if p.cur == nil {
			return ent.index, nil, nil
		}
		return ent.index, p.cur, nil
	}
}

// finish reads and checks what is left of the current file.
func (p *Payload) finish() error {
	if p.cur == nil {
		return nil
	}
	c := p.cur
	p.cur = nil
	if _, err := io.Copy(io.Discard, c); err != nil {
		return err
	}
	return p.pad()
}

// open checks one entry against the header and sets p.cur for a regular file with data. It says whether
// the entry is to be given to the caller.
func (p *Payload) open(ent cpioEntry) (bool, error) {
	f := &p.files[ent.index]
	if !ent.stripped && ent.mode&ModeTypeMask != f.Mode&ModeTypeMask {
		return false, fmt.Errorf("file type %#o in the archive, %#o in the header: %w", ent.mode, f.Mode, ErrFormat)
	}
	first := !p.seen[ent.index]
	p.seen[ent.index] = true
	if !first {
		return false, fmt.Errorf("stands twice in the archive: %w", ErrFormat)
	}
	switch {
	case f.IsRegular():
		return p.openRegular(ent, f)
	case f.IsSymlink():
		return true, p.checkLink(ent, f)
	}
	if !ent.stripped && ent.size != 0 {
		return false, fmt.Errorf("%d bytes of data in an entry that has none: %w", ent.size, ErrFormat)
	}
	return true, nil
}

func (p *Payload) openRegular(ent cpioEntry, f *File) (bool, error) {
	group := p.Links(ent.index)
	size := ent.size
	if ent.stripped {
		size = f.Size
		if group != nil && group[len(group)-1] != ent.index {
			size = 0
		}
	}
	if group != nil && size == 0 && (f.Size > 0 || !p.allSeen(group)) {
		return false, nil // a further name; the content comes with another one
	}
	if size != f.Size {
		return false, fmt.Errorf("%d bytes in the archive, %d in the header: %w", size, f.Size, ErrDigest)
	}
	give := true
	if group != nil {
		// A builder that repeats the content for every name has it checked, but given only once.
		give = !p.given[f.linkKey()]
		p.given[f.linkKey()] = true
	}
	c := &content{p: p, name: f.Path, left: size, size: size, digest: f.Digest}
	if f.Digest != "" {
		h := p.pkg.FileDigestHash()
		if h == 0 || !h.Available() {
			return false, fmt.Errorf("digest algorithm: %w", ErrUnsupported)
		}
		c.sum = h.New()
	}
	p.cur = c
	return give, nil
}

func (p *Payload) allSeen(group []int) bool {
	for _, i := range group {
		if !p.seen[i] {
			return false
		}
	}
	return true
}

func (p *Payload) checkLink(ent cpioEntry, f *File) error {
	size := ent.size
	if ent.stripped {
		size = f.Size
	}
	if size > maxName {
		return fmt.Errorf("link target of %d bytes: %w", size, ErrFormat)
	}
	b, err := p.read(int(size))
	if err != nil {
		return err
	}
	if target := strings.TrimRight(string(b), "\x00"); target != f.Link {
		return fmt.Errorf("link to %q in the archive, to %q in the header: %w", target, f.Link, ErrDigest)
	}
	return p.pad()
}

// end checks that nothing is missing and that only zeros follow the trailer.
func (p *Payload) end() error {
	for i := range p.files {
		f := &p.files[i]
		if g := p.Links(i); g != nil && !p.given[f.linkKey()] {
			return fmt.Errorf("file %s: no content for its hard links: %w", f.Path, ErrFormat)
		}
		if f.IsRegular() && !f.IsGhost() && !p.seen[i] {
			return fmt.Errorf("file %s: not in the archive: %w", f.Path, ErrFormat)
		}
	}
	var buf [4096]byte
	for total := 0; ; {
		n, err := p.r.Read(buf[:])
		total += n
		if strings.Trim(string(buf[:n]), "\x00") != "" || total > 1<<20 {
			return fmt.Errorf("data after the trailer at offset %d: %w", p.offset, ErrFormat)
		}
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		if err != nil {
			return p.wrap(err)
		}
	}
}

// Read gives the file's bytes; the last read compares size and digest and returns ErrDigest instead of
// io.EOF where they differ.
func (c *content) Read(b []byte) (int, error) {
	if c.done != nil {
		return 0, c.done
	}
	if c.left == 0 {
		c.done = c.check()
		return 0, c.done
	}
	if int64(len(b)) > c.left {
		b = b[:c.left]
	}
	n, err := c.p.r.Read(b)
	c.left -= int64(n)
	c.p.offset += int64(n)
	if c.sum != nil {
		c.sum.Write(b[:n])
	}
	if err != nil {
		c.done = fmt.Errorf("file %s: %w", c.name, c.p.wrap(err))
		return n, c.done
	}
	return n, nil
}

func (c *content) check() error {
	if c.sum == nil {
		return io.EOF
	}
	if got := fmt.Sprintf("%x", c.sum.Sum(nil)); !strings.EqualFold(got, c.digest) {
		return fmt.Errorf("file %s: digest %s in the payload, %s in the header: %w", c.name, got, c.digest, ErrDigest)
	}
	return io.EOF
}

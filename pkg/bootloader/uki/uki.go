// SPDX-License-Identifier: Apache-2.0

// Package uki reads what EFI programs say of themselves, unified kernel images
// above all: PE files whose sections carry a kernel, an initramfs and texts (UAPI.5,
// Unified Kernel Image). It is pure, reads headers and texts only, and forward.
//
// The standard library's debug/pe is not meant for hostile input: it reads symbols
// and relocations, as many as the file claims, and names sections by a table of
// strings behind them. None of that matters here.
package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// ErrInvalid reports a file that is no EFI program, or a damaged one.
var ErrInvalid = errors.New("no valid EFI program")

// Bounds of what is read into memory, in bytes.
const (
	maxHead     = 64 << 10 // all headers are within it
	maxText     = 64 << 10 // of one section
	maxSections = 96       // as the loader of Windows has it; real images have about 20
)

// Image is an EFI program.
type Image struct {
	Signed bool // it has a signature; not that anybody trusts it
	Linux  bool // it carries a kernel: it is a unified kernel image
	Initrd bool // it carries an initramfs
	// HasCmdline tells that it has a command line of its own, perhaps an empty one. Its
	// stub takes another one only if Secure Boot is off.
	HasCmdline bool
	Cmdline    string
	Uname      string // release of the kernel, "" if it does not say
	OSRelease  string // the os-release of its system
	SBAT       string // lines NAME,GENERATION,… by which Secure Boot revokes programs
}

// section is a row of the section table.
type section struct {
	name      string
	offset    int64
	size      int64
	text      *string
	overrides bool // it belongs to the first profile
}

// Read reads an image of size bytes from its start. It seeks where r can, and reads
// over what is between texts where not. An image with several profiles is read as its
// stub starts it by default, with the first of them.
func Read(r io.Reader, size int64) (Image, error) {
	var img Image
	head := make([]byte, min(max(size, 0), maxHead))
	if _, err := io.ReadFull(r, head); err != nil {
		return img, readError(err)
	}
	table, err := img.headers(head, size)
	if err != nil {
		return img, err
	}
	wanted, err := img.choose(table)
	if err != nil {
		return img, err
	}
	// In the order of the file, those that override behind what they override.
	slices.SortStableFunc(wanted, func(a, b section) int { return int(min(1, max(-1, a.offset-b.offset))) })
	f := forward{r: r, head: head, at: int64(len(head))}
	texts := make([]string, len(wanted))
	for i, s := range wanted {
		if texts[i], err = f.text(s); err != nil {
			return img, err
		}
	}
	for _, overrides := range []bool{false, true} {
		for i, s := range wanted {
			if s.overrides == overrides {
				*s.text = texts[i]
			}
		}
	}
	return img, nil
}

func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends too early", ErrInvalid)
	}
	return err
}

// Offsets within the headers, from the specification of PE.
const (
	dosHeader     = 64
	peAt          = 0x3c // where the DOS header says where the PE header is
	fileHeader    = 24   // with the signature before it
	subsystemAt   = 68   // in the optional header
	sectionHeader = 40
	certificates  = 4 // number of the data directory
	efiProgram    = 10
)

// headers reads what is before the sections, and their table.
func (img *Image) headers(head []byte, size int64) ([]section, error) {
	bad := func(what string) ([]section, error) { return nil, fmt.Errorf("%w: %s", ErrInvalid, what) }
	if len(head) < dosHeader || string(head[:2]) != "MZ" {
		return bad("no DOS header")
	}
	at := int64(binary.LittleEndian.Uint32(head[peAt:]))
	if at < dosHeader || at+fileHeader > int64(len(head)) || string(head[at:at+4]) != "PE\x00\x00" {
		return bad("no PE header")
	}
	count := int(binary.LittleEndian.Uint16(head[at+6:]))
	optional := head[at+fileHeader:]
	n := int(binary.LittleEndian.Uint16(head[at+20:]))
	if count > maxSections || n > len(optional) || len(optional)-n < count*sectionHeader {
		return bad("headers too long")
	}
	table, optional := optional[n:], optional[:n]
	if err := img.optional(optional, size); err != nil {
		return nil, err
	}
	var out []section
	for ; count > 0; count-- {
		s, err := readSection(table[:sectionHeader], size)
		if err != nil {
			return nil, err
		}
		out, table = append(out, s), table[sectionHeader:]
	}
	return out, nil
}

func (img *Image) optional(b []byte, size int64) error {
	if len(b) < subsystemAt+2 || binary.LittleEndian.Uint16(b[subsystemAt:]) != efiProgram {
		return fmt.Errorf("%w: it is for another subsystem", ErrInvalid)
	}
	directories := 0
	switch binary.LittleEndian.Uint16(b) {
	case 0x10b: // 32 bits
		directories = 92
	case 0x20b:
		directories = 108
	default:
		return fmt.Errorf("%w: neither PE32 nor PE32+", ErrInvalid)
	}
	at := directories + 4 + certificates*8
	if len(b) < at+8 || binary.LittleEndian.Uint32(b[directories:]) <= certificates {
		return nil
	}
	offset, n := int64(binary.LittleEndian.Uint32(b[at:])), int64(binary.LittleEndian.Uint32(b[at+4:]))
	if n > 0 && offset+n > size {
		return fmt.Errorf("%w: it ends before its signature", ErrInvalid)
	}
	img.Signed = n > 0
	return nil
}

func readSection(b []byte, size int64) (section, error) {
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }
	// The size in the file is padded, that in memory is not.
	s := section{name: string(bytes.TrimRight(b[:8], "\x00")), offset: u32(20), size: min(u32(8), u32(16))}
	if s.size > 0 && s.offset+s.size > size {
		return s, fmt.Errorf("%w: it ends before its section %q", ErrInvalid, s.name)
	}
	return s, nil
}

// choose finds the sections that count: those before the first .profile, and those of
// the first profile, which override them. Of each kind there is one.
func (img *Image) choose(table []section) ([]section, error) {
	texts := map[string]*string{".cmdline": &img.Cmdline, ".uname": &img.Uname, ".osrel": &img.OSRelease, ".sbat": &img.SBAT}
	flags := map[string]*bool{".linux": &img.Linux, ".initrd": &img.Initrd, ".cmdline": &img.HasCmdline}
	seen := map[string]bool{}
	profiles := 0
	var out []section
	for _, s := range table {
		if s.name == ".profile" {
			profiles++
			clear(seen)
		}
		s.text, s.overrides = texts[s.name], profiles == 1
		flag := flags[s.name]
		if profiles > 1 || s.text == nil && flag == nil {
			continue
		}
		if seen[s.name] {
			return nil, fmt.Errorf("%w: two sections %s", ErrInvalid, s.name)
		}
		seen[s.name] = true
		if flag != nil {
			*flag = true
		}
		if s.text != nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// forward reads sections in the order of the file.
type forward struct {
	r    io.Reader
	head []byte // what was read already
	at   int64  // where r is
}

func (f *forward) text(s section) (string, error) {
	if s.size > maxText {
		return "", fmt.Errorf("%w: section %s has %d bytes", ErrInvalid, s.name, s.size)
	}
	var data []byte
	if have := int64(len(f.head)); s.offset < have {
		data = slices.Clone(f.head[s.offset:min(have, s.offset+s.size)])
	}
	if rest := s.size - int64(len(data)); rest > 0 {
		if err := f.skip(s.offset + int64(len(data))); err != nil {
			return "", readError(err)
		}
		buf := make([]byte, rest)
		n, err := io.ReadFull(f.r, buf)
		f.at += int64(n)
		if err != nil {
			return "", readError(err)
		}
		data = append(data, buf...)
	}
	data = bytes.TrimRight(data, "\x00")
	if bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data) {
		return "", fmt.Errorf("%w: section %s is no text", ErrInvalid, s.name)
	}
	return string(bytes.TrimSpace(data)), nil
}

func (f *forward) skip(to int64) error {
	n := to - f.at
	if n < 0 {
		return fmt.Errorf("%w: sections overlap", ErrInvalid)
	}
	f.at = to
	if s, ok := f.r.(io.Seeker); ok {
		_, err := s.Seek(n, io.SeekCurrent)
		return err
	}
	_, err := io.CopyN(io.Discard, f.r, n)
	return err
}

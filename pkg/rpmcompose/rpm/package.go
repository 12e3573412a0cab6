// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

const leadSize = 96

var leadMagic = [4]byte{0xed, 0xab, 0xee, 0xdb}

// Lead is the fixed first part of a package file. Only its format number still means something.
type Lead struct {
	Major, Minor  uint8
	Type          uint16 // 0 binary, 1 source
	Arch          uint16
	Name          string
	OS            uint16
	SignatureType uint16
}

// Package is what stands before the payload of a package file, or the header of an installed package.
type Package struct {
	Lead Lead
	// Signature is the signature header; nil for a package that came from a database.
	Signature *Header
	// Header is the main header. From a database it also carries signature and installation tags.
	Header *Header
	// HeaderBytes is the main header exactly as in the file, its 8 byte magic included; nil for a
	// package that came from a database.
	HeaderBytes []byte
	// HeaderOffset and PayloadOffset are positions in the file; 0 for a package from a database.
	HeaderOffset, PayloadOffset int64

	evr EVR
}

// ReadPackage reads lead, signature header and main header, and leaves r at the first byte of the
// payload. It checks form, not digests or signatures: see [VerifyPackage].
//
// An error wraps [ErrFormat] and names the offset; the caller adds the file's name.
func ReadPackage(r io.Reader) (*Package, error) {
	p := &Package{}
	if err := p.readLead(r); err != nil {
		return nil, err
	}
	sig, raw, err := readHeader(r, leadSize, signatureHeader)
	if err != nil {
		return nil, err
	}
	p.Signature = sig
	end := int64(leadSize + len(raw))
	// The main header starts at a multiple of 8.
	pad := (8 - end%8) % 8
	if n, err := io.CopyN(io.Discard, r, pad); err != nil {
		return nil, readError("signature padding", end+n, err)
	}
	p.HeaderOffset = end + pad
	p.Header, p.HeaderBytes, err = readHeader(r, p.HeaderOffset, mainHeader)
	if err != nil {
		return nil, err
	}
	p.PayloadOffset = p.HeaderOffset + int64(len(p.HeaderBytes))
	return p, p.check()
}

// ParsePackage gives a package for a header blob without magic, as databases store it and as
// [Package.Blob] makes it.
func ParsePackage(blob []byte) (*Package, error) {
	h, err := ParseHeader(blob)
	if err != nil {
		return nil, err
	}
	p := &Package{Header: h}
	return p, p.check()
}

func (p *Package) readLead(r io.Reader) error {
	b := make([]byte, leadSize)
	if n, err := io.ReadFull(r, b); err != nil {
		return readError("lead", int64(n), err)
	}
	if [4]byte(b) != leadMagic {
		return fmt.Errorf("read lead: no package magic at offset 0: %w", ErrFormat)
	}
	p.Lead = Lead{
		Major: b[4], Minor: b[5],
		Type:          binary.BigEndian.Uint16(b[6:]),
		Arch:          binary.BigEndian.Uint16(b[8:]),
		Name:          cString(b[10:76]),
		OS:            binary.BigEndian.Uint16(b[76:]),
		SignatureType: binary.BigEndian.Uint16(b[78:]),
	}
	if p.Lead.Major < 3 || p.Lead.Major > 4 {
		return fmt.Errorf("read lead: format %d.%d: %w", p.Lead.Major, p.Lead.Minor, ErrFormat)
	}
	if p.Lead.SignatureType != 5 {
		return fmt.Errorf("read lead: signature type %d: %w", p.Lead.SignatureType, ErrFormat)
	}
	return nil
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// check makes sure of the tags that every caller relies on.
func (p *Package) check() error {
	for _, t := range []struct {
		tag  Tag
		name string
	}{{TagName, "name"}, {TagVersion, "version"}, {TagRelease, "release"}} {
		if e, ok := p.Header.Lookup(t.tag); !ok || e.Type != TypeString || p.Header.String(t.tag) == "" {
			return fmt.Errorf("read header: no %s: %w", t.name, ErrFormat)
		}
	}
	p.evr = EVR{Version: p.Header.String(TagVersion), Release: p.Header.String(TagRelease)}
	if epoch, ok := p.Header.Uint(TagEpoch); ok {
		p.evr.Epoch, p.evr.HasEpoch = uint32(epoch), true
	}
	return p.checkLists()
}

// checkLists makes sure that parallel lists agree.
func (p *Package) checkLists() error {
	for _, t := range []depTags{requireTags, provideTags, conflictTags, obsoleteTags, recommendTags, suggestTags, supplementTags, enhanceTags, orderTags} {
		if err := p.Header.checkDeps(t); err != nil {
			return err
		}
	}
	for _, t := range triggerTable {
		if err := p.Header.checkTriggers(t); err != nil {
			return err
		}
	}
	return p.checkFiles()
}

// IsSource says whether this is a source package.
func (p *Package) IsSource() bool {
	return p.Header.Has(TagSourcePackage) || !p.Header.Has(TagSourceRPM) && p.Lead.Major != 0 && p.Lead.Type == 1
}

// NEVRA gives the package's identity; a source package has the architecture "src".
func (p *Package) NEVRA() NEVRA {
	arch := p.Header.String(TagArch)
	if p.IsSource() {
		arch = "src"
	}
	return NEVRA{Name: p.Header.String(TagName), EVR: p.evr, Arch: arch}
}

// Name gives the package's name.
func (p *Package) Name() string { return p.Header.String(TagName) }

// Arch gives the architecture tag as stored.
func (p *Package) Arch() string { return p.Header.String(TagArch) }

// Summary gives the untranslated one-line description.
func (p *Package) Summary() string { return p.Header.String(TagSummary) }

// Description gives the untranslated long description.
func (p *Package) Description() string { return p.Header.String(TagDescription) }

// SourceRPM gives the file name of the source package.
func (p *Package) SourceRPM() string { return p.Header.String(TagSourceRPM) }

// License gives the licence text.
func (p *Package) License() string { return p.Header.String(TagLicense) }

// Vendor gives the vendor text.
func (p *Package) Vendor() string { return p.Header.String(TagVendor) }

// URL gives the project's address.
func (p *Package) URL() string { return p.Header.String(TagURL) }

// Size gives the installed size in bytes.
func (p *Package) Size() uint64 {
	if n, ok := p.Header.Uint(TagLongSize); ok {
		return n
	}
	n, _ := p.Header.Uint(TagSize)
	return n
}

// BuildTime gives the time of the build, zero if unknown.
func (p *Package) BuildTime() time.Time { return p.time(TagBuildTime) }

// InstallTime gives the time of the installation of a package from a database, zero otherwise.
func (p *Package) InstallTime() time.Time { return p.time(TagInstallTime) }

func (p *Package) time(tag Tag) time.Time {
	n, ok := p.Header.Uint(tag)
	if !ok {
		return time.Time{}
	}
	return time.Unix(int64(n), 0).UTC()
}

// ChangeLog is one entry of the changelog, newest first in the header.
type ChangeLog struct {
	Time   time.Time
	Author string
	Text   string
}

// ChangeLog gives the changelog as far as its three lists agree in length.
func (p *Package) ChangeLog() []ChangeLog {
	times, authors, texts := p.Header.Uints(TagChangelogTime), p.Header.Strings(TagChangelogName), p.Header.Strings(TagChangelogText)
	if len(times) != len(authors) || len(times) != len(texts) {
		return nil
	}
	out := make([]ChangeLog, len(times))
	for i := range times {
		out[i] = ChangeLog{Time: time.Unix(int64(times[i]), 0).UTC(), Author: authors[i], Text: texts[i]}
	}
	return out
}

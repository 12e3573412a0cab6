// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// The parsed form of a primary list, see docs/formats/repository-metadata.md. It is what reading the list makes
// first, and is far cheaper to read than that; the list's checksum is its name.
const (
	parsedMagic     = "HCPRIM01"
	parsedDigestEnd = len(parsedMagic) + sha256.Size
	parsedHeader    = parsedDigestEnd + 6*4
	parsedPackage   = (numTexts + 1 + numDepLists + 1) * 4 // with the version and the number of files; numbers follow
	parsedRecord    = parsedPackage + numNumbers*8
	parsedDep       = 3 * 4
	parsedEVR       = 4 * 4
	maxParsed       = 1 << 30
	hasEpoch        = 1
)

func parsedName(c fetch.Checksum) string { return "parsed/" + c.Algo + "-" + c.Hex }

// The texts of a package in the order of the file.
const (
	textName = iota
	textArch
	textLocation
	textBase
	textAlgo
	textHex
	textSummary
	textLicense
	textVendor
	textSource
	numTexts
)

func texts(p *Package) [numTexts]*string {
	return [...]*string{&p.NEVRA.Name, &p.NEVRA.Arch, &p.Location, &p.Base, &p.Checksum.Algo, &p.Checksum.Hex, &p.Summary, &p.License, &p.Vendor, &p.SourceRPM}
}

// The numbers of a package in the order of the file.
const (
	numberSize = iota
	numberInstalled
	numberArchive
	numberBuilt
	numNumbers
)

// The lists of dependencies in the order of the file.
const (
	depRequires = iota
	depProvides
	depConflicts
	depObsoletes
	depRecommends
	depSuggests
	depSupplements
	depEnhances
	numDepLists
)

func depLists(p *Package) [numDepLists]*[]rpm.Dep {
	return [...]*[]rpm.Dep{&p.Requires, &p.Provides, &p.Conflicts, &p.Obsoletes, &p.Recommends, &p.Suggests, &p.Supplements, &p.Enhances}
}

// encodeParsed writes packages; the place for the digest is left empty.
func encodeParsed(t *tables, batches []batch) []byte {
	le := binary.LittleEndian
	var packages, deps, files int
	for _, b := range batches {
		packages, deps, files = packages+len(b.packages), deps+len(b.deps), files+len(b.files)
	}
	size := parsedHeader + 4*len(t.texts.ends) + len(t.texts.blob) + parsedEVR*len(t.evrs) + parsedRecord*packages + parsedDep*deps + 4*files
	data := make([]byte, parsedDigestEnd, size)
	copy(data, parsedMagic)
	for _, n := range []int{len(t.texts.ends), len(t.texts.blob), len(t.evrs), packages, deps, files} {
		data = le.AppendUint32(data, uint32(n))
	}
	for _, e := range t.texts.ends {
		data = le.AppendUint32(data, e)
	}
	data = append(data, t.texts.blob...)
	for _, e := range t.evrs {
		data = le.AppendUint32(le.AppendUint32(le.AppendUint32(le.AppendUint32(data, e.flags), e.epoch), e.version), e.release)
	}
	for _, b := range batches {
		for i := range b.packages {
			data = b.packages[i].encode(data)
		}
	}
	for _, b := range batches {
		for _, d := range b.deps {
			data = le.AppendUint32(le.AppendUint32(le.AppendUint32(data, d.name), d.evr), d.flags)
		}
	}
	for _, b := range batches {
		for _, f := range b.files {
			data = le.AppendUint32(data, f)
		}
	}
	return data
}

func (p *record) encode(data []byte) []byte {
	le := binary.LittleEndian
	for _, id := range p.texts {
		data = le.AppendUint32(data, id)
	}
	data = le.AppendUint32(data, p.evr)
	for _, n := range p.deps {
		data = le.AppendUint32(data, n)
	}
	data = le.AppendUint32(data, p.files)
	for _, n := range p.nums {
		data = le.AppendUint64(data, uint64(n))
	}
	return data
}

// sealParsed writes the digest into its place.
func sealParsed(data []byte) {
	sum := sha256.Sum256(data[parsedDigestEnd:])
	copy(data[len(parsedMagic):], sum[:])
}

type parsedReader struct {
	strings []string
	evrs    []rpm.EVR

	deps, files []byte
	bad         bool
}

func (r *parsedReader) str(b []byte) string {
	n := binary.LittleEndian.Uint32(b)
	if int64(n) >= int64(len(r.strings)) {
		r.bad = true
		return ""
	}
	return r.strings[n]
}

func (r *parsedReader) evr(b []byte) rpm.EVR {
	n := binary.LittleEndian.Uint32(b)
	if int64(n) >= int64(len(r.evrs)) {
		r.bad = true
		return rpm.EVR{}
	}
	return r.evrs[n]
}

// decodeParsed reads what encodeParsed wrote. Everything is checked: the digest, all counts against the
// size, all indexes, and each package as if it came from the list itself.
func decodeParsed(data []byte, repoID string) ([]Package, error) {
	if len(data) < parsedHeader || string(data[:len(parsedMagic)]) != parsedMagic {
		return nil, badParsed("no header")
	}
	body := data[parsedDigestEnd:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], data[len(parsedMagic):parsedDigestEnd]) {
		return nil, badParsed("digest differs")
	}
	return decodeParsedBody(body, repoID)
}

func badParsed(what string) error { return fmt.Errorf("parsed list: %s: %w", what, ErrSyntax) }

// decodeParsedBody reads what follows the digest.
func decodeParsedBody(body []byte, repoID string) ([]Package, error) {
	le := binary.LittleEndian
	var n [6]int
	for i := range n {
		n[i] = int(le.Uint32(body[4*i:]))
	}
	rest := body[6*4:]
	take := func(size int) (out []byte) {
		if size > len(rest) {
			size = len(rest) // the sum of all sizes is compared below
		}
		out, rest = rest[:size], rest[size:]
		return out
	}
	if want := 4*n[0] + n[1] + parsedEVR*n[2] + parsedRecord*n[3] + parsedDep*n[4] + 4*n[5]; want != len(rest) {
		return nil, badParsed("sizes do not add up")
	}
	r := &parsedReader{strings: make([]string, n[0]), evrs: make([]rpm.EVR, n[2])}
	ends, blob := take(4*n[0]), string(take(n[1])) // one piece of memory for all strings
	from := uint32(0)
	for i := range r.strings {
		to := le.Uint32(ends[4*i:])
		if to < from || int64(to) > int64(len(blob)) {
			return nil, badParsed("string out of bounds")
		}
		r.strings[i], from = blob[from:to], to
	}
	evrs := take(parsedEVR * n[2])
	for i := range r.evrs {
		b := evrs[parsedEVR*i:]
		r.evrs[i] = rpm.EVR{HasEpoch: le.Uint32(b)&hasEpoch != 0, Epoch: le.Uint32(b[4:]), Version: r.str(b[8:]), Release: r.str(b[12:])}
	}
	packages := take(parsedRecord * n[3])
	r.deps, r.files = take(parsedDep*n[4]), take(4*n[5])
	out, err := r.packages(packages, n[3], repoID)
	if err == nil && (r.bad || len(r.deps)+len(r.files) > 0) {
		err = badParsed("index out of bounds")
	}
	return out, err
}

func (r *parsedReader) packages(b []byte, count int, repoID string) ([]Package, error) {
	le := binary.LittleEndian
	out := make([]Package, count)
	deps := make([]rpm.Dep, len(r.deps)/parsedDep)
	files := make([]string, len(r.files)/4)
	for i := range out {
		p := &out[i]
		rec := b[parsedRecord*i:]
		p.RepoID = repoID
		for k, s := range texts(p) {
			*s = r.str(rec[4*k:])
		}
		p.NEVRA.EVR = r.evr(rec[4*numTexts:])
		for k, l := range depLists(p) {
			n := int(le.Uint32(rec[4*(numTexts+1+k):]))
			if n > len(deps) {
				return nil, fmt.Errorf("parsed list: package %d has too many dependencies: %w", i, ErrSyntax)
			}
			if n == 0 {
				continue
			}
			*l, deps = deps[:n:n], deps[n:]
			r.readDeps(*l)
		}
		n := int(le.Uint32(rec[parsedPackage-4:]))
		if n > len(files) {
			return nil, fmt.Errorf("parsed list: package %d has too many files: %w", i, ErrSyntax)
		}
		if n > 0 {
			p.Files, files = files[:n:n], files[n:]
		}
		for k := range p.Files {
			p.Files[k] = r.str(r.files[4*k:])
		}
		r.files = r.files[4*n:]
		rec = rec[parsedPackage:]
		p.Size, p.InstalledSize, p.ArchiveSize = int64(le.Uint64(rec)), int64(le.Uint64(rec[8:])), int64(le.Uint64(rec[16:]))
		p.BuildTime = time.Unix(int64(le.Uint64(rec[24:])), 0).UTC()
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("package %s: %w", p.NEVRA, err)
		}
	}
	return out, nil
}

func (r *parsedReader) readDeps(out []rpm.Dep) {
	for i := range out {
		b := r.deps[parsedDep*i:]
		d := &out[i]
		d.Name, d.EVR, d.Flags = r.str(b), r.evr(b[4:]), rpm.DepFlags(binary.LittleEndian.Uint32(b[8:]))
		d.Rich = len(d.Name) > 0 && d.Name[0] == '('
	}
	r.deps = r.deps[parsedDep*len(out):]
}

// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// The parsed form of a primary list, see docs/formats/repository-metadata.md. It holds what ParsePrimary
// gives and is far cheaper to read; the list's checksum is its name.
const (
	parsedMagic   = "HCPRIM01"
	parsedHeader  = len(parsedMagic) + sha256.Size + 6*4
	parsedPackage = (11 + 9) * 4 // strings, EVR and counts; four 64-bit numbers follow
	parsedRecord  = parsedPackage + 4*8
	parsedDep     = 3 * 4
	parsedEVR     = 4 * 4
	maxParsed     = 1 << 30
	hasEpoch      = 1
)

func parsedName(c fetch.Checksum) string { return "parsed/" + c.Algo + "-" + c.Hex }

// depLists are the lists of dependencies in the order of the file.
func depLists(p *Package) [8]*[]rpm.Dep {
	return [8]*[]rpm.Dep{&p.Requires, &p.Provides, &p.Conflicts, &p.Obsoletes, &p.Recommends, &p.Suggests, &p.Supplements, &p.Enhances}
}

// texts are the strings of a package in the order of the file.
func texts(p *Package) [10]*string {
	return [10]*string{&p.NEVRA.Name, &p.NEVRA.Arch, &p.Location, &p.Base, &p.Checksum.Algo, &p.Checksum.Hex, &p.Summary, &p.License, &p.Vendor, &p.SourceRPM}
}

type parsedWriter struct {
	strings map[string]uint32
	ends    []uint32
	blob    []byte
	evrs    map[rpm.EVR]uint32
	evrData []byte

	packages, deps, files []byte
}

func (w *parsedWriter) str(s string) uint32 {
	id, ok := w.strings[s]
	if !ok {
		id = uint32(len(w.ends))
		w.strings[s] = id
		w.blob = append(w.blob, s...)
		w.ends = append(w.ends, uint32(len(w.blob)))
	}
	return id
}

func (w *parsedWriter) evr(e rpm.EVR) uint32 {
	id, ok := w.evrs[e]
	if !ok {
		id = uint32(len(w.evrs))
		w.evrs[e] = id
		var flags uint32
		if e.HasEpoch {
			flags = hasEpoch
		}
		for _, n := range []uint32{flags, e.Epoch, w.str(e.Version), w.str(e.Release)} {
			w.evrData = binary.LittleEndian.AppendUint32(w.evrData, n)
		}
	}
	return id
}

// encodeParsed writes packages; ok is false where they are too many for the form.
func encodeParsed(list []Package) (data []byte, ok bool) {
	le := binary.LittleEndian
	w := &parsedWriter{strings: map[string]uint32{}, evrs: map[rpm.EVR]uint32{}}
	for i := range list {
		p := &list[i]
		for _, s := range texts(p) {
			w.packages = le.AppendUint32(w.packages, w.str(*s))
		}
		w.packages = le.AppendUint32(w.packages, w.evr(p.NEVRA.EVR))
		for _, l := range depLists(p) {
			w.packages = le.AppendUint32(w.packages, uint32(len(*l)))
			for _, d := range *l {
				w.deps = le.AppendUint32(w.deps, w.str(d.Name))
				w.deps = le.AppendUint32(w.deps, w.evr(d.EVR))
				w.deps = le.AppendUint32(w.deps, uint32(d.Flags))
			}
		}
		w.packages = le.AppendUint32(w.packages, uint32(len(p.Files)))
		for _, n := range []int64{p.Size, p.InstalledSize, p.ArchiveSize, p.BuildTime.Unix()} {
			w.packages = le.AppendUint64(w.packages, uint64(n))
		}
		for _, f := range p.Files {
			w.files = le.AppendUint32(w.files, w.str(f))
		}
	}
	size := parsedHeader + 4*len(w.ends) + len(w.blob) + len(w.evrData) + len(w.packages) + len(w.deps) + len(w.files)
	if size > maxParsed {
		return nil, false
	}
	data = make([]byte, 0, size)
	data = append(append(data, parsedMagic...), make([]byte, sha256.Size)...)
	for _, n := range []int{len(w.ends), len(w.blob), len(w.evrs), len(list), len(w.deps) / parsedDep, len(w.files) / 4} {
		data = le.AppendUint32(data, uint32(n))
	}
	for _, e := range w.ends {
		data = le.AppendUint32(data, e)
	}
	data = slices.Concat(data, w.blob, w.evrData, w.packages, w.deps, w.files)
	sum := sha256.Sum256(data[len(parsedMagic)+sha256.Size:])
	copy(data[len(parsedMagic):], sum[:])
	return data, true
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
	le := binary.LittleEndian
	bad := func(what string) error { return fmt.Errorf("parsed list: %s: %w", what, ErrSyntax) }
	if len(data) < parsedHeader || string(data[:len(parsedMagic)]) != parsedMagic {
		return nil, bad("no header")
	}
	body := data[len(parsedMagic)+sha256.Size:]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], data[len(parsedMagic):len(parsedMagic)+sha256.Size]) {
		return nil, bad("digest differs")
	}
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
		return nil, bad("sizes do not add up")
	}
	r := &parsedReader{strings: make([]string, n[0]), evrs: make([]rpm.EVR, n[2])}
	ends, blob := take(4*n[0]), string(take(n[1])) // one piece of memory for all strings
	from := uint32(0)
	for i := range r.strings {
		to := le.Uint32(ends[4*i:])
		if to < from || int64(to) > int64(len(blob)) {
			return nil, bad("string out of bounds")
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
		err = bad("index out of bounds")
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
		p.NEVRA.EVR = r.evr(rec[40:])
		for k, l := range depLists(p) {
			n := int(le.Uint32(rec[44+4*k:]))
			if n > len(deps) {
				return nil, fmt.Errorf("parsed list: package %d has too many dependencies: %w", i, ErrSyntax)
			}
			if n == 0 {
				continue
			}
			*l, deps = deps[:n:n], deps[n:]
			r.readDeps(*l)
		}
		n := int(le.Uint32(rec[76:]))
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
			return nil, err
		}
		if _, err := fetch.Join("/", p.Location); err != nil {
			return nil, err
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

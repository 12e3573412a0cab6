// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// primaryReader turns primary.xml into records. Texts repeat so much that each is kept once, and so do whole
// dependencies: most need neither be cut into attributes nor looked up part by part.
type primaryReader struct {
	s      scanner
	tables *tables
	known  interner // raw tags of dependencies
	knownD []depRef // what they mean

	recent [8]recentText // what was read last: most versions repeat at once
	oldest int

	// The package that is being read.
	p     record
	deps  [numDepLists][]depRef
	files []uint32
	out   batch
}

type recentText struct {
	text []byte
	id   uint32
}

func newPrimaryReader() *primaryReader {
	return &primaryReader{tables: newTables(), known: newInterner()}
}

// ParsePrimary reads the text of a primary.xml. The packages of another type than "rpm" are left out.
//
// An error gives the offset and wraps [ErrSyntax].
func ParsePrimary(data []byte, repoID string) ([]Package, error) {
	again := func() ([]byte, error) { return data, nil }
	form, err := readPrimary(bytes.NewReader(data), again, partSize)
	if err != nil {
		return nil, fmt.Errorf("read primary list: %w", err)
	}
	return decodeParsedBody(form[parsedDigestEnd:], repoID)
}

// part is a piece of the list that starts at a <package> element and ends before one, except at both ends.
type part struct {
	text        []byte
	from        int // offset in the whole text
	first, last bool
}

// read gives the packages of one part. The texts of a part may be overwritten afterwards.
func (r *primaryReader) read(p part) (batch, error) {
	r.s = scanner{b: p.text, from: p.from, open: !p.last}
	r.out = batch{
		packages: make([]record, 0, sizeHint(len(r.out.packages))),
		deps:     make([]depRef, 0, sizeHint(len(r.out.deps))),
		files:    make([]uint32, 0, sizeHint(len(r.out.files))),
	}
	r.recent = [len(r.recent)]recentText{}
	if p.first {
		if tok, err := r.s.next(); err != nil || tok != tokenStart || string(r.s.name) != "metadata" {
			return batch{}, fmt.Errorf("no <metadata> element: %w", orSyntax(err))
		}
		var count int64
		if err := r.attrInt("packages", &count); err != nil {
			return batch{}, err
		}
	} else {
		r.s.depth = 1
	}
	for {
		tok, err := r.s.next()
		if err != nil {
			return batch{}, err
		}
		if tok == tokenEOF {
			return r.out, nil
		}
		if tok != tokenStart {
			continue
		}
		if string(r.s.name) != "package" || !r.attrIs("type", "rpm") {
			if err := r.s.skip(); err != nil {
				return batch{}, err
			}
			continue
		}
		if err := r.pkg(); err != nil {
			return batch{}, fmt.Errorf("package %s: %w", r.nevra(), err)
		}
	}
}

func orSyntax(err error) error {
	if err == nil {
		return ErrSyntax
	}
	return err
}

func (r *primaryReader) attrIs(want, value string) bool {
	for name, v, rest, ok := nextAttr(r.s.attrs); ok; name, v, rest, ok = nextAttr(rest) {
		if string(name) == want {
			return string(v) == value
		}
	}
	return false
}

// text replaces entities and gives the number of a text.
func (r *primaryReader) text(b []byte) (uint32, error) {
	for i := range r.recent {
		if string(r.recent[i].text) == string(b) {
			return r.recent[i].id, nil
		}
	}
	plain, err := unescape(b)
	if err != nil {
		return 0, err
	}
	id := r.tables.texts.id(plain)
	r.recent[r.oldest], r.oldest = recentText{b, id}, (r.oldest+1)%len(r.recent)
	return id, nil
}

func (r *primaryReader) textInto(k int) error {
	b, err := r.s.text()
	if err != nil {
		return err
	}
	r.p.texts[k], err = r.text(b)
	return err
}

func (r *primaryReader) string(k int) string { return string(r.tables.texts.at(r.p.texts[k])) }

// nevra names the current package in messages.
func (r *primaryReader) nevra() rpm.NEVRA {
	e := r.tables.evrs[r.p.evr]
	text := func(id uint32) string { return string(r.tables.texts.at(id)) }
	return rpm.NEVRA{Name: r.string(textName), Arch: r.string(textArch),
		EVR: rpm.EVR{HasEpoch: e.flags&hasEpoch != 0, Epoch: e.epoch, Version: text(e.version), Release: text(e.release)}}
}

// children calls read at the start of each child of the element that was begun.
func (r *primaryReader) children(read func() error) error {
	for {
		tok, err := r.s.next()
		if err != nil {
			return err
		}
		if tok == tokenEnd {
			return nil
		}
		if tok == tokenEOF {
			return r.s.fail("text ends inside a package")
		}
		if err := read(); err != nil {
			return err
		}
	}
}

// pkg reads the children of one <package>.
func (r *primaryReader) pkg() error {
	r.p, r.files = record{}, r.files[:0]
	r.p.nums[numberBuilt] = time.Time{}.Unix()
	for k := range r.deps {
		r.deps[k] = r.deps[k][:0]
	}
	if err := r.children(r.child); err != nil {
		return err
	}
	for k, l := range r.deps {
		r.p.deps[k] = uint32(len(l))
		r.out.deps = append(r.out.deps, l...)
	}
	r.p.files = uint32(len(r.files))
	r.out.files = append(r.out.files, r.files...)
	r.out.packages = append(r.out.packages, r.p)
	return nil
}

func (p *Package) check() error {
	switch {
	case p.NEVRA.Name == "":
		return fmt.Errorf("no name: %w", ErrSyntax)
	case p.NEVRA.Version == "" || p.NEVRA.Arch == "":
		return fmt.Errorf("no version or architecture: %w", ErrSyntax)
	case p.Location == "":
		return fmt.Errorf("no location: %w", ErrSyntax)
	case p.Checksum.Hex == "":
		return fmt.Errorf("no checksum: %w", ErrSyntax)
	}
	// A name that climbs out of the repository is refused.
	if _, err := fetch.Join("/", p.Location); err != nil {
		return err
	}
	_, err := p.Checksum.Hash()
	return err
}

func (r *primaryReader) child() error {
	switch string(r.s.name) {
	case "name":
		return r.textInto(textName)
	case "arch":
		return r.textInto(textArch)
	case "summary":
		return r.textInto(textSummary)
	case "version":
		var err error
		r.p.evr, err = r.evr(r.s.attrs)
		return firstError(err, r.s.skip())
	case "checksum":
		if err := r.attrText("type", textAlgo); err != nil {
			return err
		}
		if r.string(textAlgo) == "sha" {
			r.p.texts[textAlgo] = r.tables.texts.id([]byte("sha1"))
		}
		b, err := r.s.text()
		r.p.texts[textHex] = r.tables.texts.id(b)
		return err
	case "time":
		r.p.nums[numberBuilt] = 0
		return firstError(r.attrInt("build", &r.p.nums[numberBuilt]), r.s.skip())
	case "size":
		return firstError(r.attrInt("package", &r.p.nums[numberSize]), r.attrInt("installed", &r.p.nums[numberInstalled]),
			r.attrInt("archive", &r.p.nums[numberArchive]), r.s.skip())
	case "location":
		return firstError(r.attrText("href", textLocation), r.attrText("xml:base", textBase), r.s.skip())
	case "format":
		return r.children(r.formatChild)
	}
	return r.s.skip()
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *primaryReader) attrText(want string, k int) error {
	for name, v, rest, ok := nextAttr(r.s.attrs); ok; name, v, rest, ok = nextAttr(rest) {
		if string(name) == want {
			id, err := r.text(v)
			r.p.texts[k] = id
			return err
		}
	}
	return nil
}

func (r *primaryReader) attrInt(want string, dst *int64) error {
	for name, v, rest, ok := nextAttr(r.s.attrs); ok; name, v, rest, ok = nextAttr(rest) {
		if string(name) != want || len(v) == 0 {
			continue
		}
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("%s is %q: %w", want, v, ErrSyntax)
		}
		*dst = n
	}
	return nil
}

// formatChild reads a child of the <format> element: dependencies and the short file list.
func (r *primaryReader) formatChild() error {
	switch string(r.s.name) {
	case "license":
		return r.textInto(textLicense)
	case "vendor":
		return r.textInto(textVendor)
	case "sourcerpm":
		return r.textInto(textSource)
	case "file":
		b, err := r.s.text()
		if err != nil {
			return err
		}
		id, err := r.text(b)
		r.files = append(r.files, id)
		return err
	}
	if k, ok := depListOf(string(r.s.name)); ok {
		return r.depList(&r.deps[k])
	}
	return r.s.skip()
}

func depListOf(element string) (k int, ok bool) {
	switch element {
	case "requires":
		return depRequires, true
	case "provides":
		return depProvides, true
	case "conflicts":
		return depConflicts, true
	case "obsoletes":
		return depObsoletes, true
	case "recommends":
		return depRecommends, true
	case "suggests":
		return depSuggests, true
	case "supplements":
		return depSupplements, true
	case "enhances":
		return depEnhances, true
	}
	return 0, false
}

func (r *primaryReader) depList(dst *[]depRef) error {
	list := *dst
	if r.s.pendClose {
		return r.s.skip()
	}
	for {
		raw := r.s.emptyTag()
		if id, ok := r.knownDep(raw); ok {
			list = append(list, r.knownD[id])
			r.s.i += len(raw)
			continue
		}
		start := r.s.i
		tok, err := r.s.next()
		if err != nil {
			return err
		}
		switch {
		case tok == tokenEnd:
			*dst = list
			return nil
		case tok == tokenEOF:
			return r.s.fail("text ends inside a package")
		case string(r.s.name) != "entry":
			if err := r.s.skip(); err != nil {
				return err
			}
			continue
		}
		d, err := r.dep(r.s.attrs)
		if err != nil {
			return err
		}
		list = append(list, d)
		if r.s.selfClose && r.s.i == start+len(raw) {
			r.known.id(raw)
			r.knownD = append(r.knownD, d)
		}
		if err := r.s.skip(); err != nil {
			return err
		}
	}
}

// knownDep looks for a dependency that was read before. All of them are forgotten when they take too much room.
func (r *primaryReader) knownDep(raw []byte) (uint32, bool) {
	if len(raw) == 0 {
		return 0, false
	}
	if len(r.known.blob) > maxKnown {
		r.known, r.knownD = newInterner(), r.knownD[:0]
	}
	return r.known.find(raw)
}

// maxKnown bounds the text of the dependencies that are remembered, in bytes.
const maxKnown = 32 << 20

func (r *primaryReader) dep(attrs []byte) (d depRef, err error) {
	var evr evrReader
	var sense rpm.DepFlags
	for name, v, rest, ok := nextAttr(attrs); ok; name, v, rest, ok = nextAttr(rest) {
		switch string(name) {
		case "name":
			d.name, err = r.text(v)
		case "flags":
			sense, err = parseSense(v)
		case "pre":
			if string(v) == "1" {
				d.flags |= uint32(rpm.DepPreReq)
			}
		default:
			err = evr.part(r, name, v)
		}
		if err != nil {
			return d, err
		}
	}
	name := r.tables.texts.at(d.name)
	if len(name) == 0 {
		return d, fmt.Errorf("dependency without name: %w", ErrSyntax)
	}
	d.flags |= uint32(sense)
	if name[0] != '(' && sense != 0 {
		d.evr = r.tables.version(evr.EVR, evr.version, evr.release)
	}
	return d, nil
}

func parseSense(v []byte) (rpm.DepFlags, error) {
	switch string(v) {
	case "":
		return 0, nil
	case "EQ":
		return rpm.DepEqual, nil
	case "LT":
		return rpm.DepLess, nil
	case "GT":
		return rpm.DepGreater, nil
	case "LE":
		return rpm.DepLess | rpm.DepEqual, nil
	case "GE":
		return rpm.DepGreater | rpm.DepEqual, nil
	}
	return 0, fmt.Errorf("comparison %q: %w", v, ErrSyntax)
}

// evrReader collects the attributes epoch, ver and rel.
type evrReader struct {
	rpm.EVR          // the epoch only
	version, release uint32
}

func (r *primaryReader) evr(attrs []byte) (uint32, error) {
	var e evrReader
	for name, v, rest, ok := nextAttr(attrs); ok; name, v, rest, ok = nextAttr(rest) {
		if err := e.part(r, name, v); err != nil {
			return 0, err
		}
	}
	return r.tables.version(e.EVR, e.version, e.release), nil
}

func (e *evrReader) part(r *primaryReader, name, v []byte) (err error) {
	switch string(name) {
	case "epoch":
		// Lists write a zero for every package without epoch.
		if len(v) == 0 || string(v) == "0" {
			return nil
		}
		n, err := strconv.ParseUint(string(v), 10, 32)
		if err != nil {
			return fmt.Errorf("epoch %q: %w", v, ErrSyntax)
		}
		e.Epoch, e.HasEpoch = uint32(n), n > 0
	case "ver":
		e.version, err = r.text(v)
	case "rel":
		e.release, err = r.text(v)
	}
	return err
}

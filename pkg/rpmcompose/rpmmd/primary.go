// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// primaryReader turns primary.xml into packages. Names repeat so much that each text is kept once.
type primaryReader struct {
	s      scanner
	repoID string
	intern map[string]string

	recent  [8]string // what was read last: most versions repeat at once
	oldest  int
	scratch []rpm.Dep
	files   []string
}

// ParsePrimary reads the text of a primary.xml. The packages of another type than "rpm" are left out.
//
// An error gives the offset and wraps [ErrSyntax].
func ParsePrimary(data []byte, repoID string) ([]Package, error) {
	parts := splitPackages(data)
	lists := make([][]Package, len(parts))
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, p := range parts {
		wg.Go(func() { lists[i], errs[i] = parsePart(p, repoID) })
	}
	wg.Wait()
	// The first error in order of the text does not depend on how it was cut.
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("read primary list: %w", err)
		}
	}
	return slices.Concat(lists...), nil
}

// part is a piece of the list that starts at a <package> element and ends before one, except at both ends.
type part struct {
	text        []byte
	from        int // offset in the whole text
	first, last bool
}

// minPart is how much text makes a part worth a goroutine, in bytes.
const minPart = 4 << 20

// splitPackages cuts a large list between packages. Where comments or CDATA could hold what looks like a
// package, it is read in one piece.
func splitPackages(data []byte) []part {
	n := min(len(data)/minPart, runtime.GOMAXPROCS(0))
	if n < 2 || bytes.Contains(data, []byte("<!")) {
		return []part{{data, 0, true, true}}
	}
	cuts := []int{0}
	for i := 1; i < n; i++ {
		at := max(len(data)/n*i, cuts[len(cuts)-1])
		k := bytes.Index(data[at:], []byte("<package "))
		if k < 0 {
			break
		}
		cuts = append(cuts, at+k)
	}
	out := make([]part, len(cuts))
	for i, c := range cuts {
		end := len(data)
		if i+1 < len(cuts) {
			end = cuts[i+1]
		}
		out[i] = part{data[c:end], c, i == 0, i+1 == len(cuts)}
	}
	return out
}

func parsePart(p part, repoID string) ([]Package, error) {
	r := &primaryReader{s: scanner{b: p.text, from: p.from, open: !p.last}, repoID: repoID, intern: make(map[string]string, 1<<12)}
	if p.first {
		if tok, err := r.s.next(); err != nil || tok != tokenStart || string(r.s.name) != "metadata" {
			return nil, fmt.Errorf("no <metadata> element: %w", orSyntax(err))
		}
		var count int64
		if err := r.attrInt("packages", &count); err != nil {
			return nil, err
		}
	} else {
		r.s.depth = 1
	}
	out := make([]Package, 0, bytes.Count(p.text, []byte("<package ")))
	for {
		tok, err := r.s.next()
		if err != nil {
			return nil, err
		}
		if tok == tokenEOF {
			return out, nil
		}
		if tok != tokenStart {
			continue
		}
		if string(r.s.name) != "package" || !r.attrIs("type", "rpm") {
			if err := r.s.skip(); err != nil {
				return nil, err
			}
			continue
		}
		out = append(out, Package{RepoID: repoID})
		k := &out[len(out)-1]
		if err := r.pkg(k); err != nil {
			return nil, fmt.Errorf("package %s: %w", k.NEVRA, err)
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

// str replaces entities and gives the one copy of a text.
func (r *primaryReader) str(b []byte) (string, error) {
	for _, s := range r.recent {
		if s == string(b) {
			return s, nil
		}
	}
	s, err := r.lookUp(b)
	if bytes.IndexByte(b, '&') < 0 {
		r.recent[r.oldest], r.oldest = s, (r.oldest+1)%len(r.recent)
	}
	return s, err
}

func (r *primaryReader) lookUp(b []byte) (string, error) {
	b, err := unescape(b)
	if err != nil {
		return "", err
	}
	if s, ok := r.intern[string(b)]; ok {
		return s, nil
	}
	s := string(b)
	r.intern[s] = s
	return s, nil
}

func (r *primaryReader) textInto(dst *string) error {
	b, err := r.s.text()
	if err != nil {
		return err
	}
	*dst, err = r.str(b)
	return err
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
func (r *primaryReader) pkg(p *Package) error {
	if err := r.children(func() error { return r.child(p) }); err != nil {
		return err
	}
	return p.check()
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
	if _, err := p.Checksum.Hash(); err != nil {
		return err
	}
	return nil
}

func (r *primaryReader) child(p *Package) error {
	switch string(r.s.name) {
	case "name":
		return r.textInto(&p.NEVRA.Name)
	case "arch":
		return r.textInto(&p.NEVRA.Arch)
	case "summary":
		return r.textInto(&p.Summary)
	case "version":
		evr, err := r.evr(r.s.attrs)
		p.NEVRA.EVR = evr
		return firstError(err, r.s.skip())
	case "checksum":
		if err := r.attrString("type", &p.Checksum.Algo); err != nil {
			return err
		}
		if p.Checksum.Algo == "sha" {
			p.Checksum.Algo = "sha1"
		}
		b, err := r.s.text()
		p.Checksum.Hex = string(b)
		return err
	case "time":
		var n int64
		err := r.attrInt("build", &n)
		p.BuildTime = time.Unix(n, 0).UTC()
		return firstError(err, r.s.skip())
	case "size":
		return firstError(r.attrInt("package", &p.Size), r.attrInt("installed", &p.InstalledSize), r.attrInt("archive", &p.ArchiveSize), r.s.skip())
	case "location":
		return firstError(r.attrString("href", &p.Location), r.attrString("xml:base", &p.Base), r.checkLocation(p), r.s.skip())
	case "format":
		return r.format(p)
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

// checkLocation refuses names that climb out of the repository.
func (r *primaryReader) checkLocation(p *Package) error {
	_, err := fetch.Join("/", p.Location)
	return err
}

func (r *primaryReader) attrString(want string, dst *string) error {
	for name, v, rest, ok := nextAttr(r.s.attrs); ok; name, v, rest, ok = nextAttr(rest) {
		if string(name) == want {
			s, err := r.str(v)
			*dst = s
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

// format reads the <format> element: dependencies and the short file list.
func (r *primaryReader) format(p *Package) error {
	r.files = r.files[:0]
	err := r.children(func() error { return r.formatChild(p) })
	if len(r.files) > 0 {
		p.Files = slices.Clone(r.files)
	}
	return err
}

func (r *primaryReader) formatChild(p *Package) error {
	switch string(r.s.name) {
	case "license":
		return r.textInto(&p.License)
	case "vendor":
		return r.textInto(&p.Vendor)
	case "sourcerpm":
		return r.textInto(&p.SourceRPM)
	case "file":
		var name string
		if err := r.textInto(&name); err != nil {
			return err
		}
		r.files = append(r.files, name)
		return nil
	case "provides":
		return r.depList(&p.Provides)
	case "requires":
		return r.depList(&p.Requires)
	case "conflicts":
		return r.depList(&p.Conflicts)
	case "obsoletes":
		return r.depList(&p.Obsoletes)
	case "recommends":
		return r.depList(&p.Recommends)
	case "suggests":
		return r.depList(&p.Suggests)
	case "supplements":
		return r.depList(&p.Supplements)
	case "enhances":
		return r.depList(&p.Enhances)
	}
	return r.s.skip()
}

func (r *primaryReader) depList(dst *[]rpm.Dep) error {
	r.scratch = r.scratch[:0]
	err := r.children(func() error {
		if string(r.s.name) == "entry" {
			d, err := r.dep(r.s.attrs)
			if err != nil {
				return err
			}
			r.scratch = append(r.scratch, d)
		}
		return r.s.skip()
	})
	if err == nil && len(r.scratch) > 0 {
		*dst = append(*dst, r.scratch...)
		*dst = slices.Clip(*dst)
	}
	return err
}

func (r *primaryReader) dep(attrs []byte) (rpm.Dep, error) {
	var d rpm.Dep
	var err error
	for name, v, rest, ok := nextAttr(attrs); ok; name, v, rest, ok = nextAttr(rest) {
		switch string(name) {
		case "name":
			d.Name, err = r.str(v)
		case "flags":
			var sense rpm.DepFlags
			sense, err = parseSense(v)
			d.Flags |= sense
		case "pre":
			if string(v) == "1" {
				d.Flags |= rpm.DepPreReq
			}
		default:
			err = r.evrPart(&d.EVR, name, v)
		}
		if err != nil {
			return d, err
		}
	}
	if d.Name == "" {
		return d, fmt.Errorf("dependency without name: %w", ErrSyntax)
	}
	d.Rich = d.Name[0] == '('
	if d.Rich || d.Sense() == 0 {
		d.EVR = rpm.EVR{}
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

// evr reads the attributes epoch, ver and rel.
func (r *primaryReader) evr(attrs []byte) (rpm.EVR, error) {
	var e rpm.EVR
	for name, v, rest, ok := nextAttr(attrs); ok; name, v, rest, ok = nextAttr(rest) {
		if err := r.evrPart(&e, name, v); err != nil {
			return e, err
		}
	}
	return e, nil
}

func (r *primaryReader) evrPart(e *rpm.EVR, name, v []byte) (err error) {
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
		e.Version, err = r.str(v)
	case "rel":
		e.Release, err = r.str(v)
	}
	return err
}

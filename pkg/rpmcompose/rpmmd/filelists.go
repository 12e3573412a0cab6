// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
)

// fileSearch is what is known of the complete file lists: the owners of the paths that were looked for. The
// lists themselves are many times larger than everything else, and are never held in memory.
type fileSearch struct {
	mu       sync.Mutex
	owners   map[string][]int // by path; indexes in Packages
	expected []string
	err      error
}

// Expect names paths that [Metadata.Owners] may be asked for. All of them are looked for when the first one is
// asked for, so that the file lists are read once.
func (m *Metadata) Expect(paths []string) {
	m.files.mu.Lock()
	defer m.files.mu.Unlock()
	m.files.expected = append(m.files.expected, paths...)
}

// Owners lists the packages, as indexes in Packages, that contain a path. It looks through the complete file
// lists, unless the answer is known; see [Metadata.Expect]. A repository without file lists knows only the
// short list of primary.xml, and that is searched then.
func (m *Metadata) Owners(ctx context.Context, path string) ([]int, error) {
	if !m.Has("filelists") {
		return m.primaryOwners(path), nil
	}
	s := &m.files
	s.mu.Lock()
	defer s.mu.Unlock()
	if found, ok := s.owners[path]; ok || s.err != nil {
		return found, s.err
	}
	wanted := append([]string{path}, s.expected...)
	s.expected = nil
	found, err := m.findOwners(ctx, wanted)
	if err != nil {
		s.err = fmt.Errorf("load repository %s: %w", m.Repo.ID, err)
		return nil, s.err
	}
	if s.owners == nil {
		s.owners = make(map[string][]int, len(wanted))
	}
	for i, p := range wanted {
		s.owners[p] = found[i]
	}
	return found[0], nil
}

func (m *Metadata) primaryOwners(path string) []int {
	var out []int
	for i := range m.Packages {
		if slices.Contains(m.Packages[i].Files, path) {
			out = append(out, i)
		}
	}
	return out
}

// fileHit is a wanted path in a package. Parts of the list are read out of order; at brings hits back into it.
type fileHit struct{ at, wanted, owner int }

// findOwners reads the file lists and gives the packages that contain each of the wanted paths, in file order.
func (m *Metadata) findOwners(ctx context.Context, wanted []string) ([][]int, error) {
	index := make(map[string]int, len(wanted))
	for i, p := range wanted {
		index[p] = i
	}
	var hits []fileHit
	err := m.readFiles(ctx, runtime.GOMAXPROCS(0), func() (fileFunc, func()) {
		var mine []fileHit
		found := func(at, owner int, path []byte) {
			if i, ok := index[string(path)]; ok {
				mine = append(mine, fileHit{at, i, owner})
			}
		}
		return found, func() { hits = append(hits, mine...) }
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(hits, func(a, b fileHit) int { return cmp.Compare(a.at, b.at) })
	out := make([][]int, len(wanted))
	for _, h := range hits {
		if !slices.Contains(out[h.wanted], h.owner) {
			out[h.wanted] = append(out[h.wanted], h.owner)
		}
	}
	// A path that was asked for twice has one index.
	for i, p := range wanted {
		out[i] = out[index[p]]
	}
	return out, nil
}

// Filelists gives the complete list of paths of every package, by index in Packages. For a large repository
// this takes much memory; [Metadata.Owners] answers single questions without it.
func (m *Metadata) Filelists(ctx context.Context) ([][]string, error) {
	out := make([][]string, len(m.Packages))
	err := m.readFiles(ctx, 1, func() (fileFunc, func()) {
		clear(out)
		last := 0
		found := func(at, owner int, path []byte) {
			if at != last { // a package that is listed twice counts once
				last, out[owner] = at, nil
			}
			out[owner] = append(out[owner], string(path))
		}
		return found, func() {}
	})
	if err != nil {
		return nil, fmt.Errorf("load repository %s: %w", m.Repo.ID, err)
	}
	return out, nil
}

// fileFunc is told of a file in the package whose files start at an offset of the list. The path is valid during
// the call.
type fileFunc func(at, owner int, path []byte)

// readFiles reads the file lists in as many goroutines as asked for. Each has a function from start and calls it
// for every file of a known package; when all have ended well, done is called for one after the other. Where
// the list cannot be read in parts, start is called once more, see [readPrimary].
func (m *Metadata) readFiles(ctx context.Context, goroutines int, start func() (found fileFunc, done func())) error {
	text, err := m.openList(ctx, "filelists")
	if err != nil {
		return err
	}
	defer text.close()
	byID := make(map[string]int, len(m.Packages))
	for i := range m.Packages {
		byID[m.Packages[i].Checksum.Hex] = i
	}
	workers, ends := make([]func(part) error, goroutines), make([]func(), goroutines)
	for i := range workers {
		r := &filesReader{byID: byID}
		r.found, ends[i] = start()
		workers[i] = r.read
	}
	failed, err := readParts(text, partSize, workers)
	if err != nil {
		return err
	}
	if failed {
		whole, err := m.readText(ctx, "filelists")
		if err != nil {
			return err
		}
		r := &filesReader{byID: byID}
		ends = ends[:1]
		r.found, ends[0] = start()
		if err := r.read(part{text: whole, first: true, last: true}); err != nil {
			l, _ := m.list("filelists")
			return fmt.Errorf("%s: %w", l.location, err)
		}
	}
	for _, end := range ends {
		end()
	}
	return nil
}

// filesReader reads the <file> elements of packages.
type filesReader struct {
	s     scanner
	byID  map[string]int
	found fileFunc
}

func (r *filesReader) read(p part) error {
	r.s = scanner{b: p.text, from: p.from, open: !p.last}
	if !p.first {
		r.s.depth = 1
	} else if tok, err := r.s.next(); err != nil || tok != tokenStart {
		return fmt.Errorf("no element: %w", orSyntax(err))
	}
	for {
		tok, err := r.s.next()
		if err != nil || tok == tokenEOF {
			return err
		}
		if tok != tokenStart {
			continue
		}
		owner := -1
		if string(r.s.name) == "package" {
			owner = r.owner()
		}
		if owner < 0 {
			err = r.s.skip()
		} else {
			err = r.pkg(owner)
		}
		if err != nil {
			return err
		}
	}
}

func (r *filesReader) owner() int {
	for name, v, rest, ok := nextAttr(r.s.attrs); ok; name, v, rest, ok = nextAttr(rest) {
		if i, known := r.byID[string(v)]; known && string(name) == "pkgid" {
			return i
		}
	}
	return -1
}

func (r *filesReader) pkg(owner int) error {
	at := r.s.from + r.s.i
	for depth := r.s.depth; r.s.depth >= depth; {
		raw, ok := r.s.plainFile()
		if !ok {
			tok, err := r.s.next()
			if err != nil {
				return err
			}
			if tok == tokenEOF {
				return r.s.fail("text ends inside a package")
			}
			if tok != tokenStart || string(r.s.name) != "file" {
				continue
			}
			if raw, err = r.s.text(); err != nil {
				return err
			}
		}
		path, err := unescape(raw)
		if err != nil {
			return err
		}
		r.found(at, owner, path)
	}
	return nil
}

// plainFile passes over a <file> element that comes next and has nothing but text in it, as most have.
func (s *scanner) plainFile() (text []byte, ok bool) {
	const open, closing = "<file>", "</file>"
	i := skipSpace(s.b, s.i)
	if s.pendClose || !bytes.HasPrefix(s.b[i:], []byte(open)) {
		return nil, false
	}
	i += len(open)
	n := bytes.IndexByte(s.b[i:], '<')
	if n < 0 || !bytes.HasPrefix(s.b[i+n:], []byte(closing)) {
		return nil, false
	}
	s.i = i + n + len(closing)
	return s.b[i : i+n], true
}

// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"strings"
)

// fileIndex keeps the text of filelists.xml, which is far smaller than its parsed form, and where each
// package starts in it.
type fileIndex struct {
	text   []byte
	starts []int // ascending offsets of <package>
	owners []int // index in Metadata.Packages, -1 if unknown
}

// loadFiles reads the filelists once.
func (m *Metadata) loadFiles(ctx context.Context) (*fileIndex, error) {
	m.filesOnce.Do(func() {
		m.files, m.filesErr = m.readFiles(ctx)
	})
	if m.filesErr != nil {
		return nil, fmt.Errorf("load repository %s: %w", m.Repo.ID, m.filesErr)
	}
	return m.files, nil
}

func (m *Metadata) readFiles(ctx context.Context) (*fileIndex, error) {
	text, err := m.readText(ctx, "filelists")
	if err != nil {
		return nil, err
	}
	byID := make(map[string]int, len(m.Packages))
	for i := range m.Packages {
		byID[m.Packages[i].Checksum.Hex] = i
	}
	fi := &fileIndex{text: text}
	open := []byte("<package ")
	for at := 0; ; {
		n := bytes.Index(text[at:], open)
		if n < 0 {
			return fi, nil
		}
		at += n
		end := bytes.IndexByte(text[at:], '>')
		if end < 0 {
			return nil, fmt.Errorf("%s: offset %d: tag without end: %w", m.lists["filelists"].location, at, ErrSyntax)
		}
		owner := -1
		attrs := text[at+len(open) : at+end]
		for name, v, rest, ok := nextAttr(attrs); ok; name, v, rest, ok = nextAttr(rest) {
			if string(name) == "pkgid" {
				if i, known := byID[string(v)]; known {
					owner = i
				}
			}
		}
		fi.starts, fi.owners = append(fi.starts, at), append(fi.owners, owner)
		at += end
	}
}

// Owners lists the packages, as indexes in Packages, that contain a path. It looks into the complete file
// lists, which are loaded on the first call. A repository without file lists knows only the short list of
// primary.xml, and that is searched then.
func (m *Metadata) Owners(ctx context.Context, path string) ([]int, error) {
	if !m.Has("filelists") {
		return m.primaryOwners(path), nil
	}
	fi, err := m.loadFiles(ctx)
	if err != nil {
		return nil, err
	}
	return fi.find(path), nil
}

func (m *Metadata) primaryOwners(path string) []int {
	var out []int
	for i := range m.Packages {
		for _, f := range m.Packages[i].Files {
			if f == path {
				out = append(out, i)
				break
			}
		}
	}
	return out
}

// find searches the text for the path between tags, and names the package around each hit.
func (fi *fileIndex) find(path string) []int {
	var out []int
	needle := []byte(">" + escapeText(path) + "</file>")
	for at := 0; ; {
		n := bytes.Index(fi.text[at:], needle)
		if n < 0 {
			return out
		}
		at += n
		pkg := sort.SearchInts(fi.starts, at+1) - 1
		if pkg >= 0 && fi.owners[pkg] >= 0 && (len(out) == 0 || out[len(out)-1] != fi.owners[pkg]) {
			out = append(out, fi.owners[pkg])
		}
		at += len(needle)
	}
}

// escapeText writes a path as list writers do: the three characters that text must not contain.
func escapeText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// Filelists gives the complete list of paths of every package, by index in Packages. For a large repository
// this takes much memory; [Metadata.Owners] answers single questions without it.
func (m *Metadata) Filelists(ctx context.Context) ([][]string, error) {
	fi, err := m.loadFiles(ctx)
	if err != nil {
		return nil, err
	}
	out := make([][]string, len(m.Packages))
	for n, owner := range fi.owners {
		if owner < 0 {
			continue
		}
		end := len(fi.text)
		if n+1 < len(fi.starts) {
			end = fi.starts[n+1]
		}
		files, err := parseFiles(fi.text[fi.starts[n]:end])
		if err != nil {
			return nil, fmt.Errorf("load repository %s: %s: package at offset %d: %w", m.Repo.ID, m.lists["filelists"].location, fi.starts[n], err)
		}
		out[owner] = files
	}
	return out, nil
}

// parseFiles reads the <file> elements of one package.
func parseFiles(b []byte) ([]string, error) {
	s := scanner{b: b}
	var out []string
	for {
		tok, err := s.next()
		if err != nil {
			return nil, err
		}
		if tok == tokenEOF || tok == tokenEnd && s.depth == 0 {
			return out, nil
		}
		if tok != tokenStart || string(s.name) != "file" {
			continue
		}
		raw, err := s.text()
		if err != nil {
			return nil, err
		}
		text, err := unescape(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, string(text))
	}
}

// SPDX-License-Identifier: Apache-2.0

// Package keyfile reads and writes the key file format that GLib defines and
// that OSTree uses for repository configuration, remotes and deployment
// origins: groups in brackets, KEY=VALUE lines, # comments.
//
// A parsed File keeps the order of its lines and its comments, so a program
// can change one key of a file that a person wrote and leave the rest alone.
// Whatever Parse accepts, Bytes writes in a form that parses to the same File.
//
// Where GLib is lenient in ways that hide damage this package is strict: the
// whole file must be UTF-8 without NUL bytes and must not exceed MaxSize.
package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// MaxSize bounds the size in bytes of a file that Parse and Read accept.
const MaxSize = 1 << 20

// ErrNotFound reports that a group or a key is absent.
var ErrNotFound = errors.New("not found")

// ErrTooLarge reports input beyond MaxSize.
var ErrTooLarge = errors.New("key file larger than 1 MiB")

// ParseError tells which line of the input is malformed.
type ParseError struct {
	Line int // counted from 1
	Msg  string
}

func (e *ParseError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// ValueError tells which key holds a value that cannot be read as asked.
type ValueError struct {
	Group, Key string
	Msg        string
}

func (e *ValueError) Error() string { return fmt.Sprintf("[%s] %s: %s", e.Group, e.Key, e.Msg) }

// File is a key file in memory. The zero value is an empty file. A File is not
// safe for use by several goroutines while one of them changes it.
type File struct {
	head   []string // blank lines and comments before everything else
	groups []*group
}

type group struct {
	name  string
	lead  []string // comment lines standing directly above the header
	lines []line
}

// line is one line of a group: a pair when key is set, else a blank line or a
// comment held in raw.
type line struct {
	raw   string
	key   string
	value string // raw: escapes not yet decoded
}

// New returns an empty file.
func New() *File { return &File{} }

// Read parses all of r, which must not hold more than MaxSize bytes.
func Read(r io.Reader) (*File, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	return Parse(data)
}

// Clone returns an independent copy.
func (f *File) Clone() *File {
	c := &File{head: slices.Clone(f.head)}
	for _, g := range f.groups {
		c.groups = append(c.groups, &group{
			name: g.name, lead: slices.Clone(g.lead), lines: slices.Clone(g.lines),
		})
	}
	return c
}

// Bytes returns the file as text, one newline at the end of every line.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	write := func(lines []string) {
		for _, l := range lines {
			b.WriteString(l)
			b.WriteByte('\n')
		}
	}
	write(f.head)
	for _, g := range f.groups {
		write(g.lead)
		b.WriteString("[" + g.name + "]\n")
		for _, l := range g.lines {
			b.WriteString(l.raw)
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// Groups returns the group names in file order. A group that the file opens
// several times is listed once.
func (f *File) Groups() []string {
	names := make([]string, 0, len(f.groups))
	for _, g := range f.groups {
		if !slices.Contains(names, g.name) {
			names = append(names, g.name)
		}
	}
	return names
}

// HasGroup tells whether the file has the group, with or without keys.
func (f *File) HasGroup(name string) bool {
	return slices.ContainsFunc(f.groups, func(g *group) bool { return g.name == name })
}

// Keys returns the keys of a group in file order, each once; nil when the
// group is absent.
func (f *File) Keys(groupName string) []string {
	var keys []string
	seen := map[string]bool{}
	for _, g := range f.groups {
		if g.name != groupName {
			continue
		}
		for _, l := range g.lines {
			if l.key != "" && !seen[l.key] {
				seen[l.key] = true
				keys = append(keys, l.key)
			}
		}
	}
	return keys
}

// find returns the line that holds the effective value of a key: the last one,
// as in GLib.
func (f *File) find(groupName, key string) *line {
	for i := len(f.groups) - 1; i >= 0; i-- {
		g := f.groups[i]
		if g.name != groupName {
			continue
		}
		for j := len(g.lines) - 1; j >= 0; j-- {
			if g.lines[j].key == key && key != "" {
				return &g.lines[j]
			}
		}
	}
	return nil
}

// Set stores a raw value: escapes are written as given. It creates the group
// and the key as needed, at the end. A value must be one line that does not
// start with white space; use SetString for arbitrary text.
func (f *File) Set(groupName, key, raw string) error {
	if err := checkGroupName(groupName); err != nil {
		return fmt.Errorf("set [%s] %s: %w", groupName, key, err)
	}
	if err := checkKeyName(key); err != nil {
		return fmt.Errorf("set [%s] %s: %w", groupName, key, err)
	}
	if err := checkRawValue(raw); err != nil {
		return fmt.Errorf("set [%s] %s: %w", groupName, key, err)
	}
	l := line{raw: key + "=" + raw, key: key, value: raw}
	if old := f.find(groupName, key); old != nil {
		*old = l
		return nil
	}
	g := f.lastGroup(groupName)
	if g == nil {
		g = f.appendGroup(groupName)
	}
	// New keys go in front of the blank lines and comments that end a group.
	at := len(g.lines)
	for at > 0 && strings.TrimSpace(g.lines[at-1].raw) == "" {
		at--
	}
	g.lines = slices.Insert(g.lines, at, l)
	return nil
}

// AddGroup makes sure that a group exists.
func (f *File) AddGroup(name string) error {
	if err := checkGroupName(name); err != nil {
		return fmt.Errorf("add group [%s]: %w", name, err)
	}
	if !f.HasGroup(name) {
		f.appendGroup(name)
	}
	return nil
}

// Remove deletes a key and tells whether it was there.
func (f *File) Remove(groupName, key string) bool {
	found := false
	for _, g := range f.groups {
		if g.name != groupName || key == "" {
			continue
		}
		n := len(g.lines)
		g.lines = slices.DeleteFunc(g.lines, func(l line) bool { return l.key == key })
		found = found || len(g.lines) < n
	}
	return found
}

// RemoveGroup deletes a group with its keys, the comments among them and the
// comment lines directly above its header. It tells whether the group existed.
func (f *File) RemoveGroup(name string) bool {
	n := len(f.groups)
	f.groups = slices.DeleteFunc(f.groups, func(g *group) bool { return g.name == name })
	if len(f.groups) == n {
		return false
	}
	f.trimEnd()
	return true
}

// trimEnd drops blank lines that separated the last group from a removed one.
func (f *File) trimEnd() {
	if len(f.groups) == 0 {
		return
	}
	g := f.groups[len(f.groups)-1]
	for len(g.lines) > 0 && strings.TrimSpace(g.lines[len(g.lines)-1].raw) == "" {
		g.lines = g.lines[:len(g.lines)-1]
	}
}

func (f *File) lastGroup(name string) *group {
	for i := len(f.groups) - 1; i >= 0; i-- {
		if f.groups[i].name == name {
			return f.groups[i]
		}
	}
	return nil
}

func (f *File) appendGroup(name string) *group {
	if n := len(f.groups); n > 0 {
		last := f.groups[n-1]
		if k := len(last.lines); k == 0 || strings.TrimSpace(last.lines[k-1].raw) != "" {
			last.lines = append(last.lines, line{})
		}
	}
	g := &group{name: name}
	f.groups = append(f.groups, g)
	return g
}

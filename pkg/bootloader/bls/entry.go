// SPDX-License-Identifier: Apache-2.0

// Package bls reads and writes Boot Loader Specification type 1 entries, the
// small text files in /loader/entries that describe one bootable kernel each,
// and the kernel command lines inside them. It is pure: bytes in, bytes out.
package bls

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxSize bounds an entry file in bytes; real ones have a few hundred.
const MaxSize = 64 << 10

// ErrInvalid reports an entry that cannot be read or written faithfully.
var ErrInvalid = errors.New("invalid boot entry")

// Field is one key of an entry that this package has no field for.
type Field struct{ Key, Value string }

// Entry is one boot entry. Paths are as they stand in the file, relative to the
// root of the partition that holds the loader directory.
type Entry struct {
	Title   string
	Version string // for ostree entries a decimal number, highest first in the menu
	Options string // the kernel command line, see ParseKargs
	Linux   string
	Initrd  []string // the initramfs, then overlays in load order

	DeviceTree string // one device tree file
	FDTDir     string // or a directory of them

	Extra []Field // unknown keys in file order
}

// Parse reads an entry file: one "key value" pair a line, '#' comments. A known
// key other than initrd and options must not repeat; several options lines
// join with a space, as the specification says.
func Parse(data []byte) (Entry, error) {
	if len(data) > MaxSize {
		return Entry{}, fmt.Errorf("%w: %d bytes", ErrInvalid, len(data))
	}
	if !utf8.Valid(data) {
		return Entry{}, fmt.Errorf("%w: not UTF-8", ErrInvalid)
	}
	var e Entry
	n := 0
	for line := range strings.SplitSeq(string(data), "\n") {
		n++
		line = strings.Trim(line, " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		if strings.IndexFunc(line, isControl) >= 0 {
			return Entry{}, fmt.Errorf("line %d: %w: control character", n, ErrInvalid)
		}
		if err := e.add(splitLine(line)); err != nil {
			return Entry{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return e, nil
}

func splitLine(line string) Field {
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return Field{Key: line}
	}
	return Field{Key: line[:i], Value: strings.TrimLeft(line[i:], " \t")}
}

func (e *Entry) add(f Field) error {
	switch f.Key {
	case "initrd":
		e.Initrd = append(e.Initrd, f.Value)
		return nil
	case "options":
		e.Options = strings.TrimSpace(e.Options + " " + f.Value)
		return nil
	}
	p := e.known(f.Key)
	if p == nil {
		e.Extra = append(e.Extra, f)
		return nil
	}
	if *p != "" {
		return fmt.Errorf("%w: key %q repeats", ErrInvalid, f.Key)
	}
	*p = f.Value
	return nil
}

func (e *Entry) known(key string) *string {
	switch key {
	case "title":
		return &e.Title
	case "version":
		return &e.Version
	case "linux":
		return &e.Linux
	case "devicetree":
		return &e.DeviceTree
	case "fdtdir":
		return &e.FDTDir
	}
	return nil
}

// Format writes the entry in the key order that libostree uses: title, version,
// options, devicetree, fdtdir, linux, initrd lines, unknown keys. Empty values
// of known keys are left out. A value that would break the line format is
// ErrInvalid.
func (e Entry) Format() ([]byte, error) {
	fields := []Field{
		{"title", e.Title}, {"version", e.Version}, {"options", e.Options},
		{"devicetree", e.DeviceTree}, {"fdtdir", e.FDTDir}, {"linux", e.Linux},
	}
	for _, i := range e.Initrd {
		fields = append(fields, Field{"initrd", i})
	}
	var b strings.Builder
	for _, f := range fields {
		if f.Value == "" {
			continue
		}
		if err := writeField(&b, f); err != nil {
			return nil, err
		}
	}
	for _, f := range e.Extra {
		if err := writeField(&b, f); err != nil {
			return nil, err
		}
	}
	if b.Len() > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrInvalid, b.Len())
	}
	return []byte(b.String()), nil
}

func writeField(b *strings.Builder, f Field) error {
	if f.Key == "" || f.Key[0] == '#' || strings.ContainsAny(f.Key, " \t") || strings.IndexFunc(f.Key, isControl) >= 0 {
		return fmt.Errorf("%w: key %q", ErrInvalid, f.Key)
	}
	if !utf8.ValidString(f.Value) || strings.IndexFunc(f.Value, isControl) >= 0 || strings.Trim(f.Value, " \t") != f.Value {
		return fmt.Errorf("%w: value of %s: %q", ErrInvalid, f.Key, f.Value)
	}
	// Without the space libostree drops a key that has no value.
	b.WriteString(f.Key + " " + f.Value + "\n")
	return nil
}

// isControl matches what would end a line or confuse a terminal; tab separates
// words and is allowed.
func isControl(r rune) bool { return r != '\t' && (r < 0x20 || r == 0x7f) }

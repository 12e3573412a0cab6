// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrBadEnvironment reports a GRUB environment block that cannot be read.
var ErrBadEnvironment = errors.New("bad GRUB environment block")

const (
	grubEnvSize   = 1024 // GRUB writes the file's blocks in place: the size never changes
	grubEnvHeader = "# GRUB Environment Block\n"
)

// grubVar is one variable of an environment block.
type grubVar struct{ name, value string }

// grubEnv is the content of an environment block, in order. The format is that
// of GRUB's lib/envblk: the header, lines NAME=VALUE in which a backslash takes
// the next byte literally, comment lines, then # up to the end.
type grubEnv []grubVar

func (e grubEnv) get(name string) string {
	if i := e.index(name); i >= 0 {
		return e[i].value
	}
	return ""
}

func (e grubEnv) index(name string) int {
	return slices.IndexFunc(e, func(v grubVar) bool { return v.name == name })
}

// with sets a variable in its place, or appends it.
func (e grubEnv) with(name, value string) grubEnv {
	out := slices.Clone(e)
	if i := e.index(name); i >= 0 {
		out[i].value = value
		return out
	}
	return append(out, grubVar{name, value})
}

func parseGrubEnv(data []byte) (grubEnv, error) {
	if len(data) != grubEnvSize {
		return nil, fmt.Errorf("%w: it has %d bytes, not %d", ErrBadEnvironment, len(data), grubEnvSize)
	}
	rest, ok := bytes.CutPrefix(data, []byte(grubEnvHeader))
	if !ok {
		return nil, fmt.Errorf("%w: no header", ErrBadEnvironment)
	}
	var env grubEnv
	for len(bytes.TrimLeft(rest, "#")) > 0 {
		at := grubEnvSize - len(rest)
		line, after, ok := cutEnvLine(rest)
		if !ok {
			return nil, fmt.Errorf("%w: offset %d: line without end", ErrBadEnvironment, at)
		}
		rest = after
		if line[0] == '#' {
			continue
		}
		v, err := parseEnvLine(line)
		if err != nil {
			return nil, fmt.Errorf("%w: offset %d: %w", ErrBadEnvironment, at, err)
		}
		if env.index(v.name) >= 0 {
			return nil, fmt.Errorf("%w: offset %d: %s is there twice", ErrBadEnvironment, at, v.name)
		}
		env = append(env, v)
	}
	return env, nil
}

// cutEnvLine cuts at the first line end that no backslash precedes. The line
// keeps it. A comment has no backslashes that mean anything.
func cutEnvLine(data []byte) (line, after []byte, ok bool) {
	for i := 0; i < len(data); i++ {
		switch {
		case data[i] == '\\' && data[0] != '#':
			i++
		case data[i] == '\n':
			return data[:i+1], data[i+1:], true
		}
	}
	return nil, nil, false
}

func parseEnvLine(line []byte) (grubVar, error) {
	name, raw, ok := strings.Cut(string(line[:len(line)-1]), "=")
	if !ok || !validEnvName(name) {
		return grubVar{}, fmt.Errorf("%.40q is no variable", line)
	}
	var value strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' {
			i++ // cutEnvLine made sure that a byte follows
		}
		value.WriteByte(raw[i])
	}
	return grubVar{name, value.String()}, nil
}

// validEnvName takes what GRUB's scripts can name.
func validEnvName(s string) bool {
	for i, r := range s {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// format returns the block, ErrBadEnvironment where it has no room.
func (e grubEnv) format() ([]byte, error) {
	b := bytes.NewBufferString(grubEnvHeader)
	escape := strings.NewReplacer(`\`, `\\`, "\n", "\\\n")
	for _, v := range e {
		if !validEnvName(v.name) {
			return nil, fmt.Errorf("%w: variable name %q", ErrBadEnvironment, v.name)
		}
		b.WriteString(v.name + "=" + escape.Replace(v.value) + "\n")
	}
	if b.Len() > grubEnvSize {
		return nil, fmt.Errorf("%w: %d bytes do not fit into %d", ErrBadEnvironment, b.Len(), grubEnvSize)
	}
	return append(b.Bytes(), bytes.Repeat([]byte{'#'}, grubEnvSize-b.Len())...), nil
}

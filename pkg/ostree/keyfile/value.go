// SPDX-License-Identifier: Apache-2.0

package keyfile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Get returns a value as it stands in the file, escapes not decoded.
func (f *File) Get(group, key string) (raw string, ok bool) {
	l := f.find(group, key)
	if l == nil {
		return "", false
	}
	return l.value, true
}

func (f *File) lookup(group, key string) (string, error) {
	raw, ok := f.Get(group, key)
	if !ok {
		return "", fmt.Errorf("[%s] %s: %w", group, key, ErrNotFound)
	}
	return raw, nil
}

// GetString returns a value with \s \n \t \r \\ decoded. Errors: ErrNotFound,
// or a *ValueError for an unknown escape.
func (f *File) GetString(group, key string) (string, error) {
	raw, err := f.lookup(group, key)
	if err != nil {
		return "", err
	}
	s, err := unescape(raw)
	if err != nil {
		return "", &ValueError{group, key, err.Error()}
	}
	return s, nil
}

// GetBool reads true, false, 1 or 0. Errors: ErrNotFound or a *ValueError.
func (f *File) GetBool(group, key string) (bool, error) {
	raw, err := f.lookup(group, key)
	if err != nil {
		return false, err
	}
	switch strings.TrimRight(raw, space) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, &ValueError{group, key, fmt.Sprintf("%q is not true, false, 1 or 0", raw)}
}

// GetInt reads a decimal number. Errors: ErrNotFound or a *ValueError.
func (f *File) GetInt(group, key string) (int64, error) {
	raw, err := f.lookup(group, key)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimRight(raw, space), 10, 64)
	if err != nil {
		return 0, &ValueError{group, key, fmt.Sprintf("%q is not a decimal number of 64 bits", raw)}
	}
	return n, nil
}

// GetStrings reads a list whose elements end in ';'; the last may lack it. An
// element may hold \; beside the escapes of GetString. Errors: ErrNotFound or
// a *ValueError.
func (f *File) GetStrings(group, key string) ([]string, error) {
	raw, err := f.lookup(group, key)
	if err != nil {
		return nil, err
	}
	list, err := splitList(raw)
	if err != nil {
		return nil, &ValueError{group, key, err.Error()}
	}
	return list, nil
}

// StringOr is GetString with a default for an absent key.
func (f *File) StringOr(group, key, def string) (string, error) {
	v, err := f.GetString(group, key)
	if errors.Is(err, ErrNotFound) {
		return def, nil
	}
	return v, err
}

// BoolOr is GetBool with a default for an absent key.
func (f *File) BoolOr(group, key string, def bool) (bool, error) {
	v, err := f.GetBool(group, key)
	if errors.Is(err, ErrNotFound) {
		return def, nil
	}
	return v, err
}

// IntOr is GetInt with a default for an absent key.
func (f *File) IntOr(group, key string, def int64) (int64, error) {
	v, err := f.GetInt(group, key)
	if errors.Is(err, ErrNotFound) {
		return def, nil
	}
	return v, err
}

// SetString stores text, escaped so that GetString returns it unchanged. Text
// with a NUL byte or invalid UTF-8 is an error, as is text that starts with a
// vertical tab or form feed, for which the format has no escape, and a name
// that the format cannot hold.
func (f *File) SetString(group, key, value string) error {
	return f.Set(group, key, escape(value, false))
}

// SetBool stores true or false.
func (f *File) SetBool(group, key string, value bool) error {
	return f.Set(group, key, strconv.FormatBool(value))
}

// SetInt stores a decimal number.
func (f *File) SetInt(group, key string, value int64) error {
	return f.Set(group, key, strconv.FormatInt(value, 10))
}

// SetStrings stores a list, every element ending in ';'.
func (f *File) SetStrings(group, key string, values []string) error {
	var b strings.Builder
	for _, v := range values {
		b.WriteString(escape(v, true))
		b.WriteByte(';')
	}
	return f.Set(group, key, b.String())
}

var (
	errEscape    = errors.New("unknown escape sequence")
	errEscapeEnd = errors.New("backslash at the end of the line")
)

// unescapeByte decodes the byte behind a backslash.
func unescapeByte(c byte) (byte, error) {
	switch c {
	case 's':
		return ' ', nil
	case 'n':
		return '\n', nil
	case 't':
		return '\t', nil
	case 'r':
		return '\r', nil
	case '\\':
		return '\\', nil
	}
	return 0, errEscape
}

func unescape(raw string) (string, error) {
	if strings.IndexByte(raw, '\\') < 0 {
		return raw, nil
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		if i == len(raw) {
			return "", errEscapeEnd
		}
		c, err := unescapeByte(raw[i])
		if err != nil {
			return "", err
		}
		out = append(out, c)
	}
	return string(out), nil
}

func splitList(raw string) ([]string, error) {
	list := []string{}
	var cur []byte
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case ';':
			list = append(list, string(cur))
			cur = cur[:0]
		case '\\':
			i++
			if i == len(raw) {
				return nil, errEscapeEnd
			}
			if raw[i] == ';' {
				cur = append(cur, ';')
				continue
			}
			c, err := unescapeByte(raw[i])
			if err != nil {
				return nil, err
			}
			cur = append(cur, c)
		default:
			cur = append(cur, raw[i])
		}
	}
	if len(cur) > 0 {
		list = append(list, string(cur))
	}
	return list, nil
}

// escape encodes text. White space needs escaping only where a reader would
// strip it: in front.
func escape(s string, list bool) string {
	var b strings.Builder
	leading := true
	for i := 0; i < len(s); i++ {
		c := s[i]
		wasLeading := leading
		leading = leading && (c == ' ' || c == '\t')
		switch {
		case c == ' ' && wasLeading:
			b.WriteString(`\s`)
		case c == '\t' && wasLeading:
			b.WriteString(`\t`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\\':
			b.WriteString(`\\`)
		case c == ';' && list:
			b.WriteString(`\;`)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

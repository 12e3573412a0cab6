// SPDX-License-Identifier: Apache-2.0

package selinux

import (
	"errors"
	"strings"
)

// ErrSyntax: a text of the policy is not as libselinux wants it, or has a pattern
// that this package cannot match.
var ErrSyntax = errors.New("bad file contexts")

// maxPattern bounds a pattern in bytes, as libselinux does.
const maxPattern = 4095

// meta are the characters that make a pattern of a path.
const meta = ".^$?*+|[({"

// fileType gives the S_IF* bits for the second of three fields; 0 for an unknown one.
func fileType(field string) uint32 {
	switch field {
	case "-b":
		return 0o060000
	case "-c":
		return 0o020000
	case "-d":
		return 0o040000
	case "-p":
		return 0o010000
	case "-l":
		return 0o120000
	case "-s":
		return 0o140000
	case "--":
		return 0o100000
	}
	return 0
}

// spec is one line of file_contexts.
type spec struct {
	pattern string // as written
	context string
	typ     uint32 // S_IF* bits, 0: any
	exact   bool   // no pattern but a path
	stem    string // the first directory, under which the path must be; "": any
	matcher
}

// matches tells whether the spec is about a path. The literal prefix has been
// compared already.
func (s *spec) matches(sub subject) bool {
	return (s.stem == "" || s.stem == sub.stem) && s.matcher.match(sub)
}

// subject is a path to look up.
type subject struct {
	path string
	stem string // its first directory, "" for what is in / itself
	text string // each byte as one character: patterns are about bytes
}

func newSubject(path string) subject {
	return subject{path: path, stem: firstDir(path), text: latin1(path)}
}

// firstDir gives "/usr" for "/usr/bin".
func firstDir(path string) string {
	if len(path) < 2 {
		return ""
	}
	i := strings.IndexByte(path[1:], '/')
	if i < 0 {
		return ""
	}
	return path[:i+1]
}

// parseSpecs reads a file in the form of file_contexts. Each line takes its cost
// from the budget.
func parseSpecs(name, text string, budget *int) ([]*spec, error) {
	var out []*spec
	for i, line := range lines(text) {
		s, err := parseSpec(line)
		if err != nil {
			return nil, lineError(name, i, "%w", err)
		}
		if s == nil {
			continue
		}
		if *budget -= specCost + s.cost; *budget < 0 {
			return nil, lineError(name, i, "more patterns than a policy has")
		}
		out = append(out, s)
	}
	return out, nil
}

// parseSpec reads a line: pattern, optionally a type, context. nil for an empty one.
func parseSpec(line string) (*spec, error) {
	words := strings.FieldsFunc(line, isSpace)
	if len(words) == 0 || words[0][0] == '#' {
		return nil, nil
	}
	if len(words) == 1 {
		return nil, errors.New("a line needs a path and a context")
	}
	words = words[:min(len(words), 3)]
	for _, w := range words {
		if i := strings.IndexFunc(w, func(r rune) bool { return r == 0 || r > 0x7f }); i >= 0 {
			return nil, errors.New("a character outside of ASCII")
		}
	}
	s := &spec{pattern: words[0], context: words[len(words)-1]}
	if len(words) == 3 {
		if s.typ = fileType(words[1]); s.typ == 0 {
			return nil, errors.New("unknown file type " + words[1])
		}
	}
	if len(s.pattern) > maxPattern {
		return nil, errors.New("the pattern is too long")
	}
	s.exact, s.stem = !hasMeta(s.pattern), stemOf(s.pattern)
	return s, s.matcher.init(s.pattern)
}

// hasMeta looks for characters that make a pattern.
func hasMeta(pattern string) bool {
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' {
			i++
		} else if strings.IndexByte(meta, pattern[i]) >= 0 {
			return true
		}
	}
	return false
}

// stemOf gives the first directory of a pattern if it is no pattern itself.
// libselinux compares it with that of the path first, with the effect that /usr/?
// does not match /usr.
func stemOf(pattern string) string {
	dir := firstDir(pattern)
	if strings.ContainsAny(dir, meta) {
		return ""
	}
	literal, rest := literalPrefix(dir)
	if rest != "" {
		return ""
	}
	return literal
}

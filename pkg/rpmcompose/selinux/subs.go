// SPDX-License-Identifier: Apache-2.0

package selinux

import (
	"fmt"
	"slices"
	"strings"
)

// maxSubLine bounds a line of the substitution files in bytes; libselinux reads
// longer ones in pieces.
const maxSubLine = 1022

// sub says that what is below a directory is labelled as if it were in another.
type sub struct{ from, to string }

// parseSubs reads lines of two words. Of several that fit the last one counts, so
// it is put first.
func parseSubs(name, text string) ([]sub, error) {
	var out []sub
	for i, line := range lines(text) {
		if len(line) > maxSubLine {
			return nil, lineError(name, i, "longer than %d bytes", maxSubLine)
		}
		words := strings.FieldsFunc(line, isSpace)
		if len(words) < 2 || words[0][0] == '#' {
			continue
		}
		if strings.ContainsRune(words[0]+words[1], 0) {
			return nil, lineError(name, i, "a NUL byte")
		}
		out = append(out, sub{words[0], words[1]})
	}
	slices.Reverse(out)
	return out, nil
}

// replace applies the first that fits; from must end where a name in path does.
func replace(subs []sub, path string) (string, bool) {
	for _, s := range subs {
		rest, ok := strings.CutPrefix(path, s.from)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		if s.to == "/" {
			rest = strings.TrimPrefix(rest, "/")
		}
		return s.to + rest, true
	}
	return path, false
}

// lines numbers the lines of a text from 1.
func lines(text string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(text) {
			n++
			if !yield(n, strings.TrimSuffix(line, "\n")) {
				return
			}
		}
	}
}

// isSpace is the C library's, in the locale C.
func isSpace(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' }

func lineError(name string, line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w: "+format, append([]any{name, line, ErrSyntax}, args...)...)
}

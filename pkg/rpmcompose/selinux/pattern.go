// SPDX-License-Identifier: Apache-2.0

package selinux

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"
)

// tail is what a pattern has behind its literal prefix.
type tail uint8

// The tails; all but the last need no regular expression.
const (
	tailNone   tail = iota // the path ends there
	tailTree               // (/.*)?
	tailAny                // .*
	tailSome               // .+
	tailName               // [^/]*
	tailName1              // [^/]+
	tailRegexp             // anything else
)

func tailOf(rest string) tail {
	switch rest {
	case "":
		return tailNone
	case "(/.*)?":
		return tailTree
	case ".*":
		return tailAny
	case ".+":
		return tailSome
	case "[^/]*":
		return tailName
	case "[^/]+":
		return tailName1
	}
	return tailRegexp
}

// matcher matches one pattern. Most are a literal text and a simple tail. For
// the others texts that must be in the path spare most uses of the regular
// expression, which is compiled when it is needed first.
type matcher struct {
	literal string // all matches begin with it
	tail    tail
	ends    string // all matches end with it
	holds   string // all matches have it somewhere
	cost    int    // the size of the compiled expression, roughly
	regexp  func() *regexp.Regexp
}

// What the compiled expressions may need, one and all of a policy, in instructions,
// and what a line counts besides. Real policies have 84 and, with that, 110,000.
const (
	maxCost      = 1 << 13
	maxTotalCost = 1 << 20
	specCost     = 10
)

func cost(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += cost(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, maxCost+1) // no overflow
}

func (m *matcher) init(pattern string) error {
	expr, err := translate(pattern)
	if err != nil {
		return err
	}
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return fmt.Errorf("pattern %s: %w", pattern, err)
	}
	var rest string
	m.literal, rest = literalPrefix(pattern)
	if m.tail = tailOf(rest); m.tail != tailRegexp {
		return nil
	}
	if m.cost = cost(parsed); m.cost > maxCost {
		return fmt.Errorf("pattern %s: too complex", pattern)
	}
	m.ends, m.holds = required(parsed)
	m.regexp = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
	return nil
}

// match tells whether the pattern, anchored at both ends, matches. As in PCRE the
// end is also before a last newline.
func (m *matcher) match(s subject) bool {
	if m.matchAll(s.path, s.text) {
		return true
	}
	path, ok := strings.CutSuffix(s.path, "\n")
	return ok && strings.HasPrefix(path, m.literal) && m.matchAll(path, s.text[:len(s.text)-1])
}

func (m *matcher) matchAll(path, text string) bool {
	rest := path[len(m.literal):]
	switch m.tail {
	case tailNone:
		return rest == ""
	case tailTree:
		return rest == "" || rest[0] == '/'
	case tailAny:
		return true
	case tailSome:
		return rest != ""
	case tailName:
		return strings.IndexByte(rest, '/') < 0
	case tailName1:
		return rest != "" && strings.IndexByte(rest, '/') < 0
	}
	return strings.HasSuffix(path, m.ends) && strings.Contains(path, m.holds) && m.regexp().MatchString(text)
}

// latin1 gives each byte as one character, so that a pattern's "." is a byte as it is
// in PCRE.
func latin1(path string) string {
	for i := range len(path) {
		if path[i] < 0x80 {
			continue
		}
		var b strings.Builder
		for _, c := range []byte(path) {
			b.WriteRune(rune(c))
		}
		return b.String()
	}
	return path
}

// literalPrefix splits a pattern: every match begins with literal, and where rest is
// one of the tails the two together are the pattern.
func literalPrefix(pattern string) (literal, rest string) {
	if strings.Contains(pattern, "|") && topLevelChoice(pattern) {
		return "", pattern // the anchors belong to the first and the last choice only
	}
	var b []byte
	i, last := 0, 0 // last: where the last character of literal begins
	for i < len(pattern) && strings.IndexByte(meta, pattern[i]) < 0 {
		n := 1
		if pattern[i] == '\\' {
			n = 2
			if i+1 >= len(pattern) || isWord(pattern[i+1]) {
				break
			}
		}
		b, last, i = append(b, pattern[i+n-1]), i, i+n
	}
	if i < len(pattern) && len(b) > 0 && strings.IndexByte("?*+{", pattern[i]) >= 0 {
		b, i = b[:len(b)-1], last // that character may be absent or repeated
	}
	return string(b), pattern[i:]
}

// topLevelChoice looks for | outside of all brackets.
func topLevelChoice(pattern string) bool {
	depth := 0
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '[':
			i = classEnd(pattern, i)
		case '(':
			depth++
		case ')':
			depth--
		case '|':
			if depth == 0 {
				return true
			}
		}
	}
	return false
}

// classEnd gives the index of the ] that ends a class beginning at i, or that of the
// last byte.
func classEnd(pattern string, i int) int {
	i++
	if i < len(pattern) && pattern[i] == '^' {
		i++
	}
	for first := i; i < len(pattern); i++ {
		switch {
		case pattern[i] == '\\':
			i++
		case strings.HasPrefix(pattern[i:], "[:"):
			if n := strings.Index(pattern[i:], ":]"); n > 0 {
				i += n + 1
			}
		case pattern[i] == ']' && i > first:
			return i
		}
	}
	return len(pattern) - 1
}

// required finds a text with which all matches end, and the longest one that all hold.
func required(re *syntax.Regexp) (ends, holds string) {
	parts := []*syntax.Regexp{re}
	if re.Op == syntax.OpConcat {
		parts = re.Sub
	}
	if n := len(parts); n > 1 && parts[n-1].Op == syntax.OpEndText {
		if l := parts[n-2]; l.Op == syntax.OpLiteral && l.Flags&syntax.FoldCase == 0 {
			ends = string(l.Rune)
		}
	}
	// The beginning is compared anyway.
	for i, p := range parts {
		if i > 1 || p.Op != syntax.OpLiteral {
			holds = longestLiteral(p, holds)
		}
	}
	if holds == ends {
		holds = ""
	}
	return ends, holds
}

func longestLiteral(re *syntax.Regexp, best string) string {
	switch re.Op {
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase == 0 && len(re.Rune) > len(best) {
			return string(re.Rune)
		}
	case syntax.OpConcat, syntax.OpCapture, syntax.OpPlus:
		for _, sub := range re.Sub {
			best = longestLiteral(sub, best)
		}
	case syntax.OpRepeat:
		if re.Min > 0 {
			best = longestLiteral(re.Sub[0], best)
		}
	}
	return best
}

// errNoRE2 begins the errors about what PCRE knows and this package does not.
var errNoRE2 = errors.New("not supported")

// translate turns a PCRE pattern into one of package regexp that matches the same
// paths, anchored as libselinux anchors it, or says what has no counterpart.
func translate(pattern string) (string, error) {
	var b strings.Builder
	b.WriteString("(?s)^")
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\':
			n, err := escape(&b, pattern[i:], false)
			if err != nil {
				return "", fmt.Errorf("pattern %s: %w", pattern, err)
			}
			i += n - 1
		case c == '[':
			end := classEnd(pattern, i)
			if err := class(&b, pattern[i:end+1]); err != nil {
				return "", fmt.Errorf("pattern %s: %w", pattern, err)
			}
			i = end
		case c == '(' && strings.HasPrefix(pattern[i+1:], "?") && !strings.HasPrefix(pattern[i+1:], "?:"):
			return "", fmt.Errorf("pattern %s: group (?%s: %w", pattern, firstByte(pattern[i+2:]), errNoRE2)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('$')
	return b.String(), nil
}

// class copies a character class.
func class(b *strings.Builder, text string) error {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\':
			n, err := escape(b, text[i:], true)
			if err != nil {
				return err
			}
			i += n - 1
		case i > 0 && (strings.HasPrefix(text[i:], "[.") || strings.HasPrefix(text[i:], "[=")):
			return fmt.Errorf("class %s: %w", text, errNoRE2)
		default:
			b.WriteByte(text[i])
		}
	}
	return nil
}

// escape copies what begins with a backslash; n is its length. \s differs, as PCRE
// counts the vertical tab as white space.
func escape(b *strings.Builder, text string, inClass bool) (n int, err error) {
	if len(text) < 2 {
		return 0, errors.New("ends with a backslash")
	}
	c := text[1]
	switch {
	case !isWord(c) || c == '_', strings.IndexByte("dDwWnrtfa", c) >= 0, strings.IndexByte("bBAz", c) >= 0 && !inClass:
		b.WriteString(text[:2])
	case c == 's' && inClass:
		b.WriteString(`\t-\r `)
	case c == 's':
		b.WriteString(`[\t-\r ]`)
	case c == 'S' && !inClass:
		b.WriteString(`[^\t-\r ]`)
	default:
		return 0, fmt.Errorf(`\%c: %w`, c, errNoRE2)
	}
	return 2, nil
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func firstByte(s string) string { return s[:min(len(s), 1)] }

// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrSyntax is wrapped by errors about malformed versions, package names and dependencies.
var ErrSyntax = errors.New("malformed")

// EVR is an epoch, version and release triple. A missing epoch compares as 0.
type EVR struct {
	Epoch    uint32
	HasEpoch bool
	Version  string
	Release  string
}

// ParseEVR splits "[EPOCH:]VERSION[-RELEASE]". As in rpm, text before the first colon is an epoch only
// if it consists of digits; an empty epoch (":1") counts as 0.
func ParseEVR(s string) (EVR, error) {
	var e EVR
	digits := 0
	for digits < len(s) && isDigit(s[digits]) {
		digits++
	}
	if digits < len(s) && s[digits] == ':' {
		e.HasEpoch = true
		if digits > 0 {
			n, err := strconv.ParseUint(s[:digits], 10, 32)
			if err != nil {
				return EVR{}, fmt.Errorf("parse epoch of %q: %w", s, ErrSyntax)
			}
			e.Epoch = uint32(n)
		}
		s = s[digits+1:]
	}
	e.Version = s
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		e.Version, e.Release = s[:i], s[i+1:]
	}
	return e, nil
}

// String gives "[EPOCH:]VERSION[-RELEASE]"; the epoch is printed only when it is set.
func (e EVR) String() string {
	var b strings.Builder
	if e.HasEpoch {
		b.WriteString(strconv.FormatUint(uint64(e.Epoch), 10))
		b.WriteByte(':')
	}
	b.WriteString(e.Version)
	if e.Release != "" {
		b.WriteByte('-')
		b.WriteString(e.Release)
	}
	return b.String()
}

// IsZero says whether nothing at all is set, as in an unversioned dependency.
func (e EVR) IsZero() bool { return !e.HasEpoch && e.Version == "" && e.Release == "" }

// Compare orders two full versions: -1 if a is older than b, 0 if equal, 1 if newer. Epoch, version and
// release are compared in turn.
func Compare(a, b EVR) int {
	if c := cmp.Compare(a.Epoch, b.Epoch); c != 0 {
		return c
	}
	if c := VerCompare(a.Version, b.Version); c != 0 {
		return c
	}
	return VerCompare(a.Release, b.Release)
}

// VerCompare orders two version or two release strings by rpm's segment rules: digit runs compare as
// numbers, letter runs as bytes, a digit run is newer than a letter run, "~" sorts before the end of the
// string and "^" after it but before any further segment. Other characters only separate segments.
func VerCompare(a, b string) int {
	if a == b {
		return 0
	}
	for len(a) > 0 || len(b) > 0 {
		a, b = skipSeparators(a), skipSeparators(b)
		at, bt := firstByte(a), firstByte(b)
		if at == '~' || bt == '~' {
			if at != bt {
				return tildeOrder(at)
			}
			a, b = a[1:], b[1:]
			continue
		}
		if at == '^' || bt == '^' {
			if at != bt {
				return caretOrder(a, b)
			}
			a, b = a[1:], b[1:]
			continue
		}
		if len(a) == 0 || len(b) == 0 {
			break
		}
		numeric := isDigit(at)
		var as, bs string
		as, a = takeSegment(a, numeric)
		bs, b = takeSegment(b, numeric)
		if bs == "" {
			// The segments differ in kind: numbers are newer than letters.
			if numeric {
				return 1
			}
			return -1
		}
		if c := compareSegment(as, bs, numeric); c != 0 {
			return c
		}
	}
	return cmp.Compare(min(len(a), 1), min(len(b), 1))
}

// tildeOrder decides when exactly one side has a tilde at this point: that side is older.
func tildeOrder(at byte) int {
	if at == '~' {
		return -1
	}
	return 1
}

// caretOrder decides when exactly one side has a caret: against the end of the other string the caret is
// newer, against anything else older.
func caretOrder(a, b string) int {
	switch {
	case a == "":
		return -1
	case b == "":
		return 1
	case a[0] == '^':
		return -1
	}
	return 1
}

func compareSegment(a, b string, numeric bool) int {
	if !numeric {
		return strings.Compare(a, b)
	}
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func takeSegment(s string, numeric bool) (segment, rest string) {
	n := 0
	for n < len(s) && (numeric && isDigit(s[n]) || !numeric && isAlpha(s[n])) {
		n++
	}
	return s[:n], s[n:]
}

func skipSeparators(s string) string {
	for len(s) > 0 && !isDigit(s[0]) && !isAlpha(s[0]) && s[0] != '~' && s[0] != '^' {
		s = s[1:]
	}
	return s
}

func firstByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isAlpha(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// NEVRA names one build of a package.
type NEVRA struct {
	Name string
	EVR
	Arch string
}

// ParseNEVRA reads NAME-[EPOCH:]VERSION-RELEASE.ARCH, and the form EPOCH:NAME-VERSION-RELEASE.ARCH. A
// trailing ".rpm" is not removed.
func ParseNEVRA(s string) (NEVRA, error) {
	dot := strings.LastIndexByte(s, '.')
	if dot <= 0 || dot == len(s)-1 {
		return NEVRA{}, fmt.Errorf("parse package %q: no architecture: %w", s, ErrSyntax)
	}
	n := NEVRA{Arch: s[dot+1:]}
	rest := s[:dot]
	rel := strings.LastIndexByte(rest, '-')
	if rel <= 0 {
		return NEVRA{}, fmt.Errorf("parse package %q: no release: %w", s, ErrSyntax)
	}
	ver := strings.LastIndexByte(rest[:rel], '-')
	if ver <= 0 {
		return NEVRA{}, fmt.Errorf("parse package %q: no version: %w", s, ErrSyntax)
	}
	evr, err := ParseEVR(rest[ver+1:])
	if err != nil {
		return NEVRA{}, fmt.Errorf("parse package %q: %w", s, err)
	}
	n.EVR, n.Name = evr, rest[:ver]
	if i := strings.IndexByte(n.Name, ':'); i > 0 && !n.HasEpoch {
		epoch, err := strconv.ParseUint(n.Name[:i], 10, 32)
		if err == nil {
			n.Epoch, n.HasEpoch, n.Name = uint32(epoch), true, n.Name[i+1:]
		}
	}
	if n.Name == "" || n.Version == "" || n.Release == "" {
		return NEVRA{}, fmt.Errorf("parse package %q: empty part: %w", s, ErrSyntax)
	}
	return n, nil
}

// String gives NAME-[EPOCH:]VERSION-RELEASE.ARCH; an epoch of 0 is left out.
func (n NEVRA) String() string {
	var b strings.Builder
	b.WriteString(n.Name)
	b.WriteByte('-')
	if n.Epoch != 0 {
		b.WriteString(strconv.FormatUint(uint64(n.Epoch), 10))
		b.WriteByte(':')
	}
	b.WriteString(n.Version)
	b.WriteByte('-')
	b.WriteString(n.Release)
	if n.Arch != "" {
		b.WriteByte('.')
		b.WriteString(n.Arch)
	}
	return b.String()
}

// CompareNEVRA orders by name, then version, then architecture: the order of package lists.
func CompareNEVRA(a, b NEVRA) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	if c := Compare(a.EVR, b.EVR); c != 0 {
		return c
	}
	return strings.Compare(a.Arch, b.Arch)
}

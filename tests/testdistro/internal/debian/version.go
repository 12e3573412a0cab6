// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"strconv"
	"strings"
)

// Version is a Debian version taken apart: [epoch:]upstream[-revision].
type Version struct {
	Epoch    int
	HasEpoch bool
	Upstream string
	Revision string // empty for a native package
}

// ParseVersion splits s as deb-version(7) says: the epoch ends at the first
// colon, the revision begins after the last hyphen.
func ParseVersion(s string) Version {
	var v Version
	if e, rest, ok := strings.Cut(s, ":"); ok {
		if n, err := strconv.Atoi(e); err == nil {
			v.Epoch, v.HasEpoch, s = n, true, rest
		}
	}
	if i := strings.LastIndexByte(s, '-'); i > 0 {
		v.Upstream, v.Revision = s[:i], s[i+1:]
		return v
	}
	v.Upstream = s
	return v
}

// CompareVersions orders two versions as dpkg does: negative, zero, positive.
func CompareVersions(a, b string) int {
	va, vb := ParseVersion(a), ParseVersion(b)
	if va.Epoch != vb.Epoch {
		return va.Epoch - vb.Epoch
	}
	if c := comparePart(va.Upstream, vb.Upstream); c != 0 {
		return c
	}
	return comparePart(va.Revision, vb.Revision)
}

// comparePart alternates runs of non-digits (by weight) and digits (by value).
func comparePart(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !digit(a[0])) || (b != "" && !digit(b[0])) {
			wa, wb := weight(a), weight(b)
			if wa != wb {
				return wa - wb
			}
			a, b = a[1:], b[1:]
		}
		var na, nb string
		na, a = digits(a)
		nb, b = digits(b)
		if len(na) != len(nb) {
			return len(na) - len(nb)
		}
		if c := strings.Compare(na, nb); c != 0 {
			return c
		}
	}
	return 0
}

// weight orders the first byte of s: tilde, then the end or a digit, then
// letters, then everything else.
func weight(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'a' && s[0] <= 'z', s[0] >= 'A' && s[0] <= 'Z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

// digits cuts the leading number off s, without its leading zeros.
func digits(s string) (num, rest string) {
	i := 0
	for i < len(s) && digit(s[i]) {
		i++
	}
	return strings.TrimLeft(s[:i], "0"), s[i:]
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

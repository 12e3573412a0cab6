// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// nextVersion computes the version of a commit after the rule of the treefile
// key automatic-version-prefix: the prefix alone for the first commit with it,
// then prefix.1, prefix.2 and so on. The prefix may hold <date:FORMAT> with the
// strftime conversions %Y %m %d %y %H %M %S %j; previous is the version of the
// last commit, "" for none. Source: rpm-ostree's treefile documentation.
func nextVersion(prefix, suffix, previous string, now time.Time) (string, error) {
	prefix, err := expandDates(prefix, now.UTC())
	if err != nil {
		return "", err
	}
	if suffix == "" {
		suffix = "."
	}
	if previous == prefix {
		return prefix + suffix + "1", nil
	}
	rest, ok := strings.CutPrefix(previous, prefix+suffix)
	if !ok {
		return prefix, nil
	}
	digits := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = rest[:i]
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return prefix, nil
	}
	return prefix + suffix + strconv.FormatUint(n+1, 10), nil
}

func expandDates(s string, now time.Time) (string, error) {
	const open = "<date:"
	var b strings.Builder
	for {
		i := strings.Index(s, open)
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		end := strings.IndexByte(s[i:], '>')
		if end < 0 {
			return "", fmt.Errorf("%w: key `automatic-version-prefix`: %q is not closed by >", ErrTreefile, s[i:])
		}
		b.WriteString(s[:i])
		date, err := strftime(s[i+len(open):i+end], now)
		if err != nil {
			return "", err
		}
		b.WriteString(date)
		s = s[i+end+1:]
	}
}

func strftime(format string, t time.Time) (string, error) {
	layouts := map[byte]string{'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'j': "002"}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		if i < len(format) && format[i] == '%' {
			b.WriteByte('%')
			continue
		}
		if i == len(format) || layouts[format[i]] == "" {
			return "", fmt.Errorf("%w: key `automatic-version-prefix`: conversion in <date:%s> is not known", ErrTreefile, format)
		}
		b.WriteString(t.Format(layouts[format[i]]))
	}
	return b.String(), nil
}

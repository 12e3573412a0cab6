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
// then prefix.1, prefix.2 and so on. A prefix with <date:FORMAT> (the strftime
// conversions %Y %m %d %y %H %M %S %j) counts from prefix.0, anew on every date.
// previous is the version of the last commit, "" for none. What follows the
// number in previous is dropped; text where the number should be counts as 0.
// Source: rpm-ostree's treefile documentation and its behaviour.
func nextVersion(prefix, suffix, previous string, now time.Time) (string, error) {
	expanded, err := expandDates(prefix, now.UTC())
	if err != nil {
		return "", err
	}
	if suffix == "" {
		suffix = "."
	}
	first, second := expanded, expanded+suffix+"1"
	if strings.Contains(prefix, dateTag) {
		first = expanded + suffix + "0"
		second = first
	}
	if previous == expanded {
		return second, nil
	}
	rest, ok := strings.CutPrefix(previous, expanded+suffix)
	if !ok {
		return first, nil
	}
	digits := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = rest[:i]
	}
	if digits == "" {
		digits = "0"
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return "", fmt.Errorf("%w: key `automatic-version-prefix`: the number of the last version %q is too large", ErrTreefile, previous)
	}
	return expanded + suffix + strconv.FormatUint(n+1, 10), nil
}

const dateTag = "<date:"

func expandDates(s string, now time.Time) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(s, dateTag)
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		end := strings.IndexByte(s[i:], '>')
		if end < 0 {
			return "", fmt.Errorf("%w: key `automatic-version-prefix`: %q is not closed by >", ErrTreefile, s[i:])
		}
		b.WriteString(s[:i])
		date, err := strftime(s[i+len(dateTag):i+end], now)
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

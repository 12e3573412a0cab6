// SPDX-License-Identifier: Apache-2.0

// Package osrelease reads os-release files, whose values are shell words.
// Source: os-release(5).
package osrelease

import (
	"bufio"
	"strings"
)

// Value gives the value of a key, the last one as in a shell; "" if there is none.
func Value(data, key string) string {
	sc := bufio.NewScanner(strings.NewReader(data))
	value := ""
	for sc.Scan() {
		if v, ok := strings.CutPrefix(strings.TrimSpace(sc.Text()), key+"="); ok {
			value = unquote(v)
		}
	}
	return value
}

func unquote(v string) string {
	if len(v) < 2 || (v[0] != '"' && v[0] != '\'') || v[len(v)-1] != v[0] {
		return v
	}
	quote := v[0]
	v = v[1 : len(v)-1]
	if quote == '\'' {
		return v
	}
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\$`, `$`, "\\`", "`").Replace(v)
}

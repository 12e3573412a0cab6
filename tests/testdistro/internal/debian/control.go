// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// maxLine bounds one line of a control file; the longest in the archive is
// below 64 KiB.
const maxLine = 1 << 20

// Stanza is one paragraph of a control file. Continuation lines are kept,
// joined by newlines and without their leading blank.
type Stanza map[string]string

// ReadStanzas calls fn for every paragraph of r. A nil keep holds every field,
// otherwise only the named ones are kept. The map handed to fn is fn's to keep.
func ReadStanzas(r io.Reader, keep map[string]bool, fn func(Stanza) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	st, field, line := Stanza{}, "", 0
	flush := func() error {
		if len(st) == 0 {
			return nil
		}
		s := st
		st, field = Stanza{}, ""
		return fn(s)
	}
	for sc.Scan() {
		line++
		text := sc.Text()
		if strings.TrimSpace(text) == "" {
			if err := flush(); err != nil {
				return err
			}
			continue
		}
		if text[0] == ' ' || text[0] == '\t' {
			if field != "" {
				st[field] += "\n" + text[1:]
			}
			continue
		}
		name, value, ok := strings.Cut(text, ":")
		if !ok {
			return fmt.Errorf("parse control data: line %d has no colon: %q", line, text)
		}
		field = ""
		if keep == nil || keep[name] {
			field = name
			st[field] = strings.TrimSpace(value)
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read control data after line %d: %w", line, err)
	}
	return flush()
}

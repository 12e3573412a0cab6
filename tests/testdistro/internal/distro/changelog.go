// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hostctl/hostctl/tests/testdistro/internal/debian"
	"github.com/hostctl/hostctl/tests/testdistro/internal/rpmspec"
)

// changelogEntries bounds what a package carries along.
const changelogEntries = 5

// debChange is one entry of a Debian changelog (deb-changelog(5)).
type debChange struct {
	Version, Suite, Urgency string
	Lines                   []string
	Author                  string
	When                    time.Time
}

var (
	changeHead = regexp.MustCompile(`^[a-z0-9][a-z0-9+.\-]* \(([^)]+)\)\s+([^;]*);\s*(.*)$`)
	changeFoot = regexp.MustCompile(`^ -- (.*?)  ?(\w{3},\s+\d{1,2} \w{3} \d{4} \d{2}:\d{2}:\d{2} [+-]\d{4})`)
	urgency    = regexp.MustCompile(`urgency=(\w+)`)
)

// parseChangelog reads at most limit entries; text it does not understand ends
// the reading, since old changelogs hold free prose.
func parseChangelog(r io.Reader, limit int) []debChange {
	var out []debChange
	var cur *debChange
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() && len(out) < limit {
		line := sc.Text()
		if m := changeHead.FindStringSubmatch(line); m != nil {
			cur = &debChange{Version: m[1], Suite: strings.TrimSpace(m[2])}
			if u := urgency.FindStringSubmatch(m[3]); u != nil {
				cur.Urgency = strings.ToLower(u[1])
			}
			continue
		}
		if cur == nil {
			continue
		}
		if m := changeFoot.FindStringSubmatch(line); m != nil {
			when, err := time.Parse("Mon, 2 Jan 2006 15:04:05 -0700", m[2])
			if err != nil {
				return out
			}
			cur.Author, cur.When = m[1], when
			out = append(out, *cur)
			cur = nil
			continue
		}
		if text := strings.TrimSpace(line); text != "" {
			cur.add(text)
		}
	}
	return out
}

// add starts an item at a bullet and continues the last one otherwise.
func (c *debChange) add(text string) {
	for _, bullet := range []string{"* ", "- ", "+ "} {
		if rest, ok := strings.CutPrefix(text, bullet); ok {
			c.Lines = append(c.Lines, rest)
			return
		}
	}
	if len(c.Lines) == 0 {
		c.Lines = append(c.Lines, text)
		return
	}
	c.Lines[len(c.Lines)-1] += " " + text
}

// openChangelog finds the changelog below root, where links between doc
// directories of one source package are common. A nil reader means none.
func openChangelog(root, name string) (io.ReadCloser, error) {
	for _, base := range []string{"changelog.Debian.gz", "changelog.gz"} {
		p := filepath.Join(root, "usr/share/doc", name, base)
		if st, err := os.Lstat(p); err != nil || !st.Mode().IsRegular() {
			continue
		}
		f, err := os.Open(p)
		if err != nil {
			return nil, err
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("open %s: %w", p, err)
		}
		return struct {
			io.Reader
			io.Closer
		}{z, f}, nil
	}
	return nil, nil
}

func readChangelog(root string, u *unpacked, p *debian.Package) ([]rpmspec.Change, error) {
	r, err := openChangelog(root, u.control["Package"])
	if err != nil || r == nil {
		return nil, err
	}
	defer r.Close()
	var out []rpmspec.Change
	for _, c := range parseChangelog(r, changelogEntries) {
		out = append(out, rpmspec.Change{
			When: c.When, Author: c.Author, Version: rpmspec.FromDebian(c.Version).String(), Lines: shorten(c.Lines),
		})
	}
	return out, nil
}

// shorten keeps kernel changelogs, which list a thousand commits, readable.
func shorten(lines []string) []string {
	const most = 40
	if len(lines) <= most {
		return lines
	}
	return append(append([]string{}, lines[:most]...), fmt.Sprintf("and %d more", len(lines)-most))
}

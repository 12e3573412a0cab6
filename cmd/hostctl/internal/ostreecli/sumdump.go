// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

const summaryType = "(a(s(taya{sv}))a{sv})"

// formatSize writes a size as GLib does: decimal units after a no-break space.
func formatSize(n uint64) string {
	switch {
	case n == 1:
		return "1 byte"
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	}
	v := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB", "PB"} {
		if v /= 1000; v < 1000 {
			return fmt.Sprintf("%.1f\u00a0%s", v, unit)
		}
	}
	return fmt.Sprintf("%.1f\u00a0EB", v/1000)
}

// localTime writes seconds since 1970 in local time, with no more of the zone's
// offset than is needed.
func localTime(secs uint64) string {
	t := time.Unix(int64(secs), 0)
	if secs > maxTimestamp {
		return "invalid"
	}
	zone := t.Format("-07:00")
	if zone[4:] == "00" {
		zone = zone[:3]
	}
	return t.Format("2006-01-02T15:04:05") + zone
}

// dumpSummary prints a summary file, with raw as one value in text form.
func (c *call) dumpSummary(data []byte, raw bool) error {
	if raw {
		v, err := gvariant.Parse(summaryType, data)
		if err != nil {
			return fmt.Errorf("parse summary: %w", err)
		}
		c.dumpVariant(v)
		return nil
	}
	s, err := ostree.ParseSummary(data)
	if err != nil {
		return err
	}
	own, _ := s.Metadata.Str("ostree.summary.collection-id")
	c.dumpSummaryRefs(own, s.Refs)
	for _, id := range slices.Sorted(maps.Keys(s.Collections)) {
		c.dumpSummaryRefs(id, s.Collections[id])
	}
	for _, e := range s.Metadata.Entries() {
		c.printf("%s\n", summaryLine(e))
	}
	return nil
}

func (c *call) dumpSummaryRefs(collection string, refs []ostree.SummaryRef) {
	for _, r := range refs {
		name := r.Name
		if collection != "" {
			name = "(" + collection + ", " + r.Name + ")"
		}
		c.printf("* %s\n    Latest Commit (%s):\n      %s\n", name, formatSize(r.CommitSize), r.Commit)
		for _, e := range r.Metadata.Entries() {
			c.printf("    %s\n", summaryLine(e))
		}
		c.printf("\n")
	}
}

// summaryLine gives "Title (key): value" for the known keys, else "key: value".
func summaryLine(e gvariant.DictEntry) string {
	if title, text := knownSummaryKey(e); title != "" {
		return title + " (" + e.Key + "): " + text
	}
	return e.Key + ": " + e.Value.Text(gvariant.TextOptions{})
}

func knownSummaryKey(e gvariant.DictEntry) (title, text string) {
	plain := e.Value.Text(gvariant.TextOptions{})
	str, isString := e.Value.Str()
	secs, isTime := e.Value.Uint64BE()
	yes, isBool := e.Value.Bool()
	switch {
	case e.Key == "ostree.static-deltas":
		return "Static Deltas", plain
	case e.Key == "ostree.summary.collection-map":
		return "Collection Map", "(printed above)"
	case e.Key == "ostree.commit.timestamp" && isTime:
		return "Timestamp", localTime(secs)
	case e.Key == "ostree.summary.last-modified" && isTime:
		return "Last-Modified", localTime(secs)
	case e.Key == "ostree.summary.expires" && isTime:
		return "Expires", localTime(secs)
	case e.Key == "ostree.commit.version" && isString:
		return "Version", str
	case e.Key == "ostree.summary.collection-id" && isString:
		return "Collection ID", str
	case e.Key == "ostree.summary.mode" && isString:
		if _, err := ostree.ParseMode(str); err != nil {
			str = "Invalid (‘" + str + "’)"
		}
		return "Repository Mode", str
	case e.Key == "ostree.summary.tombstone-commits" && isBool && yes:
		return "Has Tombstone Commits", "Yes"
	case e.Key == "ostree.summary.tombstone-commits" && isBool:
		return "Has Tombstone Commits", "No"
	}
	return "", ""
}

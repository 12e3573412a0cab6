// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"fmt"
	"strings"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// Serialised types of the objects that can be printed raw.
var objectTypes = map[ostree.ObjectType]string{
	ostree.TypeCommit:  "(a{sv}aya(say)sstayay)",
	ostree.TypeDirTree: "(a(say)a(sayay))",
	ostree.TypeDirMeta: "(uuua(ayay))",
}

// dumpFlags say how an object is printed.
type dumpFlags struct{ raw, unswapped bool }

// dumpObject prints a metadata object as show and log do.
func (c *call) dumpObject(n ostree.ObjectName, data []byte, f dumpFlags) error {
	v, err := gvariant.Parse(objectTypes[n.Type], data)
	if err != nil {
		return fmt.Errorf("parse object %s: %w", n, err)
	}
	c.printf("%s %s\n", n.Type, n.Checksum)
	switch {
	case f.unswapped:
		c.printf("%s\n", v.Text(gvariant.TextOptions{Types: true}))
	case f.raw:
		c.dumpVariant(v)
		return nil
	}
	if n.Type != ostree.TypeCommit {
		return nil
	}
	commit, err := ostree.ParseCommit(data)
	if err != nil {
		return fmt.Errorf("read object %s: %w", n, err)
	}
	return c.dumpCommit(commit)
}

// dumpVariant prints a value whose numbers are stored big-endian.
func (c *call) dumpVariant(v gvariant.Value) {
	c.printf("%s\n", v.Text(gvariant.TextOptions{Types: true, Swap: true}))
}

// maxTimestamp is the end of the year 9999, the last that dates are printed for.
const maxTimestamp = 253402300799

func (c *call) dumpCommit(commit ostree.Commit) error {
	if commit.Timestamp > maxTimestamp {
		return failf("Failed to read commit: Invalid timestamp: %d", commit.Timestamp)
	}
	if !commit.Parent.IsZero() {
		c.printf("Parent:  %s\n", commit.Parent)
	}
	c.printf("ContentChecksum:  %s\n", commit.ContentChecksum())
	c.printf("Date:  %s\n", time.Unix(int64(commit.Timestamp), 0).UTC().Format("2006-01-02 15:04:05 +0000"))
	if version, ok := commit.Metadata.Str("version"); ok {
		c.printf("Version: %s\n", version)
	}
	if commit.Subject != "" {
		c.printf("\n%s", indent(commit.Subject))
	} else {
		c.printf("(no subject)\n")
	}
	if commit.Body != "" {
		c.printf("\n%s", indent(commit.Body))
	}
	c.printf("\n")
	return nil
}

// indent puts four spaces before every line.
func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n    ") + "\n"
}

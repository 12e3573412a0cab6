// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/delta"
)

func staticDeltaVerb() *verb {
	subs := []*verb{deltaList(), deltaShow(), deltaDelete(), deltaGenerate(), deltaApplyOffline(), deltaVerify(), deltaIndexes(), deltaReindex()}
	return &verb{
		name: "static-delta", summary: "Static delta related commands", use: repoUnused, subs: subs,
		usage: func() string {
			var b strings.Builder
			b.WriteString("Usage:\n  ostree static-delta [OPTION...] COMMAND\n\nBuiltin \"static-delta\" Commands:\n")
			for _, s := range subs {
				fmt.Fprintf(&b, "  %-17s%s\n", s.name, s.summary)
			}
			return b.String() + "\n"
		},
		badSub: func(name string) error {
			if name == "" {
				return failf("No command specified")
			}
			return failf("Unknown \"static-delta\" subcommand '%s'", name)
		},
	}
}

func deltaList() *verb {
	return &verb{
		name: "list", summary: "List static delta files",
		run: func(_ context.Context, c *call) error {
			names, err := c.repo.Deltas()
			if err != nil {
				return err
			}
			if len(names) == 0 {
				c.printf("(No static deltas)\n")
			}
			for _, n := range names {
				c.printf("%s\n", n)
			}
			return nil
		},
	}
}

// deltaName reads a delta's name as the command line gives it.
func deltaName(s string) (ostree.DeltaName, error) {
	n, err := delta.ParseName(s)
	if err == nil {
		return n, nil
	}
	from, to, _ := strings.Cut(s, "-")
	if _, ferr := parseSum(from); ferr != nil {
		return n, ferr
	}
	_, err = parseSum(to)
	return n, err
}

// parseSum reads a checksum that the user gives.
func parseSum(s string) (ostree.Checksum, error) {
	sum, err := ostree.ParseChecksum(s)
	if err != nil {
		err = failf("Invalid rev %.64s", s)
	}
	return sum, err
}

func deltaDelete() *verb {
	return &verb{
		name: "delete", summary: "Remove a delta",
		run: func(_ context.Context, c *call) error {
			if len(c.args) < 1 {
				return failf("DELTA must be specified")
			}
			n, err := deltaName(c.args[0])
			if err != nil {
				return err
			}
			err = delta.Delete(c.repo, n)
			if errors.Is(err, ostree.ErrNotFound) {
				return failf("Can't find delta %s", c.args[0])
			}
			return err
		},
	}
}

// loadDelta reads a delta of the repository, or with a slash in the name the file
// of that path. dir is where its parts are; the caller closes it.
func (c *call) loadDelta(id string) (d *delta.Delta, dir *fsx.Dir, err error) {
	if strings.Contains(id, "/") {
		if dir, err = fsx.OpenDir(filepath.Dir(id)); err != nil {
			return nil, nil, err
		}
		d, err = delta.LoadFile(dir, filepath.Base(id))
	} else {
		n, err := deltaName(id)
		if err != nil {
			return nil, nil, err
		}
		if d, err = delta.Load(c.repo, n); err != nil {
			return nil, nil, err
		}
		dir, err = c.repo.Dir().OpenDir(n.Path())
		return d, dir, err
	}
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return d, dir, nil
}

func deltaShow() *verb {
	return &verb{
		name: "show", summary: "Dump information on a delta",
		run: func(ctx context.Context, c *call) error {
			if len(c.args) < 1 {
				return failf("DELTA must be specified")
			}
			d, dir, err := c.loadDelta(c.args[0])
			if err != nil {
				return err
			}
			defer dir.Close()
			return c.showDelta(ctx, c.args[0], d, dir)
		},
	}
}

// deltaSizes sums up sizes in bytes, as stored and unpacked.
type deltaSizes struct{ size, usize uint64 }

func (c *call) printSizes(title string, s deltaSizes) {
	c.printf("Total %sSize: %d (%s)\n", title, s.size, formatSize(s.size))
	c.printf("Total %sUncompressed Size: %d (%s)\n", title, s.usize, formatSize(s.usize))
}

func (c *call) showDelta(ctx context.Context, id string, d *delta.Delta, dir *fsx.Dir) error {
	signed := "no"
	if d.Signed {
		signed = "yes"
	}
	c.printf("Delta: %s\nSigned: %s\n", id, signed)
	if d.Name.From.IsZero() {
		c.printf("From <scratch>\n")
	} else {
		c.printf("From: %s\n", d.Name.From)
	}
	order := d.Endianness.String()
	if d.Heuristic {
		order += " (heuristic)"
	}
	c.printf("To: %s\nEndianness: %s\nTimestamp: %d\nNumber of parents: %d\n", d.Name.To, order, d.Timestamp, d.Parents)
	c.printf("Number of fallback entries: %d\n", len(d.Fallbacks))
	var fallbacks, parts deltaSizes
	for _, f := range d.Fallbacks {
		c.printf("  %s\n", f.Object.Checksum)
		fallbacks.size += f.Size
		fallbacks.usize += f.UncompressedSize
	}
	c.printSizes("Fallback ", fallbacks)
	c.printf("Number of parts: %d\n", len(d.Parts))
	for i := range d.Parts {
		p := &d.Parts[i]
		parts.size += p.Size
		parts.usize += p.UncompressedSize
		c.printf("PartMeta%d: nobjects=%d size=%d usize=%d\n", i, p.NumObjects(), p.Size, p.UncompressedSize)
		info, err := delta.Inspect(ctx, c.repo, dir, d, i)
		if err != nil {
			return err
		}
		c.printf("PartPayload%d: nmodes=%d nxattrs=%d blobsize=%d opsize=%d\n", i, info.Modes, info.Xattrs, info.Data, info.Ops)
		n := info.Counts
		c.printf("PartPayloadOps%d: openspliceclose=%d open=%d write=%d setread=%d unsetread=%d close=%d bspatch=%d\n",
			i, n.Splice, n.Open, n.Write, n.SetSource, n.UnsetSource, n.Close, n.Patch)
	}
	c.printSizes("Part ", parts)
	c.printSizes("", deltaSizes{parts.size + fallbacks.size, parts.usize + fallbacks.usize})
	return nil
}

func deltaIndexes() *verb {
	return &verb{
		name: "indexes", summary: "List static delta indexes",
		run: func(_ context.Context, c *call) error {
			list, err := delta.Indexes(c.repo)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				c.printf("(No static deltas indexes)\n")
			}
			for _, to := range list {
				c.printf("%s\n", to)
			}
			return nil
		},
	}
}

func deltaReindex() *verb {
	var to text
	return &verb{
		name: "reindex", summary: "Regenerate static delta indexes",
		opts: []option{{long: "to", arg: "REV", dst: &to, help: "Only update delta index to revision REV"}},
		run: func(ctx context.Context, c *call) (err error) {
			var only ostree.Checksum
			if to.set {
				if only, err = parseSum(to.value); err != nil {
					return err
				}
			}
			return delta.Reindex(ctx, c.repo, only)
		},
	}
}

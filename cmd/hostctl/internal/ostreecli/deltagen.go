// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree/delta"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

type deltaGenerateOptions struct {
	from, to                         text
	empty, inline, noBsdiff, ifNeeds bool
	endian                           text
	swap                             bool
	fallback, bsdiff, chunk          text
	filename                         text
	keys                             []string
	sign                             signKeys
}

func deltaGenerate() *verb {
	o := &deltaGenerateOptions{}
	return &verb{
		name: "generate", args: "[TO]", summary: "Generate static delta files",
		opts: []option{
			{long: "from", arg: "REV", dst: &o.from, help: "Create delta from revision REV"},
			{long: "empty", dst: &o.empty, help: "Create delta from scratch"},
			{long: "inline", dst: &o.inline, help: "Inline delta parts into main delta"},
			{long: "to", arg: "REV", dst: &o.to, help: "Create delta to revision REV"},
			{long: "disable-bsdiff", dst: &o.noBsdiff, help: "Disable use of bsdiff"},
			{long: "if-not-exists", short: 'n', dst: &o.ifNeeds, help: "Only generate if a delta does not already exist"},
			{long: "set-endianness", arg: "ENDIAN", dst: &o.endian, help: "Choose metadata endianness ('l' or 'B')"},
			{long: "swap-endianness", dst: &o.swap, help: "Swap metadata endianness from host order"},
			{long: "min-fallback-size", dst: &o.fallback, help: "Minimum uncompressed size in megabytes for individual HTTP request"},
			{long: "max-bsdiff-size", dst: &o.bsdiff, help: "Maximum size in megabytes to consider bsdiff compression for input files"},
			{long: "max-chunk-size", dst: &o.chunk, help: "Maximum size of delta chunks in megabytes"},
			{long: "filename", arg: "PATH", dst: &o.filename, help: "Write the delta content to PATH (a directory).  If not specified, the OSTree repository is used"},
			{long: "sign", arg: "KEY_ID", dst: &o.keys, help: "Sign the delta with"},
			o.sign.typeOption(0), o.sign.fileOption(),
		},
		run: func(ctx context.Context, c *call) error { return o.run(ctx, c) },
	}
}

func (o *deltaGenerateOptions) run(ctx context.Context, c *call) error {
	if !o.to.set && len(c.args) > 0 {
		o.to = text{c.args[0], true}
	}
	if !o.to.set {
		return failf("TO revision must be specified")
	}
	g, err := o.options(c)
	if err != nil {
		return err
	}
	if g.Dir != nil {
		defer g.Dir.Close()
	}
	from := "empty"
	if !g.From.IsZero() {
		from = g.From.String()
	}
	if o.ifNeeds {
		id := g.To.String()
		if !g.From.IsZero() {
			id = from + "-" + id
		}
		n, err := deltaName(id)
		if err != nil {
			return err
		}
		exists, err := delta.Exists(c.repo, n)
		if err != nil {
			return err
		}
		if exists {
			c.printf("Delta %s already exists.\n", id)
			return nil
		}
	}
	c.printf("Generating static delta:\n  From: %s\n  To:   %s\n", from, g.To)
	made, err := delta.Generate(ctx, c.repo, g)
	if err != nil {
		return err
	}
	c.reportDelta(made)
	return nil
}

// reportDelta prints on standard error what libostree tells while it works.
func (c *call) reportDelta(r delta.GenerateResult) {
	s := r.Stats
	fmt.Fprintf(c.Err, "modified: %d\n", s.Modified)
	fmt.Fprintf(c.Err, "new reachable: metadata=%d content regular=%d symlink=%d\n", s.Metadata, s.Regular, s.Symlinks)
	fmt.Fprintf(c.Err, "rollsum for %d/%d modified\n", s.Rollsum, s.Modified)
	for _, f := range r.Delta.Fallbacks {
		fmt.Fprintf(c.Err, "fallback for %s (%s)\n", f.Object.Checksum, formatSize(f.UncompressedSize))
	}
	for i := range r.Delta.Parts {
		p := &r.Delta.Parts[i]
		fmt.Fprintf(c.Err, "part %d n:%d compressed:%d uncompressed:%d\n", i, p.NumObjects(), p.Size, p.UncompressedSize)
	}
	fmt.Fprintf(c.Err, "uncompressed=%d compressed=%d loose=%d\n", s.Uncompressed, s.Compressed, s.LooseBytes)
	fmt.Fprintf(c.Err, "rollsum=%d objects, %d bytes\n", s.Rollsum, s.RollsumSize)
	fmt.Fprintf(c.Err, "bsdiff=%d objects\n", s.Bsdiff)
}

// options makes those of the library. With --filename the directory is open.
func (o *deltaGenerateOptions) options(c *call) (g delta.GenerateOptions, err error) {
	if o.empty && o.from.set {
		return g, failf("Cannot specify both --empty and --from=REV")
	}
	if !o.from.set {
		o.from.value = o.to.value + "^"
	}
	if !o.empty {
		if g.From, err = c.repo.Resolve(o.from.value); err != nil {
			return g, err
		}
	}
	if g.To, err = c.repo.Resolve(o.to.value); err != nil {
		return g, err
	}
	if g.Endianness, err = o.endianness(); err != nil {
		return g, err
	}
	g.Inline, g.DisableBsdiff, g.Logger = o.inline, o.noBsdiff, c.logger()
	for _, m := range []struct {
		name string
		arg  text
		dst  **int64
	}{{"--min-fallback-size", o.fallback, &g.MinFallbackSize}, {"--max-bsdiff-size", o.bsdiff, &g.MaxBsdiffSize}, {"--max-chunk-size", o.chunk, &g.MaxChunkSize}} {
		if *m.dst, err = megabytes(m.name, m.arg); err != nil {
			return g, err
		}
	}
	if len(o.keys) > 0 || o.sign.file.set {
		signers, err := o.sign.signers(o.keys)
		if err != nil {
			return g, err
		}
		g.Sign = sign.Func(signers...)
	}
	if o.filename.set {
		g.Filename = filepath.Base(o.filename.value)
		g.Dir, err = fsx.OpenDir(filepath.Dir(o.filename.value))
	}
	return g, err
}

func (o *deltaGenerateOptions) endianness() (delta.Endianness, error) {
	e := delta.LittleEndian
	switch {
	case !o.endian.set || o.endian.value == "l":
	case o.endian.value == "B":
		e = delta.BigEndian
	default:
		return e, failf("Invalid endianness '%s'", o.endian.value)
	}
	if o.swap && e == delta.LittleEndian {
		return delta.BigEndian, nil
	}
	if o.swap {
		return delta.LittleEndian, nil
	}
	return e, nil
}

// megabytes gives a size in bytes; nil where none was chosen.
func megabytes(name string, arg text) (*int64, error) {
	if !arg.set {
		return nil, nil
	}
	n, err := strconv.ParseUint(arg.value, 10, 32)
	if err != nil {
		return nil, failf("Invalid number of megabytes '%s' for %s", arg.value, name)
	}
	bytes := int64(n) * 1000 * 1000
	return &bytes, nil
}

// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"fmt"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

type lsOptions struct{ dirOnly, recursive, checksum, xattrs, nul bool }

func lsVerb() *verb {
	var o lsOptions
	return &verb{
		name: "ls", args: "COMMIT [PATH...]", summary: "List file paths",
		opts: []option{
			{long: "dironly", short: 'd', dst: &o.dirOnly, help: "Do not recurse into directory arguments"},
			{long: "recursive", short: 'R', dst: &o.recursive, help: "Print directories recursively"},
			{long: "checksum", short: 'C', dst: &o.checksum, help: "Print checksum"},
			{long: "xattrs", short: 'X', dst: &o.xattrs, help: "Print extended attributes"},
			{long: "nul-filenames-only", dst: &o.nul, help: "Print only filenames, NUL separated"},
		},
		run: func(ctx context.Context, c *call) error { return c.ls(ctx, o) },
	}
}

func (c *call) ls(ctx context.Context, o lsOptions) error {
	if len(c.args) < 1 {
		return c.usageError("An COMMIT argument is required")
	}
	sum, err := c.commitOf(c.args[0])
	if err != nil {
		return err
	}
	if len(c.args) == 1 {
		return c.lsPath(ctx, sum, "/", o)
	}
	for _, p := range c.args[1:] {
		if err := c.lsPath(ctx, sum, p, o); err != nil {
			return failf("Inspecting path '%s': %w", p, err)
		}
	}
	return nil
}

// lsPath prints a path and, if it is a directory, what is in it.
func (c *call) lsPath(ctx context.Context, commit ostree.Checksum, p string, o lsOptions) error {
	n, err := c.repo.Lookup(commit, p)
	if err != nil {
		return pathError(p, err)
	}
	if o.recursive {
		return c.repo.WalkFrom(ctx, n, func(n ostree.Node) error { return c.lsNode(n, o) })
	}
	if err := c.lsNode(n, o); err != nil || !n.IsDir || o.dirOnly {
		return err
	}
	children, err := c.repo.Children(n)
	if err != nil {
		return err
	}
	for _, n := range children {
		if err := c.lsNode(n, o); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) lsNode(n ostree.Node, o lsOptions) error {
	if o.nul {
		c.printf("%s\x00", n.Path)
		return nil
	}
	info, err := c.repo.Info(n)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%c0%04o %d %d %6d ", typeLetter(info), info.Mode&^uint32(syscall.S_IFMT), info.UID, info.GID, info.Size)
	switch {
	case o.checksum && n.IsDir:
		fmt.Fprintf(&b, "%s %s ", n.Tree, n.Meta)
	case o.checksum:
		fmt.Fprintf(&b, "%s ", n.File)
	}
	if o.xattrs {
		fmt.Fprintf(&b, "{ %s } ", xattrsText(info.Xattrs))
	}
	b.WriteString(n.Path)
	if info.IsSymlink() {
		b.WriteString(" -> " + info.Target)
	}
	c.printf("%s\n", b.String())
	return nil
}

func typeLetter(n ostree.NodeInfo) byte {
	switch {
	case n.IsDir:
		return 'd'
	case n.IsSymlink():
		return 'l'
	}
	return '-'
}

// xattrsText prints attributes as the value that an object holds them in.
func xattrsText(xattrs []ostree.Xattr) string {
	list := make([]gvariant.Value, len(xattrs))
	for i, x := range xattrs {
		list[i] = gvariant.Tuple(gvariant.ByteSlice(append([]byte(x.Name), 0)), gvariant.ByteSlice(x.Value))
	}
	return gvariant.Array("(ayay)", list...).Text(gvariant.TextOptions{Types: true})
}

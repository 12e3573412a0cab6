// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

type checkoutOptions struct {
	userMode, disableCache, union, unionAdd, unionIdentical, whiteouts, passthrough bool
	allowNoent, fromStdin, fsync, hardlinks, copyEmpty, forceCopy, plainDirs        bool
	subpath, fromFile, skipList, policy, prefix                                     text
	image, imageNoVerity                                                            bool
}

func checkoutVerb() *verb {
	var o checkoutOptions
	return &verb{
		name: "checkout", args: "COMMIT [DESTINATION]", summary: "Check out a commit into a filesystem tree",
		opts: []option{
			{long: "user-mode", short: 'U', dst: &o.userMode, help: "Do not change file ownership or initialize extended attributes"},
			{long: "disable-cache", dst: &o.disableCache, help: "Do not update or use the internal repository uncompressed object cache"},
			{long: "subpath", arg: "PATH", dst: &o.subpath, help: "Checkout sub-directory PATH"},
			{long: "union", dst: &o.union, help: "Keep existing directories, overwrite existing files"},
			{long: "union-add", dst: &o.unionAdd, help: "Keep existing files/directories, only add new"},
			{long: "union-identical", dst: &o.unionIdentical, help: "When layering checkouts, error out if a file would be replaced with a different version, but add new files and directories"},
			{long: "whiteouts", dst: &o.whiteouts, help: "Process 'whiteout' (Docker style) entries"},
			{long: "process-passthrough-whiteouts", dst: &o.passthrough, help: "Enable overlayfs whiteout extraction into char 0:0 devices"},
			{long: "allow-noent", dst: &o.allowNoent, help: "Do nothing if specified path does not exist"},
			{long: "from-stdin", dst: &o.fromStdin, help: "Process many checkouts from standard input"},
			{long: "from-file", arg: "FILE", dst: &o.fromFile, help: "Process many checkouts from input file"},
			{long: "fsync", arg: "POLICY", help: "Specify how to invoke fsync()", dst: func(v string) (err error) {
				o.fsync, err = parseBool(v)
				return err
			}},
			{long: "require-hardlinks", short: 'H', dst: &o.hardlinks, help: "Do not fall back to full copies if hardlinking fails"},
			{long: "force-copy-zerosized", short: 'z', dst: &o.copyEmpty, hidden: true, help: "Do not hardlink zero-sized files"},
			{long: "force-copy", short: 'C', dst: &o.forceCopy, help: "Never hardlink (but may reflink if available)"},
			{long: "bareuseronly-dirs", short: 'M', dst: &o.plainDirs, help: "Suppress mode bits outside of 0775 for directories (suid, world writable, etc.)"},
			{long: "skip-list", arg: "FILE", dst: &o.skipList, help: "File containing list of files to skip"},
			{long: "selinux-policy", arg: "PATH", dst: &o.policy, help: "Set SELinux labels based on policy in root filesystem PATH (may be /); implies --force-copy"},
			{long: "selinux-prefix", arg: "PREFIX", dst: &o.prefix, help: "When setting SELinux labels, prefix all paths by PREFIX"},
			{long: "composefs", dst: &o.image, help: "Write the commit's composefs image to the file DESTINATION instead"},
			{long: "composefs-noverity", dst: &o.imageNoVerity, help: "The same without the fs-verity digests of the files"},
		},
		run: func(ctx context.Context, c *call) error { return c.checkout(ctx, &o) },
	}
}

func (c *call) checkout(ctx context.Context, o *checkoutOptions) error {
	if len(c.args) < 1 {
		return c.usageError("COMMIT must be specified")
	}
	image := o.image || o.imageNoVerity
	if image && (o.fromStdin || o.fromFile.set) {
		return failf("Specified options are incompatible with --composefs")
	}
	if o.fromStdin || o.fromFile.set {
		return c.checkoutMany(ctx, o)
	}
	dest := c.args[0]
	if len(c.args) > 1 {
		dest = c.args[1]
	}
	sum, err := c.repo.Resolve(c.args[0])
	if err != nil {
		return err
	}
	if image {
		return c.checkoutImage(ctx, o, sum, dest)
	}
	return c.checkoutOne(ctx, o, sum, o.subpath.value, dest)
}

// checkoutMany reads pairs of rev and subpath, each ended by NUL, and lays them all
// out in one place.
func (c *call) checkoutMany(ctx context.Context, o *checkoutOptions) error {
	in := c.In
	if !o.fromStdin {
		f, err := os.Open(o.fromFile.value)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	words := bufio.NewScanner(in)
	words.Buffer(nil, 1<<20)
	words.Split(splitNUL)
	for words.Scan() && words.Text() != "" {
		sum, err := c.repo.Resolve(words.Text())
		if err != nil {
			return err
		}
		words.Scan()
		if err := c.checkoutOne(ctx, o, sum, words.Text(), c.args[0]); err != nil {
			return failf("Processing tree %s: %w", sum, err)
		}
	}
	return words.Err()
}

func splitNUL(data []byte, atEOF bool) (int, []byte, error) {
	if i := strings.IndexByte(string(data), 0); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// plain tells that only options are given with which libostree keeps and uses the
// cache of unpacked objects.
func (o *checkoutOptions) plain() bool {
	return !o.disableCache && !o.whiteouts && !o.hardlinks && !o.unionAdd && !o.forceCopy && !o.copyEmpty && !o.plainDirs &&
		!o.unionIdentical && !o.skipList.set && !o.policy.set && !o.prefix.set && !o.passthrough
}

func (o *checkoutOptions) check() error {
	switch {
	case o.union && o.unionAdd:
		return failf("Cannot specify both --union and --union-add")
	case o.union && o.unionIdentical:
		return failf("Cannot specify both --union and --union-identical")
	case o.unionAdd && o.unionIdentical:
		return failf("Cannot specify both --union-add and --union-identical")
	case o.hardlinks && (o.forceCopy || o.policy.set):
		return failf("Cannot specify both --require-hardlinks and --force-copy")
	case o.prefix.set && !o.policy.set:
		return failf("Cannot specify --selinux-prefix without --selinux-policy")
	case o.unionIdentical && !o.hardlinks:
		return failf("--union-identical requires --require-hardlinks")
	}
	return nil
}

// library translates the options.
func (o *checkoutOptions) library(subpath string) (ostree.CheckoutOptions, error) {
	lib := ostree.CheckoutOptions{
		Subpath: subpath, AllowNoent: o.allowNoent && o.plain(), ForceCopy: o.forceCopy, RequireHardlinks: o.hardlinks, UserMode: o.userMode,
		BareUserOnlyDirs: o.plainDirs, Whiteouts: o.whiteouts, PassthroughWhiteouts: o.passthrough, UncompressedCache: o.plain(),
		Fsync: o.fsync, // nothing is synced unless asked for, as in libostree
	}
	switch {
	case o.union:
		lib.Union = ostree.UnionOverwrite
	case o.unionAdd:
		lib.Union = ostree.UnionAddFiles
	case o.unionIdentical:
		lib.Union = ostree.UnionIdentical
	}
	if !o.skipList.set {
		return lib, nil
	}
	skip := map[string]bool{}
	err := eachLine(o.skipList.value, func(line string) error {
		skip[line] = true
		return nil
	})
	lib.Filter = func(path string) bool { return !skip[path] }
	return lib, err
}

func (c *call) checkoutOne(ctx context.Context, o *checkoutOptions, sum ostree.Checksum, subpath, dest string) error {
	if !o.plain() {
		if err := o.check(); err != nil {
			return err
		}
	}
	lib, err := o.library(subpath)
	if err == nil {
		err = o.policyOptions(&lib)
	}
	if err != nil {
		return err
	}
	parent, name, err := openParent(dest)
	if err != nil {
		return err
	}
	defer parent.Close()
	err = c.repo.Checkout(ctx, sum, parent, name, lib)
	if errors.Is(err, ostree.ErrNotFound) && subpath != "" {
		return pathError(subpath, err)
	}
	return err
}

// openParent opens the directory that holds or will hold dest; name is "." where
// dest has no name of its own.
func openParent(dest string) (d *fsx.Dir, name string, err error) {
	dest = filepath.Clean(dest)
	name = filepath.Base(dest)
	if name == "." || name == ".." || name == "/" {
		d, err = fsx.OpenDir(dest)
		return d, ".", err
	}
	d, err = fsx.OpenDir(filepath.Dir(dest))
	return d, name, err
}

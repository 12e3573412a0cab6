// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

type showOptions struct {
	related, sizes, hex                bool
	listKeys, listDetached             bool
	variantType, metadataKey, detached text
	gpgHomedir, verifyRemote           text
	dump                               dumpFlags
}

func showVerb() *verb {
	var o showOptions
	return &verb{
		name: "show", args: "OBJECT", summary: "Output a metadata object",
		opts: []option{
			{long: "print-related", dst: &o.related, help: "Show the \"related\" commits"},
			{long: "print-variant-type", arg: "TYPE", dst: &o.variantType, help: "Memory map OBJECT (in this case a filename) to the GVariant type string"},
			{long: "list-metadata-keys", dst: &o.listKeys, help: "List the keys of the metadata"},
			{long: "print-metadata-key", arg: "KEY", dst: &o.metadataKey, help: "Print string value of metadata key"},
			{long: "print-hex", dst: &o.hex, help: "Print values that are bytes as hexadecimal digits"},
			{long: "list-detached-metadata-keys", dst: &o.listDetached, help: "List the keys of the detached metadata"},
			{long: "print-detached-metadata-key", arg: "KEY", dst: &o.detached, help: "Print string value of detached metadata key"},
			{long: "print-sizes", dst: &o.sizes, help: "Show the commit size metadata"},
			{long: "raw", dst: &o.dump.raw, help: "Show raw variant data"},
			{long: "no-byteswap", short: 'B', dst: &o.dump.unswapped, help: "Do not automatically convert variant data from big endian"},
			{long: "gpg-homedir", arg: "HOMEDIR", dst: &o.gpgHomedir, help: "GPG Homedir to use when looking for keyrings"},
			{long: "gpg-verify-remote", arg: "REMOTE", dst: &o.verifyRemote, help: "Use REMOTE name for GPG configuration"},
		},
		run: func(_ context.Context, c *call) error { return c.show(&o) },
	}
}

func (c *call) show(o *showOptions) error {
	if len(c.args) < 1 {
		return c.usageError("An object argument is required")
	}
	rev := c.args[0]
	if o.variantType.set && !o.metadataKey.set && !o.detached.set && !o.listKeys && !o.listDetached && !o.related {
		return c.showFile(o.variantType.value, rev)
	}
	special := o.metadataKey.set || o.detached.set || o.listKeys || o.listDetached || o.related || o.sizes
	if _, err := ostree.ParseChecksum(rev); err == nil && !special {
		return c.showChecksum(rev, o)
	}
	sum, err := c.repo.Resolve(rev)
	if err != nil {
		return err
	}
	switch {
	case o.metadataKey.set || o.detached.set:
		return c.showKey(sum, o)
	case o.listKeys || o.listDetached:
		dict, err := c.commitDict(sum, o.listDetached)
		c.printKeys(dict)
		return err
	case o.related:
		// Commits with related ones are not read: no writer makes any.
		_, err := c.repo.LoadCommit(sum)
		return err
	case o.sizes:
		return c.showSizes(sum)
	}
	return c.showObject(ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit}, o)
}

// showFile prints a file as a value of the given type.
func (c *call) showFile(typ, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return failf("openat(%s): %w", path, pathReason(err))
	}
	v, err := gvariant.Parse(typ, data)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	c.dumpVariant(v)
	return nil
}

// commitDict gives the metadata of a commit, or the detached metadata.
func (c *call) commitDict(sum ostree.Checksum, detached bool) (gvariant.Dict, error) {
	if !detached {
		commit, err := c.repo.LoadCommit(sum)
		return commit.Metadata, err
	}
	found, err := c.repo.Has(ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommitMeta})
	if err != nil {
		return gvariant.Dict{}, err
	}
	if !found {
		return gvariant.Dict{}, failf("No detached metadata for commit %s", sum)
	}
	return c.repo.CommitMeta(sum)
}

func (c *call) printKeys(d gvariant.Dict) {
	var keys []string
	for _, e := range d.Entries() {
		keys = append(keys, e.Key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		c.printf("%s\n", key)
	}
}

func (c *call) showKey(sum ostree.Checksum, o *showOptions) error {
	key := o.metadataKey.value
	if o.detached.set {
		key = o.detached.value
	}
	dict, err := c.commitDict(sum, o.detached.set)
	if err != nil {
		return err
	}
	v, ok := dict.Get(key)
	if !ok {
		return failf("No such metadata key '%s'", key)
	}
	if raw, ok := v.ByteSlice(); ok && o.hex {
		c.printf("%x\n", raw)
		return nil
	}
	c.printf("%s\n", v.Text(gvariant.TextOptions{Types: true, Swap: !o.dump.unswapped}))
	return nil
}

// showChecksum prints whichever object has the checksum.
func (c *call) showChecksum(rev string, o *showOptions) error {
	sum, err := ostree.ParseChecksum(rev)
	if err != nil {
		return err
	}
	for _, t := range []ostree.ObjectType{ostree.TypeCommit, ostree.TypeDirMeta, ostree.TypeDirTree} {
		n := ostree.ObjectName{Checksum: sum, Type: t}
		found, err := c.repo.Has(n)
		if err != nil {
			return err
		}
		if found {
			return c.showObject(n, o)
		}
	}
	h, size, rc, err := c.repo.OpenFile(sum)
	if err != nil {
		return err
	}
	defer rc.Close()
	c.showContent(sum, h, size)
	return nil
}

func (c *call) showContent(sum ostree.Checksum, h ostree.FileHeader, size int64) {
	c.printf("Object: %s\nType: file\n", sum)
	switch h.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		c.printf("File Type: regular\nSize: %d\n", size)
	case syscall.S_IFLNK:
		c.printf("File Type: symlink\nTarget: %s\n", h.Target)
	}
	c.printf("Mode: 0%04o\nUid: %d\nGid: %d\n", h.Mode, h.UID, h.GID)
	c.printf("Extended Attributes: { %s }\n", xattrsText(h.Xattrs))
}

func (c *call) showObject(n ostree.ObjectName, o *showOptions) error {
	data, err := c.repo.LoadRaw(n)
	if err != nil {
		return err
	}
	if err := c.dumpObject(n, data, o.dump); err != nil || n.Type != ostree.TypeCommit {
		return err
	}
	return c.showSignatures(n.Checksum, data, o)
}

// showSignatures tells about the OpenPGP signatures of a commit, if it has any.
func (c *call) showSignatures(sum ostree.Checksum, commit []byte, o *showOptions) error {
	meta, err := c.repo.CommitMeta(sum)
	if err != nil || len(sign.Signatures(meta, sign.GPGKey)) == 0 {
		return err
	}
	keys, err := c.showKeys(o)
	if err != nil {
		return err
	}
	result, err := keys.VerifyDict(commit, meta, time.Now())
	if len(result) == 0 {
		return err
	}
	plural := "s"
	if len(result) == 1 {
		plural = ""
	}
	c.printf("Found %d signature%s:\n", len(result), plural)
	for _, s := range result {
		c.printf("\n%s", s.Describe("  "))
	}
	return nil
}

// showKeys gives the keys of one remote or of all, and those of --gpg-homedir.
func (c *call) showKeys(o *showOptions) (*sign.Keyring, error) {
	if o.verifyRemote.set {
		remote, err := c.loadRemote(o.verifyRemote.value)
		if err != nil {
			return nil, err
		}
		lib, err := c.trustOptions()
		if err != nil {
			return nil, err
		}
		return pull.LoadKeyring(c.repo, remote, lib)
	}
	keys, err := c.allKeys()
	if err == nil && o.gpgHomedir.set {
		err = pull.AddKeyringDir(keys, o.gpgHomedir.value)
	}
	return keys, err
}

// showSizes prints what a pull of the commit takes, in all and without the objects
// that are there.
func (c *call) showSizes(sum ostree.Checksum) error {
	commit, err := c.repo.LoadCommit(sum)
	if err != nil {
		return failf("Failed to read commit: %w", err)
	}
	sizes, err := commit.Sizes()
	if errors.Is(err, ostree.ErrNotFound) {
		return failf("No metadata key ostree.sizes in commit")
	}
	if err != nil {
		return err
	}
	var all, needed struct{ archived, unpacked, objects uint64 }
	for _, s := range sizes {
		all.archived += s.Archived
		all.unpacked += s.Unpacked
		all.objects++
		found, err := c.repo.Has(s.Object)
		if err != nil {
			return err
		}
		if !found {
			needed.archived += s.Archived
			needed.unpacked += s.Unpacked
			needed.objects++
		}
	}
	c.printf("Compressed size (needed/total): %s/%s\n", formatSize(needed.archived), formatSize(all.archived))
	c.printf("Unpacked size (needed/total): %s/%s\n", formatSize(needed.unpacked), formatSize(all.unpacked))
	c.printf("Number of objects (needed/total): %d/%d\n", needed.objects, all.objects)
	return nil
}

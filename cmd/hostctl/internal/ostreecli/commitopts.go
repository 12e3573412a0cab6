// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
)

func (o *commitOptions) options() []option {
	return []option{
		{long: "parent", arg: "COMMIT", dst: &o.parent, help: "Parent commit checksum, or \"none\""},
		{long: "subject", short: 's', arg: "SUBJECT", dst: &o.subject, help: "One line subject"},
		{long: "body", short: 'm', arg: "BODY", dst: &o.body, help: "Full description"},
		{long: "body-file", short: 'F', arg: "FILE", dst: &o.bodyFile, help: "Commit message from FILE path"},
		{long: "editor", short: 'e', dst: &o.editor, help: "Use an editor to write the commit message"},
		{long: "branch", short: 'b', arg: "BRANCH", dst: &o.branch, help: "Branch"},
		{long: "orphan", dst: &o.orphan, help: "Create a commit without writing a ref"},
		{long: "no-bindings", dst: &o.noBindings, help: "Do not write any ref bindings"},
		{long: "bind-ref", arg: "BRANCH", dst: &o.bindRefs, help: "Add a ref to ref binding commit metadata"},
		{long: "base", arg: "REV", dst: &o.base, help: "Start from the given commit as a base (no modifiers apply)"},
		{long: "tree", arg: "dir=PATH or tar=TARFILE or ref=COMMIT", dst: &o.trees, help: "Overlay the given argument as a tree"},
		{long: "add-metadata-string", arg: "KEY=VALUE", dst: &o.metaStrings, help: "Add a key/value pair to metadata"},
		{long: "add-metadata", arg: "KEY=VALUE", dst: &o.metaVariants, help: "Add a key/value pair to metadata, where the KEY is a string, and VALUE is in GVariant Text Format"},
		{long: "keep-metadata", arg: "KEY", dst: &o.metaKeep, help: "Keep metadata KEY and its associated VALUE from parent"},
		{long: "add-detached-metadata-string", arg: "KEY=VALUE", dst: &o.detached, help: "Add a key/value pair to detached metadata"},
		{long: "owner-uid", arg: "UID", dst: &o.uid, help: "Set file ownership user id"},
		{long: "owner-gid", arg: "GID", dst: &o.gid, help: "Set file ownership group id"},
		{long: "canonical-permissions", dst: &o.canonical, help: "Canonicalize permissions in the same way bare-user does for hardlinked files"},
		{long: "bootable", dst: &o.bootable, help: "Flag this commit as a bootable OSTree (e.g. contains a Linux kernel)"},
		{long: "mode-ro-executables", dst: &o.roExecutables, help: "Ensure executable files are not writable"},
		{long: "no-xattrs", dst: &o.noXattrs, help: "Do not import extended attributes"},
		{long: "selinux-policy", arg: "PATH", dst: &o.policy, help: "Set SELinux labels based on policy in root filesystem PATH (may be /)"},
		{long: "selinux-policy-from-base", short: 'P', dst: &o.policyFromBase, help: "Set SELinux labels based on first --tree argument"},
		{long: "selinux-labeling-epoch", arg: "EPOCH", dst: &o.labelEpoch, hidden: true, help: "SELinux labeling epoch: 1 labels /usr/etc as /etc"},
		{long: "link-checkout-speedup", dst: &o.linkSpeedup, help: "Optimize for commits of trees composed of hardlinks into the repository"},
		{long: "devino-canonical", short: 'I', dst: &o.devinoCanonical, help: "Assume hardlinked objects are unmodified.  Implies --link-checkout-speedup"},
		{long: "tar-autocreate-parents", dst: &o.autocreate, help: "When loading tar archives, automatically create parent directories as needed"},
		{long: "tar-pathname-filter", arg: "REGEX,REPLACEMENT", dst: &o.pathFilter, help: "When loading tar archives, use REGEX,REPLACEMENT against path names"},
		{long: "skip-if-unchanged", dst: &o.skipUnchanged, help: "If the contents are unchanged from previous commit, do nothing"},
		{long: "statoverride", arg: "PATH", dst: &o.statOverride, help: "File containing list of modifications to make to permissions"},
		{long: "skip-list", arg: "PATH", dst: &o.skipList, help: "File containing list of files to skip"},
		{long: "consume", dst: &o.consume, help: "Consume (delete) content after commit (for local directories)"},
		{long: "table-output", dst: &o.table, help: "Output more information in a KEY: VALUE format"},
		{long: "gpg-sign", arg: "KEY-ID", dst: &o.gpgKeys, help: "GPG Key ID to sign the commit with"},
		{long: "gpg-homedir", arg: "HOMEDIR", dst: &o.gpgHomedir, help: "GPG Homedir to use when looking for keyrings"},
		{long: "sign", arg: "KEY_ID", dst: &o.signKeys, help: "Sign the commit with"},
		{long: "sign-from-file", arg: "PATH", dst: &o.signFiles, help: "Sign the commit with the key in the file PATH"},
		{long: "sign-type", arg: "NAME", dst: &o.signType, help: "Signature type to use (defaults to 'ed25519')"},
		{long: "generate-sizes", dst: &o.sizes, help: "Generate size information along with commit metadata"},
		{long: "generate-composefs-metadata", dst: &o.composefs, hidden: true, help: "Generate composefs commit metadata"},
		{long: "disable-fsync", dst: &o.noFsync, hidden: true, help: "Do not invoke fsync()"},
		fsyncOption(&o.noFsync),
		{long: "timestamp", arg: "TIMESTAMP", dst: &o.timestamp, help: "Override the timestamp of the commit"},
	}
}

// library translates the options that change files.
func (m *committer) library(ctx context.Context) (lib ostree.CommitOptions, err error) {
	o := m.o
	for _, id := range []struct {
		n   int
		dst **uint32
	}{{o.uid, &m.overrides.UID}, {o.gid, &m.overrides.GID}} {
		if id.n >= 0 {
			n := uint32(id.n)
			*id.dst = &n
		}
	}
	m.overrides.ReadOnlyExecutables = o.roExecutables
	lib = ostree.CommitOptions{
		DevInoCanonical: o.devinoCanonical, SkipXattrs: o.noXattrs, CanonicalPermissions: o.canonical,
		Consume: o.consume, GenerateSizes: o.sizes,
	}
	v := &m.overrides
	if v.UID != nil || v.GID != nil || v.ReadOnlyExecutables || o.statOverride.set || o.skipList.set {
		lib.Overrides = v
	}
	if o.linkSpeedup || o.devinoCanonical {
		lib.DevIno, err = m.repo.ScanLinks(ctx)
	}
	return lib, err
}

// readLists reads the files of --statoverride and --skip-list.
func (m *committer) readLists() error {
	if m.o.statOverride.set {
		m.overrides.AddMode, m.overrides.SetMode = map[string]uint32{}, map[string]uint32{}
		if err := eachLine(m.o.statOverride.value, m.statOverride); err != nil {
			return err
		}
	}
	if !m.o.skipList.set {
		return nil
	}
	m.overrides.Skip = map[string]bool{}
	return eachLine(m.o.skipList.value, func(line string) error {
		m.overrides.Skip[line] = true
		return nil
	})
}

// statOverride reads "MODE PATH", which adds bits, or "=MODE PATH", which sets
// them; MODE is decimal.
func (m *committer) statOverride(line string) error {
	mode, path, ok := strings.Cut(line, " ")
	if !ok {
		return failf("Malformed statoverride file (no space found)")
	}
	into := m.overrides.AddMode
	if rest, set := strings.CutPrefix(mode, "="); set {
		mode, into = rest, m.overrides.SetMode
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(mode, "+"), 10, 32)
	if err != nil {
		return fmt.Errorf("read statoverride file: mode %q: %w", mode, err)
	}
	into[path] = uint32(n)
	return nil
}

// maxSmallFile bounds the files that options name, in bytes.
const maxSmallFile = 64 << 20

// readSmall reads a whole file that an option names.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, failf("openat(%s): %w", path, pathReason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSmallFile+1))
	if err == nil && len(data) > maxSmallFile {
		err = fmt.Errorf("read %s: larger than %d bytes", path, maxSmallFile)
	}
	return data, err
}

// eachLine calls fn for every line of a file that is not empty.
func eachLine(path string, fn func(line string) error) error {
	data, err := readSmall(path)
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if line == "" {
			continue
		}
		if err := fn(line); err != nil {
			return err
		}
	}
	return nil
}

// unmatched fails for paths in the lists that no tree had.
func (m *committer) unmatched() error {
	modes, skips := m.overrides.Unmatched()
	for _, p := range modes {
		fmt.Fprintf(m.Err, "Unmatched statoverride path: %s\n", p)
	}
	if len(modes) > 0 {
		return failf("Unmatched statoverride paths")
	}
	for _, p := range skips {
		fmt.Fprintf(m.Err, "Unmatched skip-list path: %s\n", p)
	}
	if len(skips) > 0 {
		return failf("Unmatched skip-list paths")
	}
	return nil
}

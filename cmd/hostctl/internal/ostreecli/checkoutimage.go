// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"bufio"
	"context"

	"github.com/hostctl/hostctl/pkg/deploy/prepareroot"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// checkoutImage writes the composefs image of a commit to a file, which is replaced
// when all is written. A digest that the commit records has to fit.
func (c *call) checkoutImage(ctx context.Context, o *checkoutOptions, sum ostree.Checksum, dest string) error {
	if !o.plain() {
		return failf("Specified options are incompatible with --composefs")
	}
	if o.subpath.set || o.union || o.userMode {
		return failf("--subpath, --union and --user-mode have no meaning with --composefs")
	}
	commit, err := c.repo.LoadCommit(sum)
	if err != nil {
		return err
	}
	parent, name, err := openParent(dest)
	if err != nil {
		return err
	}
	defer parent.Close()
	f, err := parent.CreateAtomic(name, 0o644)
	if err != nil {
		return err
	}
	defer f.Cancel()
	w := bufio.NewWriterSize(f, 1<<20)
	digest, err := c.repo.WriteComposefs(ctx, sum, w, ostree.ComposefsOptions{NoVerity: o.imageNoVerity})
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return err
	}
	if want, ok := commit.Metadata.ByteSlice(prepareroot.DigestKey); ok && !o.imageNoVerity && string(want) != string(digest[:]) {
		return failf("%w: commit %s records another digest for its composefs image than %s", ostree.ErrCorrupt, sum, digest)
	}
	return f.Commit()
}

// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"context"
	"fmt"

	"github.com/hostctl/hostctl/internal/fsx"
)

// checker is a Backend that can tell beforehand that Prepare would refuse.
type checker interface {
	Check(ctx context.Context, boot *fsx.Dir) error
}

// Check tells, without writing anything, whether the boot loader would read what its
// backend writes. ErrForeignConfig if not.
func Check(ctx context.Context, b Backend, boot *fsx.Dir) error {
	if c, ok := b.(checker); ok {
		return c.Check(ctx, boot)
	}
	return nil
}

// Check implements checker.
func (g grub2) Check(_ context.Context, boot *fsx.Dir) error { return g.checkStubs(boot) }

// Check implements checker.
func (syslinux) Check(_ context.Context, boot *fsx.Dir) error {
	st, err := boot.Lstat(syslinuxStub)
	if err != nil || st.IsSymlink() {
		return err
	}
	data, err := boot.ReadFile(syslinuxStub, maxStub)
	if err == nil && !bytes.Contains(data, []byte("loader/syslinux.cfg")) {
		err = fmt.Errorf("/boot/%s: %w", syslinuxStub, ErrForeignConfig)
	}
	return err
}

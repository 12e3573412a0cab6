// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"runtime"

	"github.com/hostctl/hostctl/internal/fsx"
)

const (
	// ziplStamp says that zipl has to run; the name is libostree's.
	ziplStamp = "ostree-bootloader-update.stamp"
	// bootmap is what zipl writes: the blocks of the default entry's kernel and initramfs,
	// and its options.
	bootmap = "bootmap"
)

// ErrZiplPending reports that the machine boots what zipl noted before the last switch,
// and that there is no zipl here to change that.
var ErrZiplPending = errors.New("zipl has to run before anything else changes in /boot")

// zipl serves the boot loader of s390x. Firmware loads the blocks that the program zipl
// noted when it last ran, so it runs after each switch; until it has, the order before
// boots, and nothing that this needs may go. A stamp in /boot, durable before the switch,
// has the next command, or boot, make up for a run that a crash prevented.
type zipl struct {
	command []string
}

// Probe implements Backend: the architecture has no other boot loader.
func (zipl) Probe(context.Context, *fsx.Dir) (bool, error) { return runtime.GOARCH == "s390x", nil }

// Prepare implements Backend.
func (zipl) Prepare(_ context.Context, boot *fsx.Dir, _ Menu) error {
	return boot.WriteFile(ziplStamp, nil, 0o644)
}

// Finish implements Backend. Without a command, for a disk that is not the running
// system's, the stamp stays.
func (z zipl) Finish(ctx context.Context, boot *fsx.Dir, _ Menu) error {
	if len(z.command) == 0 {
		return nil
	}
	return z.run(ctx, boot)
}

// Settle implements settler.
func (z zipl) Settle(ctx context.Context, boot *fsx.Dir) error {
	pending, err := boot.Exists(ziplStamp)
	if err != nil || !pending {
		return err
	}
	if len(z.command) > 0 {
		return z.run(ctx, boot)
	}
	// A disk on which zipl never ran boots nothing that could be lost.
	if used, err := boot.Exists(bootmap); err != nil || !used {
		return err
	}
	return fmt.Errorf("/boot/%s: %w", ziplStamp, ErrZiplPending)
}

// Check implements checker.
func (z zipl) Check(_ context.Context, boot *fsx.Dir) error {
	if len(z.command) == 0 {
		return nil
	}
	_, err := exec.LookPath(z.command[0])
	return err
}

func (z zipl) run(ctx context.Context, boot *fsx.Dir) error {
	out, err := exec.CommandContext(ctx, z.command[0], z.command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run zipl: %w: %s; the order before boots until it succeeds, \"hostctl cleanup\" tries again", err, bytes.TrimSpace(out))
	}
	// What zipl wrote, before the stamp that asks for it goes.
	if err := boot.Syncfs(); err != nil {
		return err
	}
	if err := boot.Remove(ziplStamp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// settler is a Backend whose Finish a crash may have prevented.
type settler interface {
	Settle(ctx context.Context, boot *fsx.Dir) error
}

// Settle does what Finish did not come to after the last switch. It runs before anything
// that an older order needs is removed or replaced.
func Settle(ctx context.Context, b Backend, boot *fsx.Dir) error {
	if s, ok := b.(settler); ok {
		return s.Settle(ctx, boot)
	}
	return nil
}

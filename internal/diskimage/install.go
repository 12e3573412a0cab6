// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"context"
	"errors"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/deploy/upgrade"
)

// menuTimeout is how many seconds the boot menu of an installed system waits.
const menuTimeout = 1

// Install fills the empty sysroot d with a first deployment that boots from the
// partitions that Build makes for boot: GRUB's entry file, by which the deployment
// recognises its boot loader, and the lines in /etc/fstab that mount /boot.
func Install(ctx context.Context, d *fsx.Dir, boot Boot, req upgrade.InstallRequest) (deploy.Deployment, error) {
	if boot.grub() {
		if err := writeStub(d); err != nil {
			return deploy.Deployment{}, err
		}
	} else {
		req.Bootloader = "systemd-boot" // named, since there is nothing yet to recognise it by
	}
	own := req.Prepare
	req.Prepare = func(dir *fsx.Dir) error {
		if err := writeFstab(dir, boot); err != nil || own == nil {
			return err
		}
		return own(dir)
	}
	return upgrade.Install(ctx, d, req)
}

func writeStub(d *fsx.Dir) (err error) {
	if err := d.MkdirAll("boot", 0o755); err != nil {
		return err
	}
	boot, err := d.OpenDir("boot")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, boot.Close()) }()
	return WriteStub(boot, menuTimeout)
}

func writeFstab(deployment *fsx.Dir, boot Boot) (err error) {
	etc, err := deployment.OpenDir("etc")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, etc.Close()) }()
	return WriteFstab(etc, boot, "")
}

// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// maxFstab bounds an existing fstab in bytes.
const maxFstab = 1 << 20

// WriteFstab adds to the fstab of a deployment's etc folder the line that mounts
// /boot by its label ("boot" if empty), unless /boot has a line. The root needs
// none: the kernel argument root=LABEL=root names it, and the initramfs mounts
// the rest. As a change of the machine's own, the file is carried from
// deployment to deployment.
func WriteFstab(etc *fsx.Dir, bootLabel string) error {
	if bootLabel == "" {
		bootLabel = "boot"
	}
	old, err := etc.ReadFile("fstab", maxFstab)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read fstab: %w", err)
	}
	text := string(old)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 3 && !strings.HasPrefix(f[0], "#") && f[1] == "/boot" {
			return nil
		}
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	text += "LABEL=" + bootLabel + " /boot ext4 defaults,nosuid,nodev 0 2\n"
	return etc.WriteFileAtomic("fstab", []byte(text), 0o644)
}

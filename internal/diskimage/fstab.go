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

// WriteFstab adds to the fstab of a deployment's etc folder the lines that mount
// /boot by its label ("boot" if empty) and an EFI system partition beside it,
// unless these folders have a line. The root needs none: the kernel argument
// root=LABEL=root names it, and the initramfs mounts the rest. As a change of the
// machine's own, the file is carried from deployment to deployment.
func WriteFstab(etc *fsx.Dir, boot Boot, bootLabel string) error {
	if bootLabel == "" {
		bootLabel = defaultBootLabel
	}
	old, err := etc.ReadFile("fstab", maxFstab)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read fstab: %w", err)
	}
	text := string(old)
	have := map[string]bool{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 3 && !strings.HasPrefix(f[0], "#") {
			have[f[1]] = true
		}
	}
	for _, l := range fstabLines(boot, bootLabel) {
		if have[strings.Fields(l)[1]] {
			continue
		}
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		text += l + "\n"
	}
	if text == string(old) {
		return nil
	}
	return etc.WriteFileAtomic("fstab", []byte(text), 0o644)
}

// fstabLines: on FAT everything is root's, and nobody else's business.
func fstabLines(boot Boot, label string) []string {
	const fat = "vfat defaults,nosuid,nodev,umask=0077"
	if boot.fatBoot() {
		return []string{"LABEL=" + fatLabel(label) + " /boot " + fat + " 0 2"}
	}
	lines := []string{"LABEL=" + label + " /boot ext4 defaults,nosuid,nodev 0 2"}
	if boot.uefi() {
		// Nothing at run time needs it: a machine without it must come up.
		lines = append(lines, "LABEL="+espLabel+" "+espMount+" "+fat+",nofail 0 2")
	}
	return lines
}

// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/sys"
)

// trialMark is bls.TrialMark: this boot is counted, and has to end.
const trialMark = "hostctl.trial"

// inits are what a service manager in the initramfs would start, in its order.
// Behind the last it starts a shell, which waits for somebody for ever.
func inits() []string { return []string{"usr/lib/systemd/systemd", "sbin/init"} }

// checkInit requires, on a trial without init= of its own, a program to start.
func checkInit(cmdline, deployment string) error {
	args := splitCmdline(cmdline)
	if !slices.Contains(args, trialMark) || cmdlineValue(cmdline, "init") != "" {
		return nil
	}
	return CheckInit(deployment)
}

// CheckInit requires a program for systemd to start in the directory of a deployment;
// ErrBadDeployment if there is none.
func CheckInit(deployment string) error {
	root, err := os.Open(deployment)
	if err != nil {
		return fmt.Errorf("look for init: %w", err)
	}
	defer root.Close()
	for _, name := range inits() {
		fd, err := sys.Openat2(int(root.Fd()), name, os.O_RDONLY, 0, sys.InRoot)
		if err != nil {
			continue
		}
		f := os.NewFile(uintptr(fd), name)
		info, err := f.Stat()
		_ = f.Close() // only looked at
		if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 && info.Size() > 0 {
			return nil
		}
	}
	return fmt.Errorf("deployment %s: none of %s is a program: %w", deployment, strings.Join(inits(), ", "), ErrBadDeployment)
}

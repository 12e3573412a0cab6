// SPDX-License-Identifier: Apache-2.0

// Package distro makes TestDistro: a real RPM distribution out of Debian
// packages of the configured apt archive, in two states. State 1 is the point
// release, state 2 has the security updates.
package distro

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// ErrMissingTool says that a program is not installed.
var ErrMissingTool = errors.New("a needed program is not installed")

// tools maps each program to the Debian package that has it.
var tools = [][2]string{
	{"apt-get", "apt"}, {"dpkg-deb", "dpkg"}, {"rpmbuild", "rpm"}, {"rpmsign", "rpm"}, {"rpm", "rpm"},
	{"createrepo_c", "createrepo-c"}, {"modifyrepo_c", "createrepo-c"}, {"gpg", "gpg"},
}

// checkTools reports every missing program at once.
func checkTools() error {
	var missing []string
	for _, t := range tools {
		if _, err := exec.LookPath(t[0]); err != nil {
			missing = append(missing, fmt.Sprintf("%s (Debian package %s)", t[0], t[1]))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", ErrMissingTool, strings.Join(missing, ", "))
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/version"
)

// level is the release of libostree whose command line this one follows.
const level = "2022.7"

// features are the lines of --version that scripts look for. The names of
// libraries stand for what libostree can do with them; here nothing is linked in.
var features = []string{"libcurl", "gpgme", "libarchive", "sign-ed25519", "p2p"}

// versionText is in the YAML that scripts parse.
func versionText() string {
	return "libostree:\n Version: '" + level + "'\n Implementation: 'hostctl " + version.String() + "'\n Features:\n  - " +
		strings.Join(features, "\n  - ") + "\n"
}

// extDir is where packages put programs that add verbs.
const extDir = "/usr/libexec/libostree/ext/"

// external finds the program that adds a verb: ostree-NAME, there or in PATH.
func external(name string) (path string, ok bool) {
	if name == "" || strings.Contains(name, "/") {
		return "", false
	}
	if _, err := os.Stat(extDir + "ostree-" + name); err == nil {
		return extDir + "ostree-" + name, true
	}
	path, err := exec.LookPath("ostree-" + name)
	return path, err == nil || errors.Is(err, exec.ErrDot) // PATH is the user's choice
}

// execExternal replaces this process; the program gets all arguments.
func execExternal(path string, args []string) error {
	argv := append([]string{filepath.Base(path)}, args...)
	return &os.PathError{Op: "execute", Path: path, Err: syscall.Exec(path, argv, os.Environ())}
}

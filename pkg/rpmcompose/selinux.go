// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/hostctl/hostctl/internal/fsx"
)

// refusePolicy fails where an assembled tree holds an SELinux policy that asks
// for labels, which are not written: such a system would boot with every file
// unlabelled. A treefile that says selinux = false knows.
func refusePolicy(root *fsx.Dir) error {
	const dir = "usr/etc/selinux"
	entries, err := root.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		found, err := root.Exists(path.Join(dir, e.Name, "policy"))
		if err != nil && e.IsDir() {
			return err
		}
		if found {
			return fmt.Errorf("%w: a package brings the SELinux policy %q, but files are not labelled by this composer: leave it out or write selinux = false", ErrTreefile, e.Name)
		}
	}
	return nil
}

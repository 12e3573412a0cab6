// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/deploy/prepareroot"
)

const maxPrepareRoot = 1 << 20 // bytes

// wantsComposefs tells whether the commit is to record what its composefs image is: a
// host that boots the image then knows it for that of the commit, and with
// `enabled = signed` refuses any other, also a commit that records none.
func (r *run) wantsComposefs(root *fsx.Dir) (bool, error) {
	if r.env.Composefs {
		return true, nil
	}
	var conf [2][]byte
	for i, name := range []string{"usr/lib/ostree/prepare-root.conf", "usr/etc/ostree/prepare-root.conf"} {
		var err error
		if conf[i], err = root.ReadFileInRoot(name, maxPrepareRoot); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	c, err := prepareroot.ParseConfig(conf[0], conf[1])
	if err != nil {
		return false, fmt.Errorf("read prepare-root.conf of the tree, with which it would not boot: %w", err)
	}
	return c.Composefs.Use != prepareroot.No, nil
}

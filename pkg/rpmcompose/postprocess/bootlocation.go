// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"path"
)

// ostreeBoot is where clients of before 2016 look for a kernel, and tools for
// what packages put into /boot.
const ostreeBoot = "usr/lib/ostree-boot"

// bootLocation adds the second names of kernel and initramfs that
// boot-location = "new" asks for: vmlinuz-VERSION-SUM and
// initramfs-VERSION.img-SUM, where SUM is the SHA-256 of both contents, one after
// the other. Source: rpm-ostree's treefile documentation, libostree's rules for
// the boot checksum.
func (r *runner) bootLocation() error {
	if !r.o.KernelInOstreeBoot || r.res.Kernel == "" {
		return nil
	}
	dir := path.Join(modulesDir, r.res.Kernel)
	files := []struct{ name, prefix, suffix string }{{kernelName, kernelName + "-", ""}, {initramfsName, "initramfs-", ".img"}}
	h := sha256.New()
	var have []string
	for _, f := range files {
		in, err := r.root.Open(path.Join(dir, f.name))
		if errors.Is(err, fs.ErrNotExist) && f.name == initramfsName {
			continue
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(h, in)
		if err = errors.Join(err, in.Close()); err != nil {
			return err
		}
		have = append(have, f.name)
	}
	if err := r.root.MkdirAll(ostreeBoot, 0o755); err != nil {
		return err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	for i, name := range have {
		to := path.Join(ostreeBoot, files[i].prefix+r.res.Kernel+files[i].suffix+"-"+sum)
		if err := r.root.Link(path.Join(dir, name), r.root, to); err != nil {
			return err
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// legacyDirs are where trees kept their kernel before usr/lib/modules had it.
func legacyDirs() []string { return []string{"usr/lib/ostree-boot", "boot"} }

// legacyKernel finds the kernel of a tree whose builder put it, the initramfs and
// the device tree into the first of legacyDirs that is there, as NAME-BOOTSUM:
// vmlinuz-5.10-1f3a…, installed as vmlinuz-5.10. ErrNoKernel where there is none.
func legacyKernel(t tree) (kernel, error) {
	for _, dir := range legacyDirs() {
		files, _, err := t.list(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return kernel{}, err
		}
		return readLegacy(t, dir, files)
	}
	return kernel{}, ErrNoKernel
}

func readLegacy(t tree, dir string, files []string) (kernel, error) {
	var k kernel
	var vmlinuz *bootFile
	sums := map[**bootFile]string{}
	for _, name := range files {
		base, sum, ok := cutBootsum(name)
		if !ok {
			continue
		}
		for prefix, at := range map[string]**bootFile{"vmlinuz-": &vmlinuz, "initramfs-": &k.initramfs, "devicetree-": &k.devicetree} {
			if !strings.HasPrefix(name, prefix) || *at != nil {
				continue
			}
			source := path.Join(dir, name)
			size, err := t.size(source)
			if err != nil {
				return kernel{}, err
			}
			*at, sums[at] = &bootFile{source: source, name: base, size: size}, sum
		}
	}
	if vmlinuz == nil {
		return kernel{}, ErrNoKernel
	}
	k.vmlinuz, k.bootsum = *vmlinuz, sums[&vmlinuz]
	k.version = strings.TrimPrefix(strings.TrimPrefix(vmlinuz.name, "vmlinuz"), "-")
	for at, sum := range sums {
		if sum != k.bootsum {
			return kernel{}, fmt.Errorf("%w: %s and %s have different boot checksums", ErrInvalidCommit, vmlinuz.source, (*at).source)
		}
	}
	return k, nil
}

// cutBootsum splits NAME-BOOTSUM.
func cutBootsum(name string) (base, sum string, ok bool) {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 || !isSHA256(name[i+1:]) {
		return "", "", false
	}
	return name[:i], name[i+1:], true
}

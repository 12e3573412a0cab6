// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

const ubootConfigFile = "uEnv.txt"

// uboot serves U-Boot scripts that import /boot/loader/uEnv.txt, often through a
// link /boot/uEnv.txt. The variables of the default have plain names, those of
// the n-th entry end in n.
type uboot struct{}

func (uboot) Probe(_ context.Context, boot *fsx.Dir) (bool, error) {
	d, err := boot.OpenInRoot(path.Join(loaderLink, ubootConfigFile), 0, 0)
	if isAbsent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, d.Close()
}

func (uboot) Prepare(_ context.Context, boot *fsx.Dir, m Menu) error {
	data, err := ubootConfig(m)
	if err != nil {
		return err
	}
	return boot.WriteFile(path.Join(LoaderDir(m.Version), ubootConfigFile), data, 0o644)
}

func (uboot) Finish(context.Context, *fsx.Dir, Menu) error { return nil }

func ubootConfig(m Menu) ([]byte, error) {
	var lines []string
	n := 0
	for _, e := range m.Entries {
		if !e.isOSTree() {
			continue
		}
		if _, err := e.Format(); err != nil {
			return nil, fmt.Errorf("write U-Boot variables for %s: %w", e.Name, err)
		}
		suffix := ""
		if n++; n > 1 {
			suffix = strconv.Itoa(n)
		}
		lines = append(lines, ubootVariables(e, suffix)...)
		if n == 1 && len(m.UEnv) > 0 {
			if !utf8.Valid(m.UEnv) || bytes.IndexByte(m.UEnv, 0) >= 0 {
				return nil, fmt.Errorf("write U-Boot variables: usr/lib/ostree-boot/uEnv.txt: %w: no text", bls.ErrInvalid)
			}
			lines = append(lines, string(m.UEnv))
		}
	}
	return joinLines(lines), nil
}

func ubootVariables(e Entry, suffix string) []string {
	var lines []string
	add := func(name, value string) {
		if value != "" {
			lines = append(lines, name+suffix+"="+value)
		}
	}
	at := func(p string) string {
		if p == "" {
			return ""
		}
		return bootPath(p)
	}
	add("kernel_image", at(e.Linux))
	if len(e.Initrd) > 0 {
		// U-Boot loads one file; libostree writes no overlays either.
		add("ramdisk_image", at(e.Initrd[0]))
	}
	add("fdt_file", at(e.DeviceTree))
	add("fdtdir", at(e.FDTDir))
	add("bootargs", strings.TrimSpace(e.Options))
	return lines
}

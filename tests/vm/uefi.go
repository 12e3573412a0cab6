// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// ErrNoFirmware reports that the UEFI firmware for machines is not installed.
var ErrNoFirmware = errors.New("no UEFI firmware found: install ovmf (Debian) or edk2-ovmf (Fedora)")

// firmware is OVMF: code, and the initial state of its variables.
type firmware struct{ code, vars string }

// firmwares are the places of distributions, without Secure Boot.
func firmwares() []firmware {
	return []firmware{
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
	}
}

func findFirmware() (firmware, error) {
	for _, f := range firmwares() {
		_, err1 := os.Stat(f.code)
		_, err2 := os.Stat(f.vars)
		if err1 == nil && err2 == nil {
			return f, nil
		}
	}
	return firmware{}, ErrNoFirmware
}

// addFirmware gives the machine variables of its own, in a format that has
// snapshots: QEMU refuses to save a machine with a writable raw drive.
func (v *VM) addFirmware() error {
	if !v.cfg.UEFI {
		return nil
	}
	f, err := findFirmware()
	if err != nil {
		return err
	}
	v.firmware = f.code
	out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", f.vars, v.path("vars.qcow2")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy %s: %w: %s", f.vars, err, out)
	}
	return nil
}

func (v *VM) firmwareArgs() []string {
	if v.firmware == "" {
		return nil
	}
	return []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + v.firmware,
		"-drive", "if=pflash,unit=1,format=qcow2,file=" + v.path("vars.qcow2"),
	}
}

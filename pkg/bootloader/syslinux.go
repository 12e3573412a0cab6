// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

const syslinuxStub = "syslinux/syslinux.cfg"

// syslinux serves SYSLINUX and EXTLINUX, which cannot read BLS entries:
// loader.V/syslinux.cfg repeats them. The file that the boot loader opens,
// syslinux/syslinux.cfg, is a link to ../loader/syslinux.cfg, or includes that.
// Lines that do not come from entries are carried over from generation to
// generation, as libostree does it.
type syslinux struct{}

func (syslinux) Probe(_ context.Context, boot *fsx.Dir) (bool, error) {
	return boot.Exists(syslinuxStub)
}

func (s syslinux) Prepare(_ context.Context, boot *fsx.Dir, m Menu) error {
	st, err := boot.Lstat(syslinuxStub)
	if err != nil {
		return fmt.Errorf("read SYSLINUX configuration: %w", err)
	}
	old, err := boot.ReadFileInRoot(syslinuxStub, maxStub)
	if errors.Is(err, fs.ErrNotExist) && st.IsSymlink() {
		err = nil // a link, and no generation yet
	}
	if err != nil {
		return fmt.Errorf("read SYSLINUX configuration: %w", err)
	}
	var stub []byte
	if !st.IsSymlink() {
		stub = old
		// A file of its own never changes; what it includes is the menu so far.
		if !bytes.Contains(old, []byte("loader/syslinux.cfg")) {
			return fmt.Errorf("/boot/%s: %w", syslinuxStub, ErrForeignConfig)
		}
		if old, err = boot.ReadFileInRoot("loader/syslinux.cfg", maxStub); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read SYSLINUX configuration: %w", err)
		}
	}
	trial, err := s.nextTrial(boot, m, stub, old)
	if err != nil {
		return fmt.Errorf("prepare trial: %w", err)
	}
	data, err := syslinuxConfig(string(old), m, trial)
	if err != nil {
		return err
	}
	return boot.WriteFile(path.Join(LoaderDir(m.Version), "syslinux.cfg"), data, 0o644)
}

// syslinuxConfig replaces the labels of ostree kernels in a configuration by
// those of the entries. A DEFAULT that names another label stays. trial is the
// number of the first entry's trial, 0 for none.
func syslinuxConfig(old string, m Menu, trial int) ([]byte, error) {
	lines, ownDefault, err := foreignSyslinux(strings.Split(old, "\n"))
	if err != nil {
		return nil, err
	}
	for i, e := range m.Entries {
		if !e.isOSTree() {
			continue
		}
		if _, err := e.Format(); err != nil {
			return nil, fmt.Errorf("write SYSLINUX entry for %s: %w", e.Name, err)
		}
		if i == 0 && !ownDefault {
			lines = append(lines, "DEFAULT "+e.title())
		}
		if trial > 0 && e.id() == m.fallback() {
			name := fallbackLabel + strconv.Itoa(trial)
			lines = append(lines, "DEFAULT "+name)
			lines = append(lines, syslinuxLabel(e, name, "\tMENU LABEL "+e.title())...)
			continue
		}
		lines = append(lines, syslinuxLabel(e, e.title())...)
	}
	if trial > 0 {
		e := m.Entries[0]
		e.Options = strings.TrimSpace(e.Options + " " + strings.Join(TrialKargs(), " "))
		lines = append(lines, syslinuxLabel(e, trialLabel+strconv.Itoa(trial), "\tMENU HIDE")...)
	}
	return joinLines(lines), nil
}

func syslinuxLabel(e Entry, name string, more ...string) []string {
	lines := append([]string{"LABEL " + name, "\tKERNEL " + bootPath(e.Linux)}, more...)
	if len(e.Initrd) > 0 {
		var list []string
		for _, i := range e.Initrd {
			list = append(list, bootPath(i))
		}
		lines = append(lines, "\tINITRD "+strings.Join(list, ","))
	}
	if e.DeviceTree != "" {
		lines = append(lines, "\tDEVICETREE "+bootPath(e.DeviceTree))
	}
	if e.FDTDir != "" {
		lines = append(lines, "\tFDTDIR "+bootPath(e.FDTDir))
	}
	if e.Options != "" {
		lines = append(lines, "\tAPPEND "+e.Options)
	}
	return lines
}

// foreignSyslinux keeps the lines that belong to no ostree label. ownDefault
// tells that DEFAULT names a label of somebody else's.
func foreignSyslinux(lines []string) (kept []string, ownDefault bool, err error) {
	for len(lines) > 0 {
		line := lines[0]
		n := 1
		switch {
		case strings.HasPrefix(line, "DEFAULT "):
			if strings.HasPrefix(line, "DEFAULT ostree:") || strings.Contains(line, "(ostree") {
				break
			}
			ownDefault = true
			kept = append(kept, line)
		case strings.HasPrefix(line, endedDefault):
		case strings.HasPrefix(line, "LABEL "):
			kernel := ""
			for n < len(lines) && strings.HasPrefix(lines[n], "\t") {
				if k, ok := strings.CutPrefix(lines[n], "\tKERNEL "); ok {
					kernel = k
				}
				n++
			}
			if kernel == "" {
				return nil, false, fmt.Errorf("read SYSLINUX configuration: no KERNEL after %q", line)
			}
			if !strings.HasPrefix(kernel, "/ostree/") && !strings.HasPrefix(kernel, "/boot/ostree/") {
				kept = append(kept, lines[:n]...)
			}
		default:
			kept = append(kept, line)
		}
		lines = lines[n:]
	}
	return kept, ownDefault, nil
}

// joinLines ends every line and keeps only the first empty one: each generation
// would add another.
func joinLines(lines []string) []byte {
	var b bytes.Buffer
	empty := false
	for i, l := range lines {
		if l == "" && (empty || i == 0) {
			continue
		}
		empty = empty || l == ""
		b.WriteString(l + "\n")
	}
	return b.Bytes()
}

// bootPath gives a path of an entry as seen from the root of the system. Where
// /boot is a partition of its own, the link boot -> . there makes it right, too.
func bootPath(p string) string {
	if strings.HasPrefix(p, "/boot/") {
		return p
	}
	return "/boot" + p
}

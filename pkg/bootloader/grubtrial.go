// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// GRUB counts in loader.V/grubenv, a block of its own for every generation: it
// is written with the menu that it belongs to and counts when that one does.
// The names of the variables are those that Fedora's GRUB and greenboot use:
// boot_counter is how many tries are left, -1 once the entry was given up, and
// boot_success becomes 1 when the entry proved good.
const (
	envCounter = "boot_counter"
	envSuccess = "boot_success"
	envTotal   = "hostctl_tries"
)

var _ Trier = grub2{}

func grubEnvPath(version int) string { return path.Join(LoaderDir(version), "grubenv") }

// prepareTrial writes the counter that belongs to the menu.
func prepareTrial(boot *fsx.Dir, m Menu) error {
	name := grubEnvPath(m.Version)
	if m.Tries == 0 {
		if err := boot.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	n := strconv.Itoa(m.Tries)
	data, err := grubEnv{{envCounter, n}, {envSuccess, "0"}, {envTotal, n}}.format()
	if err != nil {
		return err
	}
	return boot.WriteFile(name, data, 0o644)
}

// countable returns m with Tries cleared where GRUB cannot count.
func countable(boot *fsx.Dir, m Menu) (Menu, error) {
	if m.Tries == 0 {
		return m, nil
	}
	m.Tries = min(m.Tries, MaxTries)
	can, err := grubCanWrite(boot)
	if err != nil {
		return m, err
	}
	if can {
		can, err = stubReadsMenu(boot)
	}
	if !can || m.fallback() == "" {
		m.Tries = 0
	}
	return m, err
}

// fallback is the name of the second deployment's entry, "" where the first
// entry is no deployment or the only one.
func (m Menu) fallback() string {
	if len(m.Entries) < 2 || !m.Entries[0].isOSTree() {
		return ""
	}
	for _, e := range m.Entries[1:] {
		if e.isOSTree() {
			return e.id()
		}
	}
	return ""
}

// Magic numbers of filesystems, from linux/magic.h.
const (
	magicExt = 0xef53
	magicXFS = 0x58465342
	magicFAT = 0x4d44
)

// grubCanWrite tells whether GRUB's save_env works on /boot: it overwrites the
// file's blocks where they are, which filesystems with checksums of data (btrfs)
// and devices made of others (LVM, RAID) do not allow.
func grubCanWrite(boot *fsx.Dir) (bool, error) {
	kind, err := boot.FSType()
	if err != nil {
		return false, err
	}
	switch kind {
	case magicExt, magicXFS, magicFAT:
		st, err := boot.Lstat(".")
		return err == nil && !sys.Stacked(st.Dev), err
	}
	return kind == sys.Tmpfs, nil // nothing boots from it: a tree under construction
}

// stubReadsMenu tells whether GRUB comes to our script: one that runs blscfg
// reads the entries instead, where nothing counts.
func stubReadsMenu(boot *fsx.Dir) (bool, error) {
	found := false
	for _, name := range stubs() {
		st, err := boot.Lstat(name)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return false, err
		}
		found = true
		if st.IsSymlink() {
			return true, nil // checkStubs has looked where to
		}
		data, err := boot.ReadFile(name, maxStub)
		if err != nil || bytes.Contains(data, []byte("/loader/grub.cfg")) {
			return err == nil, err
		}
	}
	return !found, nil
}

// activeEnv reads the block of the generation in use; nil where it has none.
func (g grub2) activeEnv(boot *fsx.Dir) (name string, env grubEnv, err error) {
	var sw Switch = LinkSwitch{}
	if g.fat {
		sw = FileSwitch{grub: true}
	}
	v, err := sw.Active(boot)
	if err != nil || v < 0 {
		return "", nil, err
	}
	name = grubEnvPath(v)
	data, err := boot.ReadFile(name, grubEnvSize)
	if isAbsent(err) {
		return name, nil, nil
	}
	if err == nil {
		env, err = parseGrubEnv(data)
	}
	if err != nil {
		return name, nil, fmt.Errorf("read count of boots in %s: %w", name, err)
	}
	return name, env, nil
}

// Tries implements Trier.
func (g grub2) Tries(_ context.Context, boot *fsx.Dir) (left, done int, counting bool, err error) {
	name, env, err := g.activeEnv(boot)
	if err != nil || env == nil || env.get(envSuccess) == "1" {
		return 0, 0, false, err
	}
	total, err1 := strconv.Atoi(env.get(envTotal))
	left, err2 := strconv.Atoi(env.get(envCounter))
	if err1 != nil || err2 != nil || total < 1 || total > MaxTries || left < -1 || left > total {
		return 0, 0, false, fmt.Errorf("read count of boots in %s: %w: %q of %q tries", name, ErrBadEnvironment, env.get(envCounter), env.get(envTotal))
	}
	left = max(left, 0)
	return left, total - left, true, nil
}

// Bless implements Trier. It overwrites the block in place, as GRUB does: GRUB
// does not replay a journal, so a new file might not be the one that it finds.
// What changes is in the first sector, which is written whole or not at all.
func (g grub2) Bless(_ context.Context, boot *fsx.Dir) error {
	name, env, err := g.activeEnv(boot)
	if errors.Is(err, ErrBadEnvironment) {
		env, err = grubEnv{{envCounter, "0"}}, nil // whatever it said, it is over
	}
	if err != nil || env == nil {
		return err
	}
	data, err := env.with(envSuccess, "1").format()
	if err != nil {
		return fmt.Errorf("end count of boots in %s: %w", name, err)
	}
	f, err := boot.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	return errors.Join(err, f.Sync(), f.Close())
}

// fallbackIndex is the place of the entry that fallback names in GRUB's menu. GRUB's
// variable of that name takes a number everywhere, an id in later versions only.
func (m Menu) fallbackIndex() int {
	n := 0
	for _, e := range m.Entries {
		if e.id() == m.fallback() {
			break
		}
		if e.Linux != "" {
			n++
		}
	}
	return n
}

// grubTrialHead decides which entry is the default. Without a counter that can
// be read and written the entry before is taken: the other might never end. It is
// taken as well, at once, where the kernel on trial cannot be loaded: GRUB would
// wait for somebody.
func grubTrialHead(m Menu) string {
	var known []string
	for n := m.Tries; n > 0; n-- {
		known = append(known, fmt.Sprintf(`"${%s}" = "%d"`, envCounter, n))
	}
	return fmt.Sprintf(`# The first entry is on trial: its boots are counted until it proves good.
set trial_env="${bootdir}/%[1]s"
unset boot_counter
unset boot_success
load_env -f "${trial_env}" boot_counter boot_success
# A stub that chose another entry means it.
if [ -z "${default}" ]; then
	set default=0
fi
if [ "${boot_success}" != "1" -a "${default}" = "0" ]; then
	set default=%[2]s
	if [ %[3]s ]; then
		if save_env -f "${trial_env}" boot_counter; then
			set default=%[4]s
			set fallback=%[5]d
		fi
	else
		set boot_counter=-1
		save_env -f "${trial_env}" boot_counter
	fi
fi
`, grubEnvPath(m.Version), grubQuote(m.fallback()), strings.Join(known, " -o "), grubQuote(m.Entries[0].id()), m.fallbackIndex())
}

// grubTrialCount is run when the first entry is chosen, by itself or by hand.
// GRUB cannot calculate, so each number has its line.
func grubTrialCount(tries int) string {
	var b strings.Builder
	b.WriteString("\tset trial_args=\n\tif [ \"${boot_success}\" != \"1\" ]; then\n")
	for n := tries; n > 0; n-- {
		word := "elif"
		if n == tries {
			word = "if"
		}
		fmt.Fprintf(&b, "\t\t%s [ \"${boot_counter}\" = \"%d\" ]; then set boot_counter=%d\n", word, n, n-1)
	}
	fmt.Fprintf(&b, "\t\tfi\n\t\tsave_env -f \"${trial_env}\" boot_counter\n\t\tset trial_args=\"%s\"\n\tfi\n", strings.Join(TrialKargs(), " "))
	return b.String()
}

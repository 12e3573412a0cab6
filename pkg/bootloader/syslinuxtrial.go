// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// EXTLINUX cannot count, but it can start something else than its default once. So
// the default of a menu on trial is the entry before, and the first entry is
// started by advOnce, under a label of its own with the arguments of a trial.
// The menu and the vector cannot change in one step: labels carry a number that
// grows from trial to trial, and advTried has that of the last one that was begun.
const (
	fallbackLabel = "ostree:fallback-" // labels without spaces, or EXTLINUX does not find them
	trialLabel    = "ostree:trial-"

	// fallbackDefault is the last DEFAULT of a menu on trial, which counts. One byte
	// ends the trial: endedDefault is a comment.
	fallbackDefault = "DEFAULT " + fallbackLabel
	endedDefault    = "#EFAULT " + fallbackLabel
)

var _ Trier = syslinux{}

func (syslinux) tryLimit() int { return 1 }

// trialNumber finds the number of the trial in a menu, 0 where it is none or has
// ended, and the offset of the line that says so.
func trialNumber(config []byte) (number, at int) {
	offset := 0
	for raw := range bytes.Lines(config) {
		if text, ok := strings.CutPrefix(strings.TrimRight(string(raw), "\n"), fallbackDefault); ok {
			if n, err := strconv.ParseUint(text, 10, 30); err == nil && n > 0 {
				return int(n), offset
			}
		}
		offset += len(raw)
	}
	return 0, -1
}

// activeTrial reads the number of the trial in the menu in force.
func activeTrial(boot *fsx.Dir) (name string, number, at int, err error) {
	v, err := LinkSwitch{}.Active(boot)
	if err != nil || v < 0 {
		return "", 0, -1, err
	}
	name = path.Join(LoaderDir(v), "syslinux.cfg")
	data, err := boot.ReadFile(name, maxStub)
	if isAbsent(err) {
		return name, 0, -1, nil
	}
	if err != nil {
		return name, 0, -1, fmt.Errorf("read trial in %s: %w", name, err)
	}
	number, at = trialNumber(data)
	return name, number, at, nil
}

// nextTrial numbers the trial of m, 0 where EXTLINUX cannot make one: without an entry
// to go back to, without a vector in a file that it writes, and where its
// configuration does not end with the default of the menu.
func (syslinux) nextTrial(boot *fsx.Dir, m Menu, stub, old []byte) (int, error) {
	if m.Tries == 0 || m.fallback() == "" || !startsDefault(slices.Concat(stub, []byte("\n"), old)) {
		return 0, nil
	}
	kind, err := boot.FSType()
	if err != nil {
		return 0, err
	}
	// On xfs and btrfs the vector is not in the file.
	if kind != magicExt && kind != sys.Tmpfs {
		return 0, nil
	}
	if st, err := boot.Lstat("."); err != nil || kind == magicExt && sys.Stacked(st.Dev) {
		return 0, err
	}
	a, err := readADV(boot)
	if isAbsent(err) || errors.Is(err, ErrBadADV) {
		return 0, nil // the loader remembers nothing
	}
	if err != nil {
		return 0, err
	}
	tried, _ := strconv.ParseUint(a.get(advTried), 10, 30) // anything else is not ours
	before, _ := trialNumber(old)
	return max(int(tried), before) + 1, nil
}

// startsDefault tells whether EXTLINUX comes to the default of the menu by itself,
// also after a kernel that it could not load: without TIMEOUT it waits for
// somebody then. A default of somebody else's, or ONTIMEOUT, comes first.
func startsDefault(config []byte) bool {
	timeout := 0
	for line := range strings.Lines(string(config)) {
		word, rest, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(line), "\t", " "), " ")
		switch strings.ToUpper(word) {
		case "TIMEOUT":
			timeout, _ = strconv.Atoi(strings.TrimSpace(rest))
		case "ONTIMEOUT":
			return false
		case "DEFAULT":
			if !strings.Contains(rest, "ostree:") {
				return false
			}
		}
	}
	return timeout > 0
}

// Finish implements Backend: it begins the trial of the menu in force, once, and
// takes back what an earlier menu has asked for.
func (syslinux) Finish(_ context.Context, boot *fsx.Dir, _ Menu) error {
	_, number, _, err := activeTrial(boot)
	if err != nil {
		return err
	}
	if number == 0 {
		return disarm(boot)
	}
	a, err := readADV(boot)
	if err != nil {
		return fmt.Errorf("begin trial: %w", err)
	}
	n := strconv.Itoa(number)
	if a.get(advTried) == n {
		return nil
	}
	if err := writeADV(boot, a.with(advTried, n).with(advOnce, trialLabel+n)); err != nil {
		return fmt.Errorf("begin trial: %w", err)
	}
	return nil
}

// disarm removes a request of ours that no boot has taken.
func disarm(boot *fsx.Dir) error {
	a, err := readADV(boot)
	if err != nil || !strings.HasPrefix(a.get(advOnce), trialLabel) {
		return nil // a vector that cannot be read asks for nothing
	}
	if err := writeADV(boot, a.with(advOnce, "")); err != nil {
		return fmt.Errorf("end trial: %w", err)
	}
	return nil
}

// Tries implements Trier.
func (syslinux) Tries(_ context.Context, boot *fsx.Dir) (left, done int, counting bool, err error) {
	_, number, _, err := activeTrial(boot)
	if err != nil || number == 0 {
		return 0, 0, false, err
	}
	a, err := readADV(boot)
	if err != nil {
		return 0, 0, false, fmt.Errorf("read count of boots: %w", err)
	}
	n := strconv.Itoa(number)
	if a.get(advTried) == n && a.get(advOnce) != trialLabel+n {
		return 0, 1, true, nil
	}
	return 1, 0, true, nil
}

// Bless implements Trier. It changes one byte of the menu where it is: EXTLINUX
// does not replay a journal, so a new file might not be the one that it finds.
func (syslinux) Bless(_ context.Context, boot *fsx.Dir) error {
	name, number, at, err := activeTrial(boot)
	if err != nil {
		return err
	}
	if number > 0 {
		f, err := boot.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte(endedDefault[:1]), int64(at))
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("end trial in %s: %w", name, err)
		}
	}
	return disarm(boot)
}

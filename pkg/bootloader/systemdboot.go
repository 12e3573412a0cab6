// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// systemdBoot serves systemd-boot, which reads the entries as they are, on the EFI
// system partition or the extended boot partition, both FAT.
type systemdBoot struct {
	efivars *fsx.Dir // nil: not looked at
	sw      FileSwitch
	fat     bool
}

func (s systemdBoot) Probe(_ context.Context, boot *fsx.Dir) (bool, error) {
	if !s.fat {
		return false, nil
	}
	dir, conf := s.sw.file(boot)
	for _, name := range []string{"EFI/systemd", conf} {
		if ok, err := dir.Exists(name); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// Prepare implements Backend: it makes sure that nothing overrides the switch.
func (s systemdBoot) Prepare(context.Context, *fsx.Dir, Menu) error {
	if s.efivars == nil {
		return nil
	}
	for _, name := range []string{"LoaderEntryPreferred", "LoaderEntryDefault"} {
		value, err := loaderVariable(s.efivars, name)
		if err != nil {
			return err
		}
		if value != "" {
			return fmt.Errorf("EFI variable %s chooses %q, clear it with bootctl: %w", name, value, ErrForeignConfig)
		}
	}
	return nil
}

func (systemdBoot) Finish(context.Context, *fsx.Dir, Menu) error { return nil }

// loaderVariable reads a text variable of the Boot Loader Interface; "" where it is
// not set.
func loaderVariable(efivars *fsx.Dir, name string) (string, error) {
	data, err := efiVariable(efivars, name+"-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
	if err != nil {
		return "", err
	}
	var units []uint16
	for ; len(data) >= 2; data = data[2:] {
		units = append(units, binary.LittleEndian.Uint16(data))
	}
	text, _, _ := strings.Cut(string(utf16.Decode(units)), "\x00")
	return text, nil
}

// efiVariable reads a variable; nil where it is not set. efivarfs puts four bytes of
// attributes before the value.
func efiVariable(efivars *fsx.Dir, name string) ([]byte, error) {
	data, err := efivars.ReadFile(name, 64<<10)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) < 4 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read EFI variable %s: %w", name, err)
	}
	return data[4:], nil
}

// SecureBoot reports that the firmware starts signed programs only, from its variables;
// false where efivars is nil.
func SecureBoot(efivars *fsx.Dir) (bool, error) {
	if efivars == nil {
		return false, nil
	}
	data, err := efiVariable(efivars, "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
	return len(data) == 1 && data[0] == 1, err
}

// counted is the default entry's file.
type counted struct {
	plain      string // its name without counters
	name       string // the name with counters, "" where nothing is counted
	left, done int
}

// defaultEntry finds the first entry of the generation in force.
func (s systemdBoot) defaultEntry(boot *fsx.Dir) (c counted, err error) {
	active, err := s.sw.Active(boot)
	if err != nil {
		return c, err
	}
	names, err := sharedEntries(boot)
	best := -1
	for _, name := range names {
		m := ownName(name)
		if m == nil || int(m[1][0]-'0') != active {
			continue
		}
		k, _ := strconv.Atoi(m[2]) // at most four digits
		if k < best {
			continue
		}
		if k > best {
			best = k
			c = counted{plain: fmt.Sprintf("ostree-%s-%s.conf", m[1], m[2])}
		}
		if m[3] != "" {
			c.name = name
			c.left, _ = strconv.Atoi(m[3])
			c.done, _ = strconv.Atoi(m[4]) // may be left out
		}
	}
	if best < 0 && err == nil {
		err = fmt.Errorf("find default boot entry: %s has none of generation %d", entriesDir, active)
	}
	return c, err
}

// Tries returns how often the default entry may still be tried and how often it
// was. systemd-boot keeps both numbers in the file's name, +LEFT-DONE before .conf.
func (s systemdBoot) Tries(_ context.Context, boot *fsx.Dir) (left, done int, counting bool, err error) {
	c, err := s.defaultEntry(boot)
	return c.left, c.done, c.name != "", err
}

// Bless ends the counting: the default entry is good. It is copied, without the
// arguments of a trial, to the name without counters before the one with goes,
// since a rename may lose both on FAT.
func (s systemdBoot) Bless(ctx context.Context, boot *fsx.Dir) error {
	c, err := s.defaultEntry(boot)
	if err != nil || c.name == "" {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.bless(boot, c); err != nil {
		return fmt.Errorf("mark boot entry %s good: %w", c.plain, err)
	}
	return nil
}

func (systemdBoot) bless(boot *fsx.Dir, c counted) error {
	plain, name := path.Join(entriesDir, c.plain), path.Join(entriesDir, c.name)
	ok, err := boot.Exists(plain)
	if err != nil {
		return err
	}
	if !ok {
		e, err := readEntry(boot, entriesDir, c.name)
		if err != nil {
			return err
		}
		e.Name, e.Options = c.plain, bls.ParseKargs(e.Options).WithoutTrial().String()
		tmp := plain + hidden
		if err := errors.Join(writeEntry(boot, entriesDir, path.Base(tmp), e), boot.FsyncName(tmp)); err != nil {
			return err
		}
		if err := boot.Rename(tmp, boot, plain); err != nil {
			return err
		}
	}
	// The one that stays is on the disk before the other goes.
	if err := boot.Syncfs(); err != nil {
		return err
	}
	if err := boot.Remove(name); err != nil {
		return err
	}
	return boot.Syncfs()
}

// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
)

// FileSwitch is the switch for FAT, which has no links, no journal and no atomic
// rename. The entries of both generations lie side by side in loader/entries, as
// ostree-V-K.conf. One byte of a file that the boot loader reads says which
// generation counts: V in the line "default ostree-V-*" of loader/loader.conf. It
// is overwritten in place. That changes one sector, which a disk writes whole or
// not at all, and neither the size of the file nor where it lies.
//
// The other lines of the file are the user's. While there is no order yet V is x,
// which no entry has.
type FileSwitch struct {
	esp  *fsx.Dir // holds loader/loader.conf; nil: /boot does
	grub bool     // the file is loader/grub.cfg, which loads loader.V/grub.cfg
}

var _ Switch = FileSwitch{}

const (
	entriesDir = "loader/entries"
	// hidden ends the name of an entry that boot loaders must not see yet.
	hidden = ".new"
	// noGeneration stands in the place of V.
	noGeneration = 'x'

	grubSwitchHead = "# The digit below is the boot menu that counts; it changes with every switch.\n"
)

// file gives the file with the switch, and the directory that its name is relative to.
func (s FileSwitch) file(boot *fsx.Dir) (*fsx.Dir, string) {
	switch {
	case s.grub:
		return boot, "loader/grub.cfg"
	case s.esp != nil:
		return s.esp, "loader/loader.conf"
	}
	return boot, "loader/loader.conf"
}

// line gives the text before and after V.
func (s FileSwitch) line() (before, after string) {
	if s.grub {
		return "configfile /loader.", "/grub.cfg"
	}
	return "default ostree-", "-*"
}

// name names the file of the i-th (from 0) of n ostree entries in generation V.
func (FileSwitch) name(version, i, n int) string {
	return fmt.Sprintf("ostree-%d-%d.conf", version, n-i)
}

// NameEntry names the file of the i-th (from 0) of n ostree entries of generation V,
// see EntryName.
func NameEntry(sw Switch, version, i, n int, stateroot string) string {
	if file, ok := sw.(FileSwitch); ok {
		return file.name(version, i, n)
	}
	return EntryName(i, n, stateroot)
}

// ownName matches the entries of FileSwitch: V, K, and the attempts left and done
// where they are counted.
func ownName(name string) []string {
	return regexp.MustCompile(`^ostree-([01])-([0-9]{1,4})(?:\+([0-9]{1,6})(?:-([0-9]{1,6}))?)?\.conf$`).FindStringSubmatch(name)
}

// sharedName tells entries of deployments from others in loader/entries.
func sharedName(name string) (own bool, version int) {
	m := ownName(name)
	if m == nil {
		return false, -1
	}
	return true, int(m[1][0] - '0')
}

// sameEntry finds an entry that counts attempts beside the same one that does not
// any more: Bless was cut short between them.
func sameEntry(a, b Entry) bool {
	x, y := ownName(a.Name), ownName(b.Name)
	return x != nil && y != nil && x[1] == y[1] && x[2] == y[2]
}

// Generation tells which generation a path from MenuPaths belongs to, -1: none.
func Generation(name string) int {
	switch name {
	case LoaderDir(0):
		return 0
	case LoaderDir(1):
		return 1
	}
	if path.Dir(name) != entriesDir {
		return -1
	}
	_, version := sharedName(path.Base(name))
	return version
}

// MenuPaths lists what lies in /boot of either generation, and leftovers of none.
func MenuPaths(boot *fsx.Dir, sw Switch) ([]string, error) {
	var out []string
	for _, name := range []string{LoaderDir(0), LoaderDir(1), loaderTmp} {
		ok, err := boot.Exists(name)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, name)
		}
	}
	if _, ok := sw.(FileSwitch); !ok {
		return out, nil
	}
	names, err := sharedEntries(boot)
	for _, name := range names {
		out = append(out, path.Join(entriesDir, name))
	}
	return out, err
}

// sharedEntries lists the names in loader/entries that are ours, hidden ones too.
func sharedEntries(boot *fsx.Dir) ([]string, error) {
	list, err := boot.ReadDir(entriesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, f := range list {
		if own, _ := sharedName(strings.TrimSuffix(f.Name, hidden)); own {
			out = append(out, f.Name)
		}
	}
	return out, err
}

// switchLine is the line of a file that decides.
type switchLine struct {
	at      int    // offset of V in the file, -1: there is no such line
	version int    // -1: none yet
	foreign string // a line that overrides it
	size    int64  // of the file, -1: there is none
	open    bool   // the last line has no end
}

func (s FileSwitch) read(boot *fsx.Dir) (switchLine, error) {
	dir, name := s.file(boot)
	if st, err := dir.Lstat(path.Dir(name)); err == nil && st.IsSymlink() {
		return switchLine{}, fmt.Errorf("read boot switch: %s is a link, and must be a directory", path.Dir(name))
	}
	data, err := dir.ReadFile(name, maxStub)
	if isAbsent(err) {
		return switchLine{at: -1, version: -1, size: -1}, nil
	}
	if err != nil {
		return switchLine{}, fmt.Errorf("read boot switch: %w", err)
	}
	return s.parse(data), nil
}

// parse finds the line. Of several the last one counts.
func (s FileSwitch) parse(data []byte) switchLine {
	l := switchLine{at: -1, version: -1, size: int64(len(data)), open: len(data) > 0 && data[len(data)-1] != '\n'}
	before, after := s.line()
	preferred, at := "", 0
	for raw := range bytes.Lines(data) {
		text := strings.TrimSpace(string(raw))
		word, _, _ := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
		start := at
		at += len(raw)
		switch {
		case len(text) == len(before)+1+len(after) && strings.HasPrefix(text, before) && strings.HasSuffix(text, after):
			l.at, l.version, l.foreign = start+bytes.Index(raw, []byte(before))+len(before), -1, ""
			if v := text[len(before)]; v == '0' || v == '1' {
				l.version = int(v - '0')
			}
		case s.grub:
			// The script is ours; whoever adds to it means it.
		case word == "default":
			l.foreign = text
		case word == "preferred":
			preferred = text
		}
	}
	if preferred != "" {
		l.foreign = preferred
	}
	return l
}

// Active implements Switch. Where the file does not say, it is the generation with
// entries, of two the one that systemd-boot sorts first.
func (s FileSwitch) Active(boot *fsx.Dir) (int, error) {
	l, err := s.read(boot)
	if err != nil || l.version >= 0 {
		return l.version, err
	}
	names, err := sharedEntries(boot)
	version := -1
	for _, name := range names {
		_, v := sharedName(name)
		version = max(version, v)
	}
	return version, err
}

// pin makes sure, durably, that the file names the active generation, before
// anything of the other one is touched: entries that no line keeps apart would take
// part in the boot loader's own order, and a flip that only memory knows would let
// a crash boot what is removed next.
func (s FileSwitch) pin(boot *fsx.Dir, active int) error {
	l, err := s.read(boot)
	if err != nil {
		return err
	}
	dir, name := s.file(boot)
	if l.foreign != "" {
		return fmt.Errorf("%s has the line %q, remove it: %w", name, l.foreign, ErrForeignConfig)
	}
	switch {
	case l.at < 0 && s.grub && l.size > 0:
		return fmt.Errorf("%s: %w", name, ErrForeignConfig)
	case l.at < 0:
		if err := s.addLine(boot, l, active); err != nil {
			return fmt.Errorf("write boot switch: %w", err)
		}
	case l.version != active:
		if err := s.set(boot, l, active); err != nil {
			return err
		}
	}
	return errors.Join(dir.FsyncName(name), dir.FsyncName(path.Dir(name)))
}

func digit(version int) byte {
	if version < 0 {
		return noGeneration
	}
	return byte('0' + version)
}

// addLine lets the file grow by the line. That is not atomic, and need not be: with
// and without it the same boots.
func (s FileSwitch) addLine(boot *fsx.Dir, l switchLine, active int) error {
	dir, name := s.file(boot)
	if err := dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	before, after := s.line()
	text := before + string(digit(active)) + after + "\n"
	switch {
	case s.grub:
		text = grubSwitchHead + text
	case l.open:
		text = "\n" + text
	}
	if _, err = f.WriteAt([]byte(text), max(0, l.size)); err != nil {
		// Half a line would be another pattern.
		return errors.Join(err, f.Truncate(max(0, l.size)), f.Close())
	}
	return errors.Join(f.Sync(), f.Close())
}

// set overwrites V.
func (s FileSwitch) set(boot *fsx.Dir, l switchLine, version int) error {
	dir, name := s.file(boot)
	f, err := dir.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{digit(version)}, int64(l.at))
	if err == nil {
		err = failpoint.Hit("bootloader.switch-written")
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// writeMenu is WriteMenu. Entries of others are in place already.
func (s FileSwitch) writeMenu(boot *fsx.Dir, active int, m Menu) error {
	if err := s.pin(boot, active); err != nil {
		return err
	}
	names, err := sharedEntries(boot)
	if err != nil {
		return err
	}
	for _, name := range names {
		// Hidden ones are of a first order that a crash cut short.
		if _, v := sharedName(name); v != active || v < 0 {
			if err := boot.Remove(path.Join(entriesDir, name)); err != nil {
				return err
			}
		}
	}
	if err := boot.RemoveAll(LoaderDir(m.Version)); err != nil {
		return err
	}
	for _, dir := range []string{entriesDir, LoaderDir(m.Version)} {
		if err := boot.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for i, e := range m.Entries {
		if _, v := sharedName(e.Name); v != m.Version {
			continue
		}
		name := e.Name
		if i == 0 && m.Tries > 0 && !s.grub {
			name = strings.TrimSuffix(name, ".conf") + "+" + strconv.Itoa(m.Tries) + ".conf"
			e.Options = strings.TrimSpace(e.Options + " " + strings.Join(TrialKargs(), " "))
		}
		if active < 0 {
			// There is nothing of ours to fall back to, and the entries of others must
			// not lose their place to one whose kernel is still being written.
			name += hidden
		}
		if err := writeEntry(boot, entriesDir, name, e); err != nil {
			return err
		}
	}
	return nil
}

// Arm implements Switch: WriteMenu has done everything.
func (s FileSwitch) Arm(boot *fsx.Dir, version int) error {
	_, err := s.armed(boot, version)
	return err
}

func (s FileSwitch) armed(boot *fsx.Dir, version int) (switchLine, error) {
	l, err := s.read(boot)
	if err != nil {
		return l, err
	}
	if version != 0 && version != 1 || l.at < 0 || l.foreign != "" || l.version == version {
		return l, fmt.Errorf("arm boot switch: version %d, %+v", version, l)
	}
	if ok, err := boot.Exists(LoaderDir(version)); err != nil || !ok {
		return l, errors.Join(fmt.Errorf("arm boot switch: generation %d was not written", version), err)
	}
	return l, nil
}

// Flip implements Switch: one byte. The first time, entries appear one by one
// before it; each is complete and leads to what is on the disk.
func (s FileSwitch) Flip(boot *fsx.Dir, version int) error {
	l, err := s.armed(boot, version)
	if err != nil {
		return err
	}
	if l.version < 0 {
		if err := reveal(boot); err != nil {
			return err
		}
	}
	return s.set(boot, l, version)
}

func reveal(boot *fsx.Dir) error {
	names, err := sharedEntries(boot)
	if err != nil {
		return err
	}
	for _, name := range names {
		if base, ok := strings.CutSuffix(name, hidden); ok {
			if err := boot.Rename(path.Join(entriesDir, name), boot, path.Join(entriesDir, base)); err != nil {
				return err
			}
		}
	}
	return nil
}

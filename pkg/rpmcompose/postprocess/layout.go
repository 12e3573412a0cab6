// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// layoutConf makes at boot what the links of the top level lead to. Its name
// sorts before those of packages.
const layoutConf = "usr/lib/tmpfiles.d/hostctl-0-layout.conf"

const layoutLines = `# Directories that links at the top of the tree lead to.
d /var/home 0755 root root -
d /var/roothome 0700 root root -
d /var/srv 0755 root root -
d /var/mnt 0755 root root -
d /run/media 0755 root root -
L /var/lib/rpm - - - - ../../usr/share/rpm
`

const optLines = `d /var/opt 0755 root root -
d /var/usrlocal 0755 root root -
d /var/usrlocal/bin 0755 root root -
d /var/usrlocal/etc 0755 root root -
d /var/usrlocal/games 0755 root root -
d /var/usrlocal/include 0755 root root -
d /var/usrlocal/lib 0755 root root -
d /var/usrlocal/man 0755 root root -
d /var/usrlocal/sbin 0755 root root -
d /var/usrlocal/share 0755 root root -
d /var/usrlocal/src 0755 root root -
`

// topEntry is one entry of the top level: a link, or a directory where Target is
// empty.
type topEntry struct {
	name, target string
	mode         fs.FileMode
}

// optInTree tells whether /opt and /usr/local are directories of the tree.
func (r *runner) optInTree() bool {
	return r.o.OptUsrlocal == OptRoot || r.o.OptUsrlocal == OptStateOverlay
}

// stateOverlays lets /opt and /usr/local be changed on the booted system, in an
// overlay whose upper layer is in /var. Source: rpm-ostree's opt-usrlocal and
// libostree's ostree-state-overlay@.service.
func (r *runner) stateOverlays(tree *fsx.Dir) error {
	const units, template = "usr/lib/systemd/system", "ostree-state-overlay@"
	if r.o.OptUsrlocal != OptStateOverlay {
		return nil
	}
	if ok, err := tree.Exists(units + "/" + template + ".service"); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("opt-usrlocal = %q needs %s.service, which no package of the tree has", OptStateOverlay, template))
	}
	if err := tree.MkdirAll(units+"/local-fs.target.requires", 0o755); err != nil {
		return err
	}
	for _, name := range []string{"usr-lib-opt", "usr-local"} {
		unit := template + name + ".service"
		if err := tree.SymlinkAtomic("../"+unit, units+"/local-fs.target.requires/"+unit); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) topLevel() []topEntry {
	top := []topEntry{
		{"boot", "", 0o755}, {"dev", "", 0o755}, {"proc", "", 0o755}, {"run", "", 0o755}, {"sys", "", 0o755},
		{"sysroot", "", 0o755}, {"usr", "", 0o755}, {"var", "", 0o755},
		{"ostree", "sysroot/ostree", 0}, {"home", "var/home", 0}, {"root", "var/roothome", 0}, {"srv", "var/srv", 0},
		{"mnt", "var/mnt", 0}, {"media", "run/media", 0},
	}
	if r.optInTree() {
		top = append(top, topEntry{"opt", "usr/lib/opt", 0})
	} else {
		top = append(top, topEntry{"opt", "var/opt", 0})
	}
	if r.o.TmpIsDir {
		return append(top, topEntry{"tmp", "", 0o777 | fs.ModeSticky})
	}
	return append(top, topEntry{"tmp", "sysroot/tmp", 0})
}

// layout makes the top level exactly what it should be: anything else there is
// either known to be in the way and removed, or an error.
func (r *runner) layout() error {
	if err := r.usrLocal(); err != nil {
		return err
	}
	if err := r.root.RemoveAll("etc"); err != nil {
		return err
	}
	want := map[string]topEntry{}
	for _, e := range r.topLevel() {
		want[e.name] = e
	}
	entries, err := r.root.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := want[e.Name]; ok {
			continue
		}
		if target, err := r.root.Readlink(e.Name); err == nil && strings.HasPrefix(strings.TrimPrefix(target, "/"), "usr/") {
			continue // bin, lib64 and the like
		}
		return fmt.Errorf("/%s: %w", e.Name, ErrLayout)
	}
	for _, e := range r.topLevel() {
		if err := r.place(e); err != nil {
			return err
		}
	}
	lines := layoutLines
	if !r.optInTree() {
		lines += optLines
	} else if err := r.root.MkdirAll("usr/lib/opt", 0o755); err != nil {
		return err
	}
	if err := r.root.MkdirAll("usr/lib/tmpfiles.d", 0o755); err != nil {
		return err
	}
	return r.root.WriteFileAtomic(layoutConf, []byte(lines), 0o644)
}

func (r *runner) place(e topEntry) error {
	if e.name == "usr" {
		return r.root.Chmod("usr", 0o755)
	}
	// Scripts saw these as scratch directories; nothing in them is meant to stay.
	if err := r.root.RemoveAll(e.name); err != nil {
		return err
	}
	if e.target != "" {
		return r.root.Symlink(e.target, e.name)
	}
	if err := r.root.Mkdir(e.name, 0o755); err != nil {
		return err
	}
	mode := uint32(e.mode.Perm())
	if e.mode&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	return r.root.Chmod(e.name, mode)
}

// usrLocal replaces usr/local by a link to /var, unless it is part of the tree.
// Empty directories are made at boot; a file would be lost, so it is an error.
func (r *runner) usrLocal() error {
	if r.optInTree() {
		return errors.Join(r.root.MkdirAll("usr/local", 0o755), r.useradd())
	}
	err := walk(r.root, "usr/local", func(_ *fsx.Dir, _, full string, st fsx.Stat) error {
		if st.IsRegular() {
			return fmt.Errorf("a file in /usr/local would be hidden; set opt-usrlocal = %q: %w", OptRoot, ErrLayout)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.root.RemoveAll("usr/local"); err != nil {
		return err
	}
	if err := r.root.Symlink("../var/usrlocal", "usr/local"); err != nil {
		return err
	}
	return r.useradd()
}

// useradd makes new homes where they really are, so that passwd does not depend
// on a link.
func (r *runner) useradd() error {
	const name = "usr/etc/default/useradd"
	b, err := r.root.ReadFile(name, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	text := string(b)
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimLeft(line, "# "), "HOME=") {
			line = "HOME=/var/home\n"
		}
		out.WriteString(line)
	}
	return r.replace(name, out.String())
}

// replace gives a file new content under its old mode and owner, as a new file:
// the old one may be shared with the package cache.
func (r *runner) replace(name, text string) error {
	st, err := r.root.Lstat(name)
	if err != nil {
		return err
	}
	old, err := r.root.ReadFile(name, maxText)
	if err != nil {
		return err
	}
	if string(old) == text {
		return nil
	}
	if err := r.root.WriteFileAtomic(name, []byte(text), fs.FileMode(st.Mode&0o777)); err != nil {
		return err
	}
	return r.root.Lchown(name, int(st.UID), int(st.GID))
}

// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

// leftovers are files that tools leave behind: locks, backups, and secrets or
// identities that must be made by the machine that boots the tree.
var leftovers = []string{
	"usr/etc/passwd-", "usr/etc/group-", "usr/etc/shadow-", "usr/etc/gshadow-", "usr/etc/subuid-", "usr/etc/subgid-",
	"usr/etc/.pwd.lock", "usr/etc/passwd.lock", "usr/etc/group.lock", "usr/etc/shadow.lock", "usr/etc/gshadow.lock",
	"usr/etc/.updated", "usr/etc/.resolv.conf.systemd-resolved.bak", "usr/lib/.updated",
	"usr/etc/ssh/ssh_host_*", "usr/etc/machine-info.lock", "usr/etc/adjtime", "usr/etc/iscsi/initiatorname.iscsi",
	"usr/lib/rpm/macros.d/.lock",
}

// normalise removes what must not be in a tree or would differ from run to run.
func (r *runner) normalise() error {
	for _, pattern := range leftovers {
		if err := removeMatching(r.root, pattern); err != nil {
			return err
		}
	}
	if err := r.machineID(); err != nil {
		return err
	}
	return r.shadowDates()
}

func removeMatching(root *fsx.Dir, pattern string) error {
	dir := path.Dir(pattern)
	ok, err := root.Exists(dir)
	if err != nil || !ok {
		return err
	}
	entries, err := root.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if match, _ := path.Match(path.Base(pattern), e.Name); !match {
			continue
		}
		if err := root.RemoveAll(path.Join(dir, e.Name)); err != nil {
			return err
		}
	}
	return nil
}

// machineID leaves the id to the first boot. The empty file lets systemd mount
// its own over it where /etc is not writable yet.
func (r *runner) machineID() error {
	const name = "usr/etc/machine-id"
	if err := r.root.RemoveAll(name); err != nil {
		return err
	}
	if !r.o.MachineIDCompat {
		return nil
	}
	return r.root.WriteFileAtomic(name, nil, 0o444)
}

// shadowDates clears the day of the last change of passwords that nobody can log
// in with: it is the day on which the script ran. Others come from a package.
func (r *runner) shadowDates() error {
	const name = "usr/etc/shadow"
	text, err := readOptional(r.root, name)
	if err != nil || text == "" {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) == 9 && (f[1] == "" || f[1][0] == '!' || f[1][0] == '*') {
			f[2] = ""
		}
		out.WriteString(strings.Join(f, ":") + "\n")
	}
	return r.replace(name, out.String())
}

// whiteoutPrefix marks a file that hides a name from an overlay filesystem: a
// checkout makes it the device 0:0 again. Source: libostree's whiteouts.
const whiteoutPrefix = ".ostree-wh."

// dropSpecial removes devices, pipes and sockets, which a commit cannot hold.
// Whiteouts of overlay filesystems become files. Source: rpm-ostree's treefile
// documentation, ignore-devices.
func (r *runner) dropSpecial() error {
	return r.dropSpecialIn(r.root, ".")
}

// dropSpecialIn tells the kinds of files from the listings: a tree has many files,
// and hardly a special one.
func (r *runner) dropSpecialIn(d *fsx.Dir, dir string) error {
	entries, err := d.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		full := path.Join(dir, e.Name)
		switch e.Type {
		case syscall.S_IFREG, syscall.S_IFLNK:
			continue
		case syscall.S_IFDIR:
			err = r.dropSpecialBelow(d, e.Name, full)
		default:
			if err = r.dropOne(d, e.Name, full); err != nil {
				err = fmt.Errorf("/%s: %w", full, err)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) dropSpecialBelow(d *fsx.Dir, name, full string) error {
	sub, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	return r.dropSpecialIn(sub, full)
}

func (r *runner) dropOne(d *fsx.Dir, name, full string) error {
	st, err := d.Lstat(name)
	if err != nil {
		return err
	}
	const format, char, block = 0o170000, 0o020000, 0o060000
	kind := st.Mode & format
	switch {
	case kind == char && st.Rdev == 0:
		if err := d.Remove(name); err != nil {
			return err
		}
		return d.WriteFileAtomic(whiteoutPrefix+name, nil, fs.FileMode(st.Mode&0o777))
	case r.o.RefuseDevices && (kind == char || kind == block):
		return errors.New("is a device, which a tree cannot hold (ignore-devices = false)")
	}
	r.drop(full, "a tree holds no special files")
	return d.Remove(name)
}

// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"errors"
	"io/fs"
	"path"
	"strings"

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
	return walk(r.root, ".", func(d *fsx.Dir, name, full string, st fsx.Stat) error {
		if st.IsDir() || st.IsRegular() || st.IsSymlink() {
			return nil
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
	})
}

// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// ApplyOwners sets owner, mode and capabilities, in this order because chown
// clears setuid bits and capabilities. root must be an overlay (Sandbox.Root):
// the files are hard links. It returns the accounts that do not exist, whose
// files stay root's, as "user NAME (PACKAGE: PATH)". A path that a script
// removed meanwhile is skipped.
func ApplyOwners(root *fsx.Dir, owners []assemble.Owner, ids *IDs) ([]string, error) {
	var unknown []string
	reported := map[string]bool{}
	miss := func(kind, name string, o assemble.Owner) {
		if key := kind + " " + name; !reported[key] {
			reported[key] = true
			unknown = append(unknown, fmt.Sprintf("%s (%s: /%s)", key, o.Package, o.Path))
		}
	}
	for _, o := range owners {
		uid, ok := ids.User(o.User)
		if !ok {
			miss("user", o.User, o)
		}
		gid, ok2 := ids.Group(o.Group)
		if !ok2 {
			miss("group", o.Group, o)
		}
		if err := applyOwner(root, o, uid, gid, ok && ok2); err != nil {
			return nil, fmt.Errorf("set owner of /%s (%s): %w", o.Path, o.Package, err)
		}
	}
	return unknown, nil
}

func applyOwner(root *fsx.Dir, o assemble.Owner, uid, gid uint32, known bool) error {
	st, err := root.Lstat(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&rpm.ModeTypeMask != o.Mode&rpm.ModeTypeMask {
		return nil // a script put something else there
	}
	if st.UID != uid || st.GID != gid {
		if err := root.Lchown(o.Path, int(uid), int(gid)); err != nil {
			return err
		}
	}
	if st.IsSymlink() {
		return nil
	}
	mode := o.Mode & 0o7777
	if st.IsDir() {
		mode |= 0o200
	}
	if !known {
		mode &^= 0o6000 // must not run as root what was meant to run as another user
	}
	if err := root.Chmod(o.Path, mode); err != nil {
		return err
	}
	if o.Caps == "" || !known {
		return nil
	}
	value, err := importer.EncodeCaps(o.Caps)
	if err != nil || value == nil {
		return err
	}
	return root.SetXattr(o.Path, importer.CapabilityXattr, value)
}

// tmpfilesEntry is a line of tmpfiles.d(5) that makes a directory or link.
type tmpfilesEntry struct {
	typ, path, user, group, arg string
	mode                        uint32
}

// readTmpfiles lists the d, D, v, q, Q and L lines of the tree for paths in dir
// ("/var/"), parents before what they hold.
func readTmpfiles(root *fsx.Dir, dir string) ([]tmpfilesEntry, error) {
	files, err := confFiles(root, "tmpfiles.d")
	if err != nil {
		return nil, err
	}
	var out []tmpfilesEntry
	for _, f := range files {
		for raw := range strings.Lines(f.text) {
			fields, err := splitConf(raw)
			if err != nil || len(fields) < 2 {
				continue // systemd complains at boot, and goes on as well
			}
			if e, ok := parseTmpfiles(fields); ok && strings.HasPrefix(e.path, dir) {
				out = append(out, e)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b tmpfilesEntry) int { return strings.Compare(a.path, b.path) })
	return out, nil
}

func parseTmpfiles(fields []string) (tmpfilesEntry, bool) {
	for len(fields) < 7 {
		fields = append(fields, "-")
	}
	e := tmpfilesEntry{typ: strings.TrimRight(fields[0], "+!-=~^$"), mode: 0o755, user: dash(fields[3]), group: dash(fields[4]), arg: dash(fields[6])}
	if !slices.Contains([]string{"d", "D", "v", "q", "Q", "L"}, e.typ) || strings.Contains(strings.ReplaceAll(fields[1], "%%", ""), "%") {
		return e, false
	}
	e.path = path.Clean(strings.ReplaceAll(fields[1], "%%", "%"))
	e.arg = strings.ReplaceAll(e.arg, "%%", "%")
	if m := strings.TrimLeft(dash(fields[2]), "~:"); m != "" {
		n, err := strconv.ParseUint(m, 8, 12)
		if err != nil {
			return e, false
		}
		e.mode = uint32(n)
	}
	return e, path.IsAbs(e.path)
}

// makeVar gives scripts the directories of /var that will be there after boot.
// Owners are set only when ids are known.
func makeVar(root *fsx.Dir, ids *IDs) error {
	entries, err := readTmpfiles(root, "/var/")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := makeVarEntry(root, e, ids); err != nil {
			return fmt.Errorf("%s: %w", e.path, err)
		}
	}
	return nil
}

func makeVarEntry(root *fsx.Dir, e tmpfilesEntry, ids *IDs) error {
	name := strings.TrimPrefix(e.path, "/")
	ok, err := root.Exists(name)
	if err != nil {
		return err
	}
	if e.typ == "L" {
		if ok || e.arg == "" {
			return nil
		}
		if err := mkdirAllSoft(root, path.Dir(name)); err != nil {
			return err
		}
		return ignoreBlocked(root.Symlink(e.arg, name))
	}
	if !ok {
		if err := mkdirAllSoft(root, name); err != nil {
			return ignoreBlocked(err)
		}
	}
	st, err := root.Lstat(name)
	if err != nil || !st.IsDir() {
		return ignoreBlocked(err)
	}
	if ids != nil {
		uid, _ := ids.User(e.user)
		gid, _ := ids.Group(e.group)
		if err := root.Lchown(name, int(uid), int(gid)); err != nil {
			return err
		}
	}
	return root.Chmod(name, e.mode)
}

// mkdirAllSoft and ignoreBlocked: a line below a link or a file is left to boot,
// where the same rules as on any system decide about it.
func mkdirAllSoft(root *fsx.Dir, name string) error {
	if name == "." {
		return nil
	}
	return ignoreBlocked(root.MkdirAll(name, 0o755))
}

func ignoreBlocked(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.ELOOP) {
		return nil
	}
	return err
}

// TmpfilesPaths gives every path that a tmpfiles.d line of the tree makes.
func TmpfilesPaths(root *fsx.Dir) (map[string]bool, error) {
	entries, err := readTmpfiles(root, "/")
	if err != nil {
		return nil, fmt.Errorf("read tmpfiles.d: %w", err)
	}
	out := map[string]bool{}
	for _, e := range entries {
		out[e.path] = true
	}
	return out, nil
}

// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// maxText bounds a configuration file that is edited.
const maxText = 8 << 20

// units enables units and sets the default target with the tree's own systemctl.
func (r *runner) units(ctx context.Context, s *scripts.Sandbox) error {
	if len(r.o.Units) > 0 {
		argv := append([]string{"/usr/bin/systemctl", "enable"}, r.o.Units...)
		if _, err := s.Run(ctx, scripts.Command{Name: "systemctl enable", Args: argv}); err != nil {
			return err
		}
		if err := r.presets(s.Root()); err != nil {
			return err
		}
	}
	return r.defaultTarget(s.Root())
}

const unitPreset = "usr/lib/systemd/system-preset/00-hostctl-units.preset"

// presets keeps the units enabled where there is no machine-id: the first boot
// then enables and disables all units after the presets.
func (r *runner) presets(tree *fsx.Dir) error {
	if r.o.MachineIDCompat {
		return nil
	}
	text := "# Units of the treefile.\n"
	for _, u := range r.o.Units {
		if i, j := strings.IndexByte(u, '@'), strings.LastIndexByte(u, '.'); i > 0 && j > i+1 {
			u = u[:i+1] + u[j:] + " " + u[i+1:j]
		}
		text += "enable " + u + "\n"
	}
	if err := tree.MkdirAll(path.Dir(unitPreset), 0o755); err != nil {
		return err
	}
	return tree.WriteFileAtomic(unitPreset, []byte(text), 0o644)
}

// defaultTarget sets the target in usr, as a default of the tree: what is in /etc
// would be reset by the first boot's presets. Source: rpm-ostree.
func (r *runner) defaultTarget(tree *fsx.Dir) error {
	if r.o.DefaultTarget == "" {
		return nil
	}
	if strings.ContainsAny(r.o.DefaultTarget, "/\x00") || !strings.HasSuffix(r.o.DefaultTarget, ".target") {
		return fmt.Errorf("default target %q is not the name of a target", r.o.DefaultTarget)
	}
	const units = "usr/lib/systemd/system/"
	if ok, err := tree.Exists(units + r.o.DefaultTarget); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("default target: no /%s", units+r.o.DefaultTarget))
	}
	// One that a scriptlet set would win.
	if err := tree.RemoveAll("usr/etc/systemd/system/default.target"); err != nil {
		return err
	}
	return tree.SymlinkAtomic(r.o.DefaultTarget, units+"default.target")
}

// osRelease writes the version into usr/lib/os-release, wherever that leads.
func (r *runner) osRelease(tree *fsx.Dir) error {
	if r.o.Version == "" {
		return nil
	}
	name, err := follow(tree, "usr/lib/os-release")
	if errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("tree has no /usr/lib/os-release")
		return nil
	}
	if err != nil {
		return err
	}
	text, err := tree.ReadFile(name, maxText)
	if err != nil {
		return err
	}
	st, err := tree.Lstat(name)
	if err != nil {
		return err
	}
	edited, err := editOSRelease(string(text), r.o.Version, r.o.MutateOSRelease)
	if err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	r.release = releaseEdit{name: name, before: string(text), after: edited}
	return tree.WriteFileAtomic(name, []byte(edited), fs.FileMode(st.Mode&0o777))
}

// editOSRelease replaces base by version in VERSION and PRETTY_NAME and sets
// OSTREE_VERSION. VERSION_ID stays: it names the release, not the build.
func editOSRelease(text, version, base string) (string, error) {
	if strings.ContainsAny(version, "\"'\\$`\n") {
		return "", fmt.Errorf("version %q cannot be quoted", version)
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		key, _, _ := strings.Cut(line, "=")
		switch {
		case key == "OSTREE_VERSION":
			continue
		case base != "" && (key == "VERSION" || key == "PRETTY_NAME"):
			line = strings.ReplaceAll(line, base, version)
		}
		out.WriteString(line)
	}
	s := out.String()
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return s + "OSTREE_VERSION='" + version + "'\n", nil
}

// follow resolves the links of a path of the tree by hand, so that the result is
// a name whose last part is no link. etc stands for usr/etc.
func follow(tree *fsx.Dir, name string) (string, error) {
	for range 40 {
		st, err := tree.Lstat(name)
		if err != nil {
			return "", err
		}
		if !st.IsSymlink() {
			return name, nil
		}
		target, err := tree.Readlink(name)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			name = path.Clean(target)[1:]
		} else {
			// ".." at the top stays at the top.
			name = path.Clean("/" + path.Join(path.Dir(name), target))[1:]
		}
		if rest, ok := strings.CutPrefix(name, "etc/"); ok {
			name = "usr/etc/" + rest
		}
	}
	return "", fmt.Errorf("/%s: too many links", name)
}

// Where the package database is, and the links and settings by which rpm finds it.
const (
	RPMDBPath   = "usr/share/rpm"
	rpmMacro    = "usr/lib/rpm/macros.d/macros.hostctl"
	rpmSysimage = "usr/lib/sysimage/rpm"
)

func (r *runner) rpmdb(ctx context.Context, tree *fsx.Dir) error {
	if r.o.WriteRPMDB == nil {
		return nil
	}
	if err := tree.MkdirAll(RPMDBPath, 0o755); err != nil {
		return err
	}
	dir, err := tree.OpenDir(RPMDBPath)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := r.o.WriteRPMDB(ctx, dir); err != nil {
		return err
	}
	// A link replaces what a script of the rpm package may have made there.
	if err := tree.RemoveAll(rpmSysimage); err != nil {
		return err
	}
	if err := tree.MkdirAll(path.Dir(rpmSysimage), 0o755); err != nil {
		return err
	}
	if err := tree.Symlink("../../share/rpm", rpmSysimage); err != nil {
		return err
	}
	if err := tree.MkdirAll(path.Dir(rpmMacro), 0o755); err != nil {
		return err
	}
	return tree.WriteFileAtomic(rpmMacro, []byte("%_dbpath /"+RPMDBPath+"\n"), 0o644)
}

// treePath turns a path of the booted system into one of the tree.
func treePath(p string) (string, error) {
	c := path.Clean("/" + p)[1:]
	if c == "" || c == "usr" || c == "etc" {
		return "", fmt.Errorf("path %q", p)
	}
	if rest, ok := strings.CutPrefix(c, "etc/"); ok {
		c = "usr/etc/" + rest
	}
	for _, link := range []string{"bin/", "sbin/", "lib/", "lib64/"} {
		if strings.HasPrefix(c, link) {
			c = "usr/" + c
		}
	}
	return c, nil
}

func (r *runner) removeFiles(tree *fsx.Dir) error {
	if err := r.removeFromPackages(tree); err != nil {
		return err
	}
	for _, p := range r.o.RemoveFiles {
		name, err := treePath(p)
		if err != nil {
			return err
		}
		if err := tree.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) removeFromPackages(tree *fsx.Dir) error {
	for _, rm := range r.o.RemoveFromPackages {
		owned, ok := r.o.Owned[rm.Package]
		if !ok {
			return fmt.Errorf("remove-from-packages: package %s is not in the tree", rm.Package)
		}
		var patterns []*regexp.Regexp
		for _, p := range rm.Patterns {
			re, err := regexp.Compile(p)
			if err != nil {
				return fmt.Errorf("remove-from-packages: %s: %w", rm.Package, err)
			}
			patterns = append(patterns, re)
		}
		for _, name := range owned {
			system := "/" + name
			if rest, ok := strings.CutPrefix(name, "usr/etc/"); ok {
				system = "/etc/" + rest
			}
			for _, re := range patterns {
				if !re.MatchString(system) {
					continue
				}
				if err := tree.RemoveAll(name); err != nil {
					return err
				}
				break
			}
		}
	}
	return nil
}

func (r *runner) addFiles(tree *fsx.Dir) error {
	for _, f := range r.o.AddFiles {
		name, err := treePath(f.Dest)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(name, "usr/") {
			return fmt.Errorf("add %s: a tree holds files of /usr and /etc only", f.Dest)
		}
		dir, err := tree.OpenDirInRoot(path.Dir(name))
		if errors.Is(err, fs.ErrNotExist) {
			if err := tree.MkdirAll(path.Dir(name), 0o755); err != nil {
				return err
			}
			dir, err = tree.OpenDirInRoot(path.Dir(name))
		}
		if err != nil {
			return err
		}
		perm := fs.FileMode(0o644)
		if f.Executable {
			perm = 0o755
		}
		err = errors.Join(dir.WriteFileAtomic(path.Base(name), f.Data, perm), dir.Close())
		if err != nil {
			return fmt.Errorf("add %s: %w", f.Dest, err)
		}
	}
	return nil
}

func (r *runner) scripts(ctx context.Context, s *scripts.Sandbox) error {
	for i, sc := range r.o.Scripts {
		name := sc.Name
		if name == "" {
			name = fmt.Sprintf("postprocess script %d", i+1)
		}
		c := scripts.Command{Name: name, Script: sc.Body}
		// A script with its own interpreter line is executed, another one is read.
		if !bytes.HasPrefix(sc.Body, []byte("#!")) {
			c.Args = []string{"/bin/bash"}
		} else {
			c.Args = interpreter(sc.Body)
		}
		if _, err := s.Run(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// interpreter reads the first line of a script as the kernel would: a program
// and at most one argument.
func interpreter(body []byte) []string {
	line, _, _ := bytes.Cut(body[2:], []byte("\n"))
	prog, arg, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
	if arg = strings.TrimSpace(arg); arg != "" {
		return []string{prog, arg}
	}
	return []string{prog}
}

// readonly takes the write bits from executables.
func (r *runner) readonly(tree *fsx.Dir) error {
	if !r.o.ReadonlyExecutables {
		return nil
	}
	return walk(tree, "usr", func(d *fsx.Dir, name, full string, st fsx.Stat) error {
		if !st.IsRegular() || st.Mode&0o111 == 0 || st.Mode&0o222 == 0 {
			return nil
		}
		return d.Chmod(name, st.Mode&^0o222)
	})
}

// walk calls fn for everything below name, directories before their content,
// and after fn removed a directory goes on beside it.
func walk(tree *fsx.Dir, name string, fn func(d *fsx.Dir, name, full string, st fsx.Stat) error) error {
	d, err := tree.OpenDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	entries, err := d.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		st, err := d.Lstat(e.Name)
		if err != nil {
			return err
		}
		full := path.Join(name, e.Name)
		if err := fn(d, e.Name, full, st); err != nil {
			return fmt.Errorf("/%s: %w", full, err)
		}
		if !st.IsDir() {
			continue
		}
		if err := walk(tree, full, fn); err != nil {
			return err
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/hostctl/hostctl/internal/fsx"
)

// What rpm-ostree's own programs look for in a tree. Source: rpm-ostree's
// compose and its documentation of cliwrap.
const (
	baseRPMDB     = "usr/lib/sysimage/rpm-ostree-base-db"
	treefileJSON  = "usr/share/rpm-ostree/treefile.json"
	wrappedDir    = "usr/libexec/rpm-ostree/wrapped"
	rpmOSTreeProg = "usr/bin/rpm-ostree"
)

// baseDB links the package database to a second place, where clients that layer
// packages find that of the tree as it came.
func (r *runner) baseDB() error {
	entries, err := r.root.ReadDir(RPMDBPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.root.RemoveAll(baseRPMDB); err != nil {
		return err
	}
	if err := r.root.MkdirAll(baseRPMDB, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		if err := r.root.Link(path.Join(RPMDBPath, e.Name), r.root, path.Join(baseRPMDB, e.Name)); err != nil {
			return err
		}
	}
	return nil
}

// treefile stores what the tree was made from.
func (r *runner) treefile(tree *fsx.Dir) error {
	if len(r.o.Treefile) == 0 {
		return nil
	}
	if err := tree.MkdirAll(path.Dir(treefileJSON), 0o755); err != nil {
		return err
	}
	return tree.WriteFileAtomic(treefileJSON, r.o.Treefile, 0o644)
}

// Programs that cliwrap replaces: the first where they are, the others always.
func wrappable() (present, always []string) {
	return []string{"usr/bin/rpm", "usr/bin/dracut", "usr/sbin/grubby"}, []string{"usr/bin/yum", "usr/bin/dnf"}
}

// cliwrap puts scripts in front of programs that would change the system behind
// rpm-ostree's back. It runs last: the composer itself calls the real programs.
func (r *runner) cliwrap(tree *fsx.Dir) error {
	present, always := wrappable()
	if len(r.o.CliwrapBinaries) > 0 {
		present, always = nil, nil
		for _, name := range r.o.CliwrapBinaries {
			if name != "kernel-install" {
				return fmt.Errorf("cliwrap-binaries: %q cannot be wrapped, only kernel-install", name)
			}
			present = append(present, "usr/bin/"+name)
		}
	} else if !r.o.Cliwrap {
		return nil
	}
	if ok, err := tree.Exists(rpmOSTreeProg); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("cliwrap: the wrappers call /%s, which is not in the tree: add package rpm-ostree or remove the key", rpmOSTreeProg))
	}
	if err := tree.MkdirAll(wrappedDir, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Concat(present, always) {
		if err := wrap(tree, name, slices.Contains(always, name)); err != nil {
			return fmt.Errorf("cliwrap /%s: %w", name, err)
		}
	}
	return nil
}

func wrap(tree *fsx.Dir, name string, always bool) error {
	text := "#!/bin/sh\n# Made by the composer (treefile key cliwrap).\n"
	exists, err := tree.Exists(name)
	switch {
	case err != nil:
		return err
	case exists:
		to := path.Join(wrappedDir, path.Base(name))
		text += "# The program itself is /" + to + ".\n"
		if err := tree.Rename(name, tree, to); err != nil {
			return err
		}
	case !always:
		return nil
	}
	return tree.WriteFileAtomic(name, []byte(text+"exec /"+rpmOSTreeProg+" cliwrap \"$0\" \"$@\"\n"), 0o755)
}

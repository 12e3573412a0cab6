// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"fmt"
	"slices"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// What a commit's metadata says of a bootable tree.
const (
	keyBootable = "ostree.bootable"
	keyLinux    = "ostree.linux"
)

const modulesDir = "/usr/lib/modules"

// AddBindings binds a commit to its names as ostree commit does: to the refs, in
// byte order, and, unless md has a collection binding already, to the collection,
// if any.
func AddBindings(md *gvariant.Dict, collection string, refs ...string) {
	refs = slices.Sorted(slices.Values(refs))
	md.Set(keyRefBinding, gvariant.Strings(refs))
	if _, ok := md.Get(keyCollectionBinding); !ok && collection != "" {
		md.Set(keyCollectionBinding, gvariant.String(collection))
	}
}

// AddBootable marks a commit as bootable, with the version of the one kernel that
// its tree has as /usr/lib/modules/VERSION/vmlinuz. The tree may have been written
// by this transaction. No kernel or several are an error wrapping ErrInvalid, no
// such directory one wrapping ErrNotFound. The keys come out in the order in which
// libostree has them.
func (t *Txn) AddBootable(ctx context.Context, md *gvariant.Dict, tree Checksum) error {
	if err := t.check(ctx); err != nil {
		return err
	}
	for _, name := range []string{"usr", "lib", "modules"} {
		dt, err := t.loadDirTree(tree)
		if err != nil {
			return err
		}
		d, ok := dt.Dir(name)
		if !ok {
			return worded(ErrNotFound, "Opening usr/lib/modules: No such file or directory: %s", modulesDir)
		}
		tree = d.Tree
	}
	version, err := t.kernelVersion(tree)
	if err != nil {
		return err
	}
	md.Set(keyBootable, gvariant.Bool(true))
	md.Set(keyLinux, gvariant.String(version))
	*md = asHashed(*md)
	return nil
}

func (t *Txn) kernelVersion(modules Checksum) (string, error) {
	dt, err := t.loadDirTree(modules)
	if err != nil {
		return "", err
	}
	version := ""
	for _, d := range dt.Dirs {
		sub, err := t.loadDirTree(d.Tree)
		if err != nil {
			return "", err
		}
		_, isFile := sub.File("vmlinuz")
		if _, isDir := sub.Dir("vmlinuz"); !isFile && !isDir {
			continue
		}
		if version != "" {
			return "", worded(ErrInvalid, "Multiple kernels found in %s", modulesDir)
		}
		version = d.Name
	}
	if version == "" {
		return "", worded(ErrInvalid, "No kernel found in %s", modulesDir)
	}
	return version, nil
}

func (t *Txn) loadDirTree(c Checksum) (DirTree, error) {
	return loadParsed(t.LoadRaw, ObjectName{c, TypeDirTree}, ParseDirTree)
}

// SameTree tells whether a commit has the given root directory: then there is
// nothing new to commit. A commit that is absent is ErrNotFound.
func (t *Txn) SameTree(commit, tree, meta Checksum) (bool, error) {
	c, err := loadParsed(t.LoadRaw, ObjectName{commit, TypeCommit}, ParseCommit)
	if err != nil {
		return false, fmt.Errorf("compare with commit %s: %w", commit, err)
	}
	return c.RootTree == tree && c.RootMeta == meta, nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose"
)

// lockFlags name lockfiles; the names are those of rpm-ostree compose image,
// those of rpm-ostree compose tree are understood.
type lockFlags struct {
	files  []string
	strict bool
}

func (f *lockFlags) add(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.files, "lockfile", nil, "file that holds packages at certain builds (repeatable; a later one overrides)")
	fl.BoolVar(&f.strict, "lockfile-strict", false, "allow only packages of the lockfiles")
	fl.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		for _, known := range []string{"lockfile", "lockfile-strict", "write-lockfile-to"} {
			if name == "ex-"+known {
				name = known
			}
		}
		return pflag.NormalizedName(name)
	})
}

// load reads the lockfiles; nil where there are none.
func (f lockFlags) load() (*rpmcompose.Lock, error) {
	if len(f.files) == 0 {
		if f.strict {
			return nil, ui.UsageError{Err: fmt.Errorf("--lockfile-strict needs --lockfile")}
		}
		return nil, nil
	}
	var lists [][]rpmcompose.LockedPackage
	for _, name := range f.files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read lockfile: %w", err)
		}
		list, err := rpmcompose.ReadLockfile(name, data)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	return &rpmcompose.Lock{Packages: rpmcompose.MergeLocks(lists...), Strict: f.strict}, nil
}

// openLayerRepo opens the repository that ostree-layers come from; nil where it
// is the one that is composed to.
func openLayerRepo(dir string, a *app) (*ostree.Repo, error) {
	if dir == "" {
		return nil, nil
	}
	d, err := fsx.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open repository of layers: %w", err)
	}
	r, err := ostree.Open(d, ostree.Options{Logger: a.Log()})
	if err != nil {
		return nil, fmt.Errorf("open repository of layers %s: %w", dir, err)
	}
	return r, nil
}

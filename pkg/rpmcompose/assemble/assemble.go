// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Layer is a package and its commit in the cache.
type Layer struct {
	Package *rpm.Package
	Commit  ostree.Checksum
}

// Options of an assembly; the zero value is usable.
type Options struct {
	// Filter is the one that the packages were imported with.
	Filter importer.Filter
	// PreferColor decides between two ELF files under one path: 2 for 64 bit
	// (the default), 1 for 32 bit.
	PreferColor uint32
	// Seed holds accounts that keep their ids, those of the previous commit.
	Seed Accounts
	// AllowConflicts lets the later package win instead of failing; for paths
	// (relative to the root of the tree) that are known to be harmless.
	AllowConflicts []string
	Logger         *slog.Logger // nil discards
}

// Owner is what must be set on a path once the tree's users exist.
type Owner struct {
	Path        string // relative to the root of the tree
	Package     string
	User, Group string
	Mode        uint32 // st_mode
	Caps        string // text form, "" for none
}

// Result tells what was assembled.
type Result struct {
	// Owners are the paths that are not root's, in byte order of paths.
	Owners []Owner
	// Owned lists, by package name, the paths in the tree (relative to its root,
	// links resolved) that come from the package, directories left out.
	Owned map[string][]string
	// States are for the package database: for every layer the state of each file.
	States [][]rpm.FileState
	// Contents are the objects that the tree has unless something changes the files:
	// each once, the largest first, without those of Owners.
	Contents []ostree.Checksum
	// DevIno knows the checksums of the linked files.
	DevIno *ostree.DevInoCache
	// Tree is the commit of the union in the cache; no ref points to it.
	Tree  ostree.Checksum
	Files int
	// Duration of the union in memory and of the checkout.
	Union, Checkout time.Duration
}

// Assemble joins layers, given in the order of installation, into the new
// directory dst/name. dst must be on the filesystem of the cache repository.
//
// A path that two packages disagree about is a *ConflictError. The tree has a
// link etc to usr/etc, for the benefit of everything that runs before the final
// layout, and an empty var.
func Assemble(ctx context.Context, repo *ostree.Repo, layers []Layer, dst *fsx.Dir, name string, o Options) (*Result, error) {
	if o.PreferColor == 0 {
		o.PreferColor = 2
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := failpoint.Hit("assemble.begin"); err != nil {
		return nil, err
	}
	start := time.Now()
	u, err := newUnion(ctx, repo, layers, o)
	if err != nil {
		return nil, fmt.Errorf("assemble tree: %w", err)
	}
	res := &Result{Owned: u.owned(), Owners: u.owners(), Contents: u.contents(), States: u.states, DevIno: &ostree.DevInoCache{}, Files: u.count}
	if res.Tree, err = u.commit(ctx, repo); err != nil {
		return nil, fmt.Errorf("assemble tree: %w", err)
	}
	res.Union = time.Since(start)
	start = time.Now()
	err = repo.Checkout(ctx, res.Tree, dst, name, ostree.CheckoutOptions{RequireHardlinks: true, DevIno: res.DevIno})
	if err != nil {
		return nil, fmt.Errorf("assemble tree: %w", err)
	}
	res.Checkout = time.Since(start)
	root, err := dst.OpenDir(name)
	if err != nil {
		return nil, fmt.Errorf("assemble tree: %w", err)
	}
	defer root.Close()
	if err := o.Seed.inject(root); err != nil {
		return nil, fmt.Errorf("assemble tree: keep accounts: %w", err)
	}
	return res, failpoint.Hit("assemble.end")
}

// ConflictError lists paths that packages disagree about.
type ConflictError struct{ Conflicts []Conflict }

// Conflict is one such path.
type Conflict struct {
	Path   string // as it will be in the booted system
	A, B   string // the packages, in order of installation
	Reason string
}

// ErrConflict matches every *ConflictError.
var ErrConflict = errors.New("packages conflict")

// maxConflicts bounds the lines of a message; the value holds them all.
const maxConflicts = 20

// Error lists the conflicts, one a line.
func (e *ConflictError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "packages conflict in %d paths:", len(e.Conflicts))
	for i, c := range e.Conflicts {
		if i == maxConflicts {
			fmt.Fprintf(&b, "\n  and %d more", len(e.Conflicts)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %s: %s and %s: %s", c.Path, c.A, c.B, c.Reason)
	}
	return b.String()
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

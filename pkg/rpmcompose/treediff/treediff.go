// SPDX-License-Identifier: Apache-2.0

// Package treediff tells how two commits of composed trees differ: packages with
// their changelogs, advisories, files and sizes. The field names of its JSON are
// stable; docs/diff.md explains them.
package treediff

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/pkglist"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmdb"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
)

// Side names one of the two commits.
type Side struct {
	Repo *ostree.Repo
	Rev  string // a ref, a checksum or the beginning of one
}

// Options of [Compare].
type Options struct {
	// AllFiles lists the files of the package database, too, which differ whenever a
	// package does.
	AllFiles bool
	// Advisories are those of the repositories that the trees are made of; nil: what
	// the commits themselves tell.
	Advisories []rpmmd.Advisory
}

// Diff is how two commits differ. Lists are sorted and never nil in JSON.
type Diff struct {
	From Commit `json:"from"`
	To   Commit `json:"to"`
	// Same: both commits have the same files with the same metadata.
	Same bool `json:"same"`
	// Packages is nil where a tree has neither package database nor package list.
	Packages   *Packages  `json:"packages"`
	Advisories Advisories `json:"advisories"`
	Files      Files      `json:"files"`
	Sizes      Sizes      `json:"sizes"`
}

// Commit describes one side.
type Commit struct {
	Checksum  ostree.Checksum `json:"commit"`
	Refs      []string        `json:"refs"` // that the commit is bound to
	Version   string          `json:"version,omitempty"`
	Timestamp time.Time       `json:"timestamp"`
	Kernel    string          `json:"kernel,omitempty"` // version
	// Base is the commit below the packages that a host layered itself.
	Base         *ostree.Checksum `json:"base,omitempty"`
	PackageCount int              `json:"packageCount"`
}

// side is a commit with what was read of it.
type side struct {
	repo     *ostree.Repo
	sum      ostree.Checksum
	commit   ostree.Commit
	list     []pkglist.Package
	packages map[string]*rpm.Package // by NEVRA; empty without a database
	hasList  bool
}

// Compare tells what a system that goes from a to b gets.
func Compare(ctx context.Context, a, b Side, o Options) (*Diff, error) {
	from, err := load(ctx, a)
	if err != nil {
		return nil, err
	}
	to, err := load(ctx, b)
	if err != nil {
		return nil, err
	}
	d := &Diff{Same: from.commit.RootTree == to.commit.RootTree && from.commit.RootMeta == to.commit.RootMeta}
	if d.From, err = from.describe(); err != nil {
		return nil, err
	}
	if d.To, err = to.describe(); err != nil {
		return nil, err
	}
	var changes pkglist.Diff
	if from.hasList && to.hasList {
		changes = pkglist.Compare(from.list, to.list)
		d.Packages = comparePackages(from, to, changes)
	}
	if d.Advisories, err = compareAdvisories(from, to, changes, o.Advisories); err != nil {
		return nil, err
	}
	if d.Files, err = compareFiles(ctx, from, to, newOwners(from, to, changes), o.AllFiles); err != nil {
		return nil, fmt.Errorf("compare files: %w", err)
	}
	if d.Sizes, err = compareSizes(ctx, from, to); err != nil {
		return nil, fmt.Errorf("compare sizes: %w", err)
	}
	return d, nil
}

func load(ctx context.Context, from Side) (*side, error) {
	s := &side{repo: from.Repo, packages: map[string]*rpm.Package{}}
	var err error
	if s.sum, err = s.repo.Resolve(from.Rev); err != nil {
		return nil, err
	}
	if s.commit, err = s.repo.LoadCommit(s.sum); err != nil {
		return nil, err
	}
	pkgs, err := rpmdb.ReadCommit(ctx, s.repo, s.sum)
	if errors.Is(err, rpmdb.ErrNoDatabase) {
		if s.list, s.hasList, err = pkglist.Read(s.commit); err != nil {
			return nil, fmt.Errorf("commit %s: %w", s.sum, err)
		}
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.hasList = true
	for _, p := range pkgs {
		n := p.NEVRA()
		s.list = append(s.list, pkglist.Package{Name: n.Name, EVR: n.EVR, Arch: n.Arch})
		s.packages[n.String()] = p
	}
	return s, nil
}

func (s *side) describe() (Commit, error) {
	meta := s.commit.Metadata
	out := Commit{Checksum: s.sum, Refs: []string{}, Timestamp: s.time(), PackageCount: len(s.list)}
	out.Version, _ = meta.Str("version")
	if refs, ok := meta.Strings("ostree.ref-binding"); ok {
		out.Refs = refs
	}
	if layered, _ := meta.Bool("rpmostree.clientlayer"); layered {
		out.Base = &s.commit.Parent
	}
	var err error
	out.Kernel, err = s.kernel()
	return out, err
}

// maxTime is the last second that RFC 3339 can express.
const maxTime = 253402300799

func (s *side) time() time.Time {
	return time.Unix(int64(min(s.commit.Timestamp, maxTime)), 0).UTC()
}

// kernel gives the version that the metadata tells, else the name of the newest
// folder of modules that has a kernel.
func (s *side) kernel() (string, error) {
	if v, ok := s.commit.Metadata.Str("ostree.linux"); ok {
		return v, nil
	}
	const modules = "/usr/lib/modules"
	n, err := s.repo.Lookup(s.sum, modules)
	if errors.Is(err, ostree.ErrNotFound) || err == nil && !n.IsDir {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	list, err := s.repo.Children(n)
	if err != nil {
		return "", err
	}
	var found []string
	for _, sub := range list {
		if _, err := s.repo.Lookup(s.sum, path.Join(sub.Path, "vmlinuz")); err == nil {
			found = append(found, path.Base(sub.Path))
		} else if !errors.Is(err, ostree.ErrNotFound) {
			return "", err
		}
	}
	if len(found) == 0 {
		return "", nil
	}
	return slices.MaxFunc(found, rpm.VerCompare), nil
}

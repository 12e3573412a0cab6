// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// imports are the packages that the package cache has: their files were verified
// before they were imported, so that nothing but their headers is needed of them.
type imports struct {
	repo    *ostree.Repo
	options importer.Options
}

// find reads the headers of the packages that are imported into their places of out.
// What it leaves out, for whatever reason, is to be fetched and verified in full.
func (im *imports) find(ctx context.Context, plan *Plan, cache *fsx.Dir, items []fetch.Item, policies map[string]policy, out []localPackage) error {
	if im == nil {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range plan.Packages {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			f, ok, err := fetch.Find(cache, items[i])
			if err != nil || !ok {
				return err
			}
			pkg, err := im.header(f, p, policies[p.Repo])
			if err != nil {
				return fmt.Errorf("package %s of repository %s: %w", p.NEVRA(), p.Repo, err)
			}
			if pkg != nil {
				out[i] = localPackage{plan: p, pkg: pkg, file: f}
			}
			return nil
		})
	}
	return g.Wait()
}

// header gives the package of a file whose content is imported: the cache has a
// commit of the very package file that the plan asks for, and with its header. The
// header is held against the repository's policy again; keys may have changed.
func (im *imports) header(f fetch.File, p PlannedPackage, pol policy) (*rpm.Package, error) {
	r, err := f.Open()
	if err != nil {
		return nil, nil // the fetch says why
	}
	defer r.Close()
	pkg, err := rpm.ReadPackage(r)
	if err != nil || !p.is(pkg) {
		return nil, nil
	}
	o := im.options
	o.RepodataChecksum = p.Checksum
	_, ok, err := importer.Cached(im.repo, pkg, o)
	if err != nil || !ok {
		return nil, err
	}
	if _, err := rpm.VerifyHeader(pkg, pol.keys, rpm.VerifyOptions{Name: f.Path(), RequireSignature: pol.required}); err != nil {
		return nil, nil
	}
	return pkg, nil
}

// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
)

// verifyWorkers check packages at once: hashing is the cost.
const verifyWorkers = 4

// localPackage is a package file that was verified.
type localPackage struct {
	plan PlannedPackage
	pkg  *rpm.Package
	file fetch.File
}

// source gives the importer access to the payload.
func (l localPackage) source() importer.Source {
	return importer.Source{
		Package:          l.pkg,
		RepodataChecksum: l.plan.Checksum,
		Payload: func() (io.ReadCloser, error) {
			f, err := l.file.Open()
			if err != nil {
				return nil, err
			}
			if _, err := f.Seek(l.pkg.PayloadOffset, io.SeekStart); err != nil {
				f.Close()
				return nil, err
			}
			return f, nil
		},
	}
}

// fetchPackages downloads what is missing and verifies digests and, where the
// repository asks for it, signatures, in the order of the plan. Of packages that
// imported has only the headers are read; nil has none.
func fetchPackages(ctx context.Context, plan *Plan, src Sources, imported *imports) ([]localPackage, error) {
	items, err := packageItems(plan, src)
	if err != nil {
		return nil, err
	}
	policies, err := loadPolicies(ctx, plan, src)
	if err != nil {
		return nil, err
	}
	out := make([]localPackage, len(items))
	if err := imported.find(ctx, plan, src.Cache, items, policies, out); err != nil {
		return nil, err
	}
	var missing []int
	var wanted []fetch.Item
	for i := range out {
		if out[i].pkg == nil {
			missing, wanted = append(missing, i), append(wanted, items[i])
		}
	}
	files, err := fetch.Fetch(ctx, src.Cache, wanted, fetch.Options{Log: src.Log, Progress: src.Progress, Offline: src.Offline})
	if err != nil {
		return nil, err
	}
	const task = "Checking packages"
	src.Progress.Emit(progress.Event{Task: task, Kind: progress.Begin, Total: int64(len(files))})
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(verifyWorkers)
	for n, i := range missing {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := plan.Packages[i]
			pkg, err := verifyFile(files[n], p, policies[p.Repo])
			out[i] = localPackage{plan: p, pkg: pkg, file: files[n]}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	src.Progress.Emit(progress.Event{Task: task, Kind: progress.End, Done: int64(len(files)), Total: int64(len(files)), Bytes: plan.Bytes()})
	return out, nil
}

func packageItems(plan *Plan, src Sources) ([]fetch.Item, error) {
	clients := map[string]*http.Client{}
	for _, r := range src.Repos {
		c, err := r.Client(rpmmd.Options{})
		if err != nil {
			return nil, err
		}
		clients[r.ID] = c
	}
	items := make([]fetch.Item, len(plan.Packages))
	for i, p := range plan.Packages {
		algo, digest, _ := strings.Cut(p.Checksum, ":")
		items[i] = fetch.Item{URLs: p.URLs, Checksum: fetch.Checksum{Algo: algo, Hex: digest}, Size: p.Size, Name: p.NEVRA(), Client: clients[p.Repo]}
	}
	return items, nil
}

// policy says what is asked of the packages of one repository.
type policy struct {
	keys     *rpm.Keyring
	required bool
}

func loadPolicies(ctx context.Context, plan *Plan, src Sources) (map[string]policy, error) {
	out := map[string]policy{}
	for _, used := range plan.Repos {
		for _, r := range src.Repos {
			if r.ID != used.ID {
				continue
			}
			keys, err := r.Keyring(ctx, src.Cache, rpmmd.Options{Log: src.Log, Offline: src.Offline})
			if err != nil {
				return nil, err
			}
			out[r.ID] = policy{keys: keys, required: r.GPGCheck}
		}
	}
	return out, nil
}

func verifyFile(f fetch.File, p PlannedPackage, pol policy) (*rpm.Package, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	res, err := rpm.VerifyPackage(r, pol.keys, rpm.VerifyOptions{Name: f.Path(), RequireSignature: pol.required, StrongOnly: true})
	if err != nil {
		return nil, fmt.Errorf("package %s of repository %s: %w", p.NEVRA(), p.Repo, err)
	}
	if !p.is(res.Package) {
		return nil, fmt.Errorf("package %s of repository %s: file %s holds %s instead", p.NEVRA(), p.Repo, f.Path(), res.Package.NEVRA())
	}
	return res.Package, nil
}

func (p PlannedPackage) is(pkg *rpm.Package) bool {
	got := pkg.NEVRA()
	return got.Name == p.Name && got.EVR.String() == p.EVR && got.Arch == p.Arch
}

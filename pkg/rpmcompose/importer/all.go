// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Source is a package to import.
type Source struct {
	Package *rpm.Package
	// Payload opens the package's payload at its first byte
	// (Package.PayloadOffset of the file).
	Payload          func() (io.ReadCloser, error)
	RepodataChecksum string
}

// AllOptions are those of All.
type AllOptions struct {
	Filter
	// Workers unpack at the same time; 0 means one per CPU.
	Workers  int
	Logger   *slog.Logger  // notes are logged as warnings; nil discards
	Progress progress.Func // task "import", counted in packages
}

// batch is the number of packages in one transaction: an error or a crash loses
// the work of one batch, and a transaction costs a sync of the filesystem.
const batch = 100

// All imports the packages that the cache lacks, several at a time, and returns
// the results in the order of the sources.
func All(ctx context.Context, repo *ostree.Repo, sources []Source, o AllOptions) ([]Result, error) {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	out := make([]Result, len(sources))
	var missing []int
	for i, s := range sources {
		res, ok, err := Cached(repo, s.Package, Options{Filter: o.Filter})
		if err != nil {
			return nil, err
		}
		out[i] = res
		if !ok {
			missing = append(missing, i)
		}
	}
	if err := importMissing(ctx, repo, sources, missing, out, o); err != nil {
		return nil, err
	}
	for i, res := range out {
		for _, note := range res.Notes {
			log.Warn("left out of the tree", "package", sources[i].Package.Name(), "path", note.Path, "reason", note.Reason)
		}
	}
	return out, nil
}

// importMissing imports in batches. While one is synced to the disk, the next one
// is unpacked: the one waits for the disk, the other one for the processors.
func importMissing(ctx context.Context, repo *ostree.Repo, sources []Source, missing []int, out []Result, o AllOptions) error {
	// The largest first: at the end all workers have something to do.
	sizes := map[int]int64{}
	for _, i := range missing {
		sizes[i] = unpacked(sources[i].Package)
	}
	slices.SortStableFunc(missing, func(a, b int) int { return cmp.Compare(sizes[b], sizes[a]) })
	total := int64(len(missing))
	o.Progress.Emit(progress.Event{Task: "import", Kind: progress.Begin, Total: total})
	var unpacking, counting sync.Mutex
	done := 0
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for part := range slices.Chunk(missing, batch) {
		g.Go(func() error {
			if err := importBatch(ctx, repo, sources, part, out, &unpacking, o); err != nil {
				return err
			}
			counting.Lock()
			defer counting.Unlock()
			done += len(part)
			o.Progress.Emit(progress.Event{Task: "import", Kind: progress.Update, Done: int64(done), Total: total})
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	o.Progress.Emit(progress.Event{Task: "import", Kind: progress.End, Done: total, Total: total})
	return nil
}

// unpacked gives the bytes of a package's files.
func unpacked(p *rpm.Package) (n int64) {
	for _, f := range p.Files() {
		n += f.Size
	}
	return n
}

func importBatch(ctx context.Context, repo *ostree.Repo, sources []Source, part []int, out []Result, unpacking *sync.Mutex, o AllOptions) error {
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	_, err := repo.Update(ctx, func(ctx context.Context, txn *ostree.Txn) error {
		unpacking.Lock()
		defer unpacking.Unlock()
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(workers)
		for _, i := range part {
			g.Go(func() error {
				s := sources[i]
				r, err := s.Payload()
				if err != nil {
					return fmt.Errorf("import %s: %w", s.Package.NEVRA(), err)
				}
				defer r.Close()
				out[i], err = Import(ctx, txn, s.Package, r, Options{Filter: o.Filter, RepodataChecksum: s.RepodataChecksum})
				return err
			})
		}
		return g.Wait()
	})
	return err
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

const (
	indexesDir   = "delta-indexes"
	indexSuffix  = ".index"
	maxIndexSize = 16 << 20 // bytes
	deltasKey    = "ostree.static-deltas"
)

// DeltaIndexPath gives the path below the repository of the index that lists the
// static deltas to a commit.
func DeltaIndexPath(to Checksum) string {
	return indexesDir + strings.TrimPrefix(DeltaName{To: to}.Path(), deltasDir) + indexSuffix
}

// DeltaIndexes lists the commits that have an index of static deltas, in order of
// their paths. Names that are none are passed over.
func (r *Repo) DeltaIndexes() ([]Checksum, error) {
	tops, err := r.deltaFolders(indexesDir)
	if err != nil {
		return nil, err
	}
	var out []Checksum
	for _, top := range tops {
		files, err := r.dir.ReadDir(indexesDir + "/" + top)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			base, ok := strings.CutSuffix(top+f.Name, indexSuffix)
			if !ok || f.IsDir() || strings.Contains(base, "-") {
				continue
			}
			if n, err := parseDeltaName(base); err == nil && DeltaIndexPath(n.To) == indexesDir+"/"+top+"/"+f.Name {
				out = append(out, n.To)
			}
		}
	}
	return out, nil
}

// ReindexDeltas writes the index of every commit that static deltas lead to, or
// with a checksum of that one alone, and removes those that no delta needs any more.
// It sets core.indexed-deltas in the repository's config, which tells clients to ask
// for indexes. WriteSummary does the same.
func (r *Repo) ReindexDeltas(ctx context.Context, only Checksum) error {
	unlock, err := r.lock(ctx, true)
	if err != nil {
		return err
	}
	return errors.Join(r.reindexLocked(ctx, only), unlock())
}

func (r *Repo) reindexLocked(ctx context.Context, only Checksum) error {
	err := r.enableInConfig("core", "indexed-deltas")
	plan := map[Checksum][]DeltaName{}
	if err == nil {
		err = r.planIndexes(plan, only)
	}
	if err != nil {
		return fmt.Errorf("write delta indexes: %w", err)
	}
	for to, names := range plan {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.writeIndex(to, names); err != nil {
			return fmt.Errorf("write delta index of %s: %w", to, err)
		}
	}
	return nil
}

// planIndexes maps commits to the deltas that lead there; an index that exists
// and has none is to be removed.
func (r *Repo) planIndexes(plan map[Checksum][]DeltaName, only Checksum) error {
	old := []Checksum{only}
	var err error
	if only.IsZero() {
		if old, err = r.DeltaIndexes(); err != nil {
			return err
		}
	}
	for _, c := range old {
		plan[c] = nil
	}
	names, err := r.Deltas()
	for _, n := range names {
		if only.IsZero() || n.To == only {
			plan[n.To] = append(plan[n.To], n)
		}
	}
	return err
}

func (r *Repo) writeIndex(to Checksum, names []DeltaName) error {
	name := DeltaIndexPath(to)
	if len(names) == 0 {
		return r.removeIfThere(r.dir, name)
	}
	slices.SortFunc(names, func(a, b DeltaName) int { return a.From.Compare(b.From) })
	list, err := r.deltaDigests(names)
	if err != nil {
		return err
	}
	var index gvariant.Dict
	index.Set(deltasKey, list.Value())
	data, err := index.Marshal()
	if err != nil {
		return err
	}
	if old, err := r.dir.ReadFile(name, maxIndexSize); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := r.dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return r.replaceFile(name, data, 0o644)
}

// deltaDigests maps the names of deltas to the hashes of their superblocks, as
// summary and index list them.
func (r *Repo) deltaDigests(names []DeltaName) (gvariant.Dict, error) {
	var d gvariant.Dict
	for _, n := range names {
		sum, err := r.superblockSum(n)
		if err != nil {
			return d, err
		}
		d.Set(n.String(), gvariant.ByteSlice(sum[:]))
	}
	return asHashed(d), nil
}

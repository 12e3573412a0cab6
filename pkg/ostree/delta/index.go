// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"fmt"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

const deltasKey = "ostree.static-deltas"

// MaxIndexSize bounds an index in bytes.
const MaxIndexSize = 16 << 20

// IndexEntry is a delta that leads to the commit of an index.
type IndexEntry struct {
	Name       ostree.DeltaName
	Superblock ostree.Checksum // SHA-256 of the superblock file
}

// IndexPath gives the path of a commit's index below the repository.
func IndexPath(to ostree.Checksum) string { return ostree.DeltaIndexPath(to) }

// ParseIndex reads an index. Entries whose name is none, or that lead to another
// commit, are errors wrapping ErrCorrupt.
func ParseIndex(data []byte, to ostree.Checksum) ([]IndexEntry, error) {
	out, err := parseIndex(data, to)
	if err != nil {
		return nil, fmt.Errorf("parse delta index of %s: %w", to, err)
	}
	return out, nil
}

func parseIndex(data []byte, to ostree.Checksum) ([]IndexEntry, error) {
	if len(data) > MaxIndexSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(data))
	}
	top, err := gvariant.ParseDict(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	v, ok := top.Get(deltasKey)
	if !ok {
		return nil, nil
	}
	list, ok := v.Dict()
	if !ok {
		return nil, fmt.Errorf("%w: %s of type %s", ErrCorrupt, deltasKey, v.Type())
	}
	var out []IndexEntry
	for _, e := range list.Entries() {
		n, err := ParseName(e.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if n.To != to {
			return nil, fmt.Errorf("%w: delta %s", ErrCorrupt, n)
		}
		sum, _ := e.Value.ByteSlice()
		c, err := ostree.ChecksumFromBytes(sum)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		out = append(out, IndexEntry{n, c})
	}
	return out, nil
}

// Indexes lists the commits that have a delta index, in order of their paths.
func Indexes(r *ostree.Repo) ([]ostree.Checksum, error) { return r.DeltaIndexes() }

// Reindex writes the index of every commit that deltas lead to, or with a
// checksum of that one alone; see ostree.Repo.ReindexDeltas.
func Reindex(ctx context.Context, r *ostree.Repo, only ostree.Checksum) error {
	return r.ReindexDeltas(ctx, only)
}

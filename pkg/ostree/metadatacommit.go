// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// MetadataCommitOptions say what WriteMetadataCommit records.
type MetadataCommitOptions struct {
	// Metadata is what the summary's readers should also find in the commit; the
	// bindings are added.
	Metadata gvariant.Dict
	// Sign gives the detached metadata for the commit's bytes; nil leaves it unsigned.
	Sign func(ctx context.Context, commit []byte) (gvariant.Dict, error)
}

// WriteMetadataCommit puts a commit of an empty directory on the ref
// ostree-metadata, which describes a repository of a collection to peers that get its
// refs through others. In a repository without a collection id it does nothing and
// gives the zero Checksum. WriteSummary belongs after it.
func (r *Repo) WriteMetadataCommit(ctx context.Context, o MetadataCommitOptions) (c Checksum, err error) {
	id := r.CollectionID()
	if id == "" {
		return c, nil
	}
	parent, err := r.Resolve(metadataRef)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return c, err
	}
	md := o.Metadata
	md.Set(keyCollectionBinding, gvariant.String(id))
	md.Set(keyRefBinding, gvariant.Strings([]string{metadataRef}))
	commit := Commit{Metadata: asHashed(md), Parent: parent, Timestamp: uint64(time.Now().Unix())}
	_, err = r.Update(ctx, func(ctx context.Context, t *Txn) error {
		c, err = t.writeMetadataCommit(ctx, commit, o)
		if err != nil {
			return err
		}
		return t.SetCollectionRef(CollectionRef{id, metadataRef}, c)
	})
	if err != nil {
		return c, fmt.Errorf("write commit of %s: %w", metadataRef, err)
	}
	return c, nil
}

func (t *Txn) writeMetadataCommit(ctx context.Context, commit Commit, o MetadataCommitOptions) (c Checksum, err error) {
	root := NewMTree()
	if err := root.SetMeta(DirMeta{Mode: 0o40755}); err != nil {
		return c, err
	}
	if commit.RootTree, commit.RootMeta, err = t.WriteTree(ctx, root); err != nil {
		return c, err
	}
	if c, err = t.WriteCommit(ctx, commit); err != nil || o.Sign == nil {
		return c, err
	}
	data, err := commit.Marshal()
	if err != nil {
		return c, err
	}
	signatures, err := o.Sign(ctx, data)
	if err != nil {
		return c, fmt.Errorf("sign: %w", err)
	}
	return c, t.SetCommitMeta(ctx, c, signatures)
}

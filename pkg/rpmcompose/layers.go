// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"context"
	"fmt"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// layer is a commit that is laid over the packages.
type layer struct {
	key    string // of the treefile
	ref    string
	commit ostree.Checksum
	union  ostree.UnionMode
}

// resolveLayers finds the commits of ostree-layers and ostree-override-layers, so
// that they count in the input hash.
func resolveLayers(repo *ostree.Repo, m *treefile.Manifest) ([]layer, error) {
	var out []layer
	for _, k := range []struct {
		key   string
		refs  []string
		union ostree.UnionMode
	}{
		{"ostree-layers", m.OstreeLayers, ostree.UnionIdentical},
		{"ostree-override-layers", m.OstreeOverrideLayers, ostree.UnionOverwrite},
	} {
		for i, ref := range k.refs {
			c, err := repo.Resolve(ref)
			if err != nil {
				return nil, fmt.Errorf("%w: %s: key `%s`: %w", ErrTreefile, m.Where(k.key, i), k.key, err)
			}
			out = append(out, layer{key: k.key, ref: ref, commit: c, union: k.union})
		}
	}
	return out, nil
}

// addLayers checks the layers out over the unpacked packages, before scriptlets
// run. A file of ostree-layers may stand where a package has the same file and
// where there is none; one of ostree-override-layers replaces what is there.
// A layer's /etc is the tree's usr/etc, to which its link leads. Source:
// rpm-ostree's treefile documentation.
func (r *run) addLayers(ctx context.Context, work *fsx.Dir) error {
	if len(r.env.layers) == 0 {
		return nil
	}
	start := time.Now()
	for _, l := range r.env.layers {
		// Copies: the tree must not share files with a repository that others use.
		o := ostree.CheckoutOptions{Union: l.union, ForceCopy: true}
		if err := r.env.layerRepo().Checkout(ctx, l.commit, work, rootName, o); err != nil {
			return fmt.Errorf("add layer %s (key `%s`): %w", l.ref, l.key, err)
		}
	}
	r.res.step("layers", start, "%d", len(r.env.layers))
	return nil
}

func (e *Env) layerRepo() *ostree.Repo {
	if e.LayerRepo != nil {
		return e.LayerRepo
	}
	return e.Repo
}

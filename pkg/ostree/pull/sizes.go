// SPDX-License-Identifier: Apache-2.0

package pull

import "github.com/hostctl/hostctl/pkg/ostree"

// planTransfer tells the meter what is to come: the parts and fallbacks of the
// deltas, and for commits that list the sizes of their objects those that are
// missing. Without either the totals grow during the walk.
func (p *puller) planTransfer(commits []admitted) error {
	objects, size := 0, uint64(0)
	for _, c := range commits {
		if c.complete || p.hasDelta(c.name) || len(p.req.Subpaths) > 0 {
			continue
		}
		for _, s := range c.sizes() {
			has, err := p.repo.Has(s.Object)
			if err != nil {
				return err
			}
			if !has {
				objects++
				size += s.Archived
			}
		}
	}
	if plan := p.deltas.plan; len(p.deltas.use) > 0 {
		objects += plan.Parts - plan.HaveParts + plan.Fallbacks - plan.HaveFallbacks
		size += plan.Size - plan.HaveSize
	}
	if objects > 0 {
		p.meter.plan(objects, size)
	}
	return nil
}

func (p *puller) hasDelta(c ostree.Checksum) bool {
	for _, d := range p.deltas.use {
		if d.Name.To == c {
			return true
		}
	}
	return false
}

// sizes gives what a commit says of its objects; it only helps to show progress,
// so that nonsense counts as nothing.
func (a admitted) sizes() []ostree.ObjectSize {
	list, err := a.commit.Sizes()
	if err != nil {
		return nil
	}
	return list
}

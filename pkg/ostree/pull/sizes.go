// SPDX-License-Identifier: Apache-2.0

package pull

import "github.com/hostctl/hostctl/pkg/ostree"

// planTransfer tells what is to come, the meter too: the parts and fallbacks of the
// deltas, and for commits that list the sizes of their objects those that are
// missing. Without either the totals grow during the walk.
func (p *puller) planTransfer(commits []admitted) error {
	plan := Transfer{Known: len(p.req.Subpaths) == 0}
	for _, c := range commits {
		if c.complete || p.hasDelta(c.name) || len(p.req.Subpaths) > 0 {
			continue
		}
		sizes := c.sizes()
		plan.Known = plan.Known && len(sizes) > 0
		for _, s := range sizes {
			has, err := p.repo.Has(s.Object)
			if err != nil {
				return err
			}
			if !has {
				plan.Objects++
				plan.Bytes = addBytes(plan.Bytes, s.Archived)
			}
		}
	}
	if d := p.deltas.plan; len(p.deltas.use) > 0 {
		plan.Objects += d.Parts - d.HaveParts + d.Fallbacks - d.HaveFallbacks
		plan.Bytes = addBytes(plan.Bytes, d.Size-min(d.HaveSize, d.Size))
	}
	p.plan = plan
	if plan.Objects > 0 {
		p.meter.plan(plan.Objects, plan.Bytes)
	}
	return nil
}

// addBytes adds what a remote says, which may be anything, without an overflow.
func addBytes(a, b uint64) uint64 {
	const most = 1 << 62
	return min(a, most) + min(b, most)
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

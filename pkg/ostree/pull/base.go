// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"fmt"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// errBaseGone is how a pull ends that compared with a commit which was deleted meanwhile.
var errBaseGone = errors.New("it was deleted during the pull, with objects that were taken for present; pull again")

// findBase looks for a commit whose whole closure is in the repository and which is
// probably like c: the parent, or what the ref that wants c points to now. What is the same
// there need not be looked for. nil if there is none.
func (p *puller) findBase(c *admitted, wants []want) (*ostree.Commit, error) {
	from := []ostree.Checksum{c.commit.Parent}
	for _, w := range wants {
		if w.commit != c.name {
			continue
		}
		current, err := p.current(w)
		if err != nil {
			return nil, err
		}
		from = append(from, current)
	}
	for _, sum := range from {
		if sum.IsZero() || sum == c.name {
			continue
		}
		whole, err := p.complete(sum)
		if err != nil {
			return nil, err
		}
		if !whole {
			continue
		}
		commit, err := p.repo.LoadCommit(sum)
		if errors.Is(err, ostree.ErrCorrupt) {
			continue
		}
		c.base = sum
		return &commit, err
	}
	return nil, nil
}

// checkBase is called in the transaction that declares c complete, in which nothing is
// pruned: what was deleted between two transactions before is noticed here.
func (p *puller) checkBase(c admitted) error {
	if c.base.IsZero() {
		return nil
	}
	whole, err := p.complete(c.base)
	if err == nil && !whole {
		err = fmt.Errorf("commit %s: %w", c.base, errBaseGone)
	}
	return err
}

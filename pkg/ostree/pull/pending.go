// SPDX-License-Identifier: Apache-2.0

package pull

import "github.com/hostctl/hostctl/pkg/ostree"

type fileSet map[ostree.Checksum]struct{}

func (s fileSet) has(c ostree.Checksum) bool {
	_, ok := s[c]
	return ok
}

// pending holds the files of which the repository does not tell yet that it has them: those
// that wait, those under way, and those of a transaction that may not have committed.
type pending struct {
	waiting fileSet
	batch   int        // the last one that received a file
	recent  [2]fileSet // received by it, and by one before
}

func newPending() pending {
	return pending{waiting: fileSet{}, recent: [2]fileSet{{}, {}}}
}

// add tells whether a file is not held yet, and holds it.
func (p *pending) add(c ostree.Checksum) bool {
	if p.waiting.has(c) || p.recent[0].has(c) || p.recent[1].has(c) {
		return false
	}
	p.waiting[c] = struct{}{}
	return true
}

// drop forgets a file that the repository has.
func (p *pending) drop(c ostree.Checksum) { delete(p.waiting, c) }

// done notes that a batch received a file. Those that the batch before the one before it
// received are in the repository.
func (p *pending) done(c ostree.Checksum, batch int) {
	delete(p.waiting, c)
	if batch > p.batch {
		older := p.recent[0]
		if batch > p.batch+1 {
			older = fileSet{}
		}
		p.batch, p.recent = batch, [2]fileSet{{}, older}
	}
	i := 1
	if batch == p.batch {
		i = 0
	}
	p.recent[i][c] = struct{}{}
}

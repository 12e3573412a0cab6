// SPDX-License-Identifier: Apache-2.0

package pull

import "github.com/hostctl/hostctl/pkg/ostree"

// queue holds the files that wait, first in, first out: what the walk meets first are the
// last directories of /usr, the package database and the libraries among them, and a big
// file that came last would keep a single processor busy at the end. The zero value is
// empty.
type queue struct {
	items []ostree.Checksum
	head  int // items before it are taken
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(c ostree.Checksum) {
	// The taken half makes room rather than that the slice grows.
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		q.items = q.items[:copy(q.items, q.items[q.head:])]
		q.head = 0
	}
	q.items = append(q.items, c)
}

// pop must not be called on an empty queue.
func (q *queue) pop() ostree.Checksum {
	c := q.items[q.head]
	q.head++
	return c
}

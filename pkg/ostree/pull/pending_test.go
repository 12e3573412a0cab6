// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// A received file is held until its batch must have landed, and no longer.
func TestPending(t *testing.T) {
	t.Parallel()
	sum := func(i int) ostree.Checksum { return sha256.Sum256(fmt.Append(nil, i)) }
	p := newPending()
	for batch := range 10 {
		c := sum(batch)
		if !p.add(c) || p.add(c) {
			t.Fatalf("batch %d: file is not held once", batch)
		}
		p.done(c, batch)
		if p.add(c) {
			t.Errorf("batch %d: forgot a file of its own", batch)
		}
		if batch > 0 && p.add(sum(batch-1)) {
			t.Errorf("batch %d: forgot a file of the batch before, which may be landing", batch)
		}
		if n := len(p.waiting) + len(p.recent[0]) + len(p.recent[1]); n > 2 {
			t.Errorf("batch %d: holds %d files", batch, n)
		}
	}
	p.add(sum(20))
	p.add(sum(21))
	p.done(sum(20), 12)
	p.done(sum(21), 11) // a slower worker
	if p.add(sum(20)) || p.add(sum(21)) {
		t.Error("forgot the file of a slower worker")
	}
	if p.add(sum(22)); !p.waiting.has(sum(22)) {
		t.Error("a file that waits is not held")
	}
	p.drop(sum(22))
	if !p.add(sum(22)) {
		t.Error("a dropped file is still held")
	}
}

// Directories wait for files when very many of these do, so that the queue is bounded.
func TestFilesBeforeDirectories(t *testing.T) {
	t.Parallel()
	w := newWalk(&puller{})
	w.meta = []job{{ObjectName: ostree.ObjectName{Type: ostree.TypeDirTree}}, {ObjectName: ostree.ObjectName{Type: ostree.TypeDirTree}}}
	w.content = queue{items: make([]ostree.Checksum, maxQueue)}
	for _, want := range []ostree.ObjectType{ostree.TypeFile, ostree.TypeDirTree, ostree.TypeDirTree, ostree.TypeFile} {
		if j, ok := w.next(); !ok || j.Type != want {
			t.Fatalf("next is a %s, %t; want a %s", j.Type, ok, want)
		}
		w.finished()
	}
}

// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// TestQueue: files come out in the order in which they went in, and the memory is that of
// those that wait, not of all that ever did.
func TestQueue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q queue
		pushed, popped, most := uint64(0), uint64(0), 1
		for _, n := range rapid.SliceOfN(rapid.IntRange(-40, 40), 1, 60).Draw(t, "steps") {
			for ; n > 0; n-- {
				var c ostree.Checksum
				binary.LittleEndian.PutUint64(c[:], pushed)
				q.push(c)
				pushed++
				most = max(most, q.len())
			}
			for ; n < 0 && q.len() > 0; n++ {
				if c := q.pop(); binary.LittleEndian.Uint64(c[:]) != popped {
					t.Fatalf("item %d is %x", popped, c)
				}
				popped++
			}
			if q.len() != int(pushed-popped) {
				t.Fatalf("%d items, want %d", q.len(), pushed-popped)
			}
		}
		if cap(q.items) > 8*most {
			t.Fatalf("room for %d items; %d waited at most", cap(q.items), most)
		}
	})
}

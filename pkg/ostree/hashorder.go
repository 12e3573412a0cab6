// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"math/bits"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// libostree builds dictionaries in a hash table of GLib and writes them in the order
// of its buckets. That order means nothing, but who keeps to it writes the same bytes
// for the same content, so that files of both can be compared. The table has a power of
// two of buckets, the first one probed is 11 times the string's hash modulo a prime
// near that, further ones lie 1, 3, 6, … behind it.

// asHashed orders a dictionary the way a table in which its keys were inserted one
// after another has them.
func asHashed(d gvariant.Dict) gvariant.Dict {
	entries := d.Entries()
	t := newHashTable(hashShiftMin)
	for i, e := range entries {
		t.insert(hashString(e.Key), i)
	}
	var out gvariant.Dict
	for _, b := range t.buckets {
		if b.hash != 0 {
			out.Set(entries[b.item].Key, entries[b.item].Value)
		}
	}
	return out
}

const hashShiftMin = 3

// hashPrimes are the primes by the logarithm of the table's size.
func hashPrime(shift int) uint32 {
	primes := [...]uint32{1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521,
		131071, 262139, 524287, 1048573, 2097143}
	return primes[min(shift, len(primes)-1)]
}

// hashString is Bernstein's hash of signed bytes; 0 and 1 stand for empty buckets.
func hashString(s string) uint32 {
	h := uint32(5381)
	for i := range len(s) {
		h = h*33 + uint32(int32(int8(s[i])))
	}
	return max(h, 2)
}

type hashBucket struct {
	hash uint32
	item int
}

type hashTable struct {
	shift   int
	buckets []hashBucket
	used    int
}

func newHashTable(shift int) *hashTable {
	return &hashTable{shift: shift, buckets: make([]hashBucket, 1<<shift)}
}

func (t *hashTable) first(hash uint32) int { return int(hash * 11 % hashPrime(t.shift)) }

func (t *hashTable) insert(hash uint32, item int) {
	i := t.first(hash)
	for step := 1; t.buckets[i].hash != 0; step++ {
		i = (i + step) & (len(t.buckets) - 1)
	}
	t.buckets[i] = hashBucket{hash, item}
	if t.used++; len(t.buckets) <= t.used+t.used/16 {
		t.grow()
	}
}

// grow moves the entries in place: one that is in the way of another moves next.
func (t *hashTable) grow() {
	old := len(t.buckets)
	t.shift = max(bits.Len(uint(float64(t.used)*1.333)), hashShiftMin)
	for len(t.buckets) < 1<<t.shift {
		t.buckets = append(t.buckets, hashBucket{})
	}
	settled := make([]bool, len(t.buckets))
	for i := range old {
		if t.buckets[i].hash == 0 || settled[i] {
			continue
		}
		moving := t.buckets[i]
		t.buckets[i] = hashBucket{}
		for moving.hash != 0 {
			at := t.first(moving.hash)
			for step := 1; settled[at]; step++ {
				at = (at + step) & (len(t.buckets) - 1)
			}
			settled[at] = true
			moving, t.buckets[at] = t.buckets[at], moving
		}
	}
}

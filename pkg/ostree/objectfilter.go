// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

const (
	filterWords  = 1 << 17 // of 64 bits
	filterProbes = 4
)

// objectFilter is a Bloom filter of object names: what it denies was not added, the rest
// has to be looked up elsewhere. It takes the same memory for a million objects as for
// ten thousand, of which it passes one stranger in two thousand million, and one in fifty
// with a million. The zero value is empty; it is safe for concurrent use.
type objectFilter struct {
	once  sync.Once
	words atomic.Pointer[[filterWords]atomic.Uint64]
}

func (s *objectFilter) empty() bool { return s.words.Load() == nil }

func (s *objectFilter) add(n ObjectName) {
	s.once.Do(func() { s.words.Store(new([filterWords]atomic.Uint64)) })
	words := s.words.Load()
	for i := range filterProbes {
		word, bit := filterProbe(n, i)
		if words[word].Load()&bit == 0 {
			words[word].Or(bit)
		}
	}
}

func (s *objectFilter) mayHave(n ObjectName) bool {
	words := s.words.Load()
	if words == nil {
		return false
	}
	for i := range filterProbes {
		word, bit := filterProbe(n, i)
		if words[word].Load()&bit == 0 {
			return false
		}
	}
	return true
}

// filterProbe takes the bits from the checksum, which is as good as any hash of it.
func filterProbe(n ObjectName, i int) (word int, bit uint64) {
	h := binary.LittleEndian.Uint64(n.Checksum[i*8:]) + uint64(n.Type)
	return int(h >> 6 % filterWords), 1 << (h & 63)
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

const (
	stagedWords  = 1 << 17 // of 64 bits
	stagedProbes = 4
)

// stagedSet is a Bloom filter of what a transaction has put into its staging
// directory: what it denies is not there, the rest is looked up in the directory, which
// alone knows. So a transaction takes the same memory for a million objects as for ten
// thousand, of which the filter passes one stranger in two thousand million, and one
// in fifty with a million. The zero value is an empty set.
type stagedSet struct {
	once  sync.Once
	words atomic.Pointer[[stagedWords]atomic.Uint64]
}

func (s *stagedSet) empty() bool { return s.words.Load() == nil }

func (s *stagedSet) add(n ObjectName) {
	s.once.Do(func() { s.words.Store(new([stagedWords]atomic.Uint64)) })
	words := s.words.Load()
	for i := range stagedProbes {
		word, bit := stagedProbe(n, i)
		if words[word].Load()&bit == 0 {
			words[word].Or(bit)
		}
	}
}

func (s *stagedSet) mayHave(n ObjectName) bool {
	words := s.words.Load()
	if words == nil {
		return false
	}
	for i := range stagedProbes {
		word, bit := stagedProbe(n, i)
		if words[word].Load()&bit == 0 {
			return false
		}
	}
	return true
}

// stagedProbe takes the bits from the checksum, which is as good as any hash of it.
func stagedProbe(n ObjectName, i int) (word int, bit uint64) {
	h := binary.LittleEndian.Uint64(n.Checksum[i*8:]) + uint64(n.Type)
	return int(h >> 6 % stagedWords), 1 << (h & 63)
}

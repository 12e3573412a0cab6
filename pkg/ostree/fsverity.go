// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// verityBlock is the block size of the hash tree.
const verityBlock = 4096

// verityHash computes the fs-verity digest of what is written to it, as the kernel
// does: SHA-256 over blocks of 4096 bytes, no salt.
type verityHash struct {
	size   uint64
	block  hash.Hash
	fill   int      // bytes in block
	levels [][]byte // of each level of the tree, the hashes of its block that is not full
}

func newVerity() *verityHash { return &verityHash{block: sha256.New()} }

// Write never fails.
func (v *verityHash) Write(p []byte) (int, error) {
	n := len(p)
	v.size += uint64(n)
	for len(p) > 0 {
		k := min(len(p), verityBlock-v.fill)
		v.block.Write(p[:k])
		p = p[k:]
		if v.fill += k; v.fill == verityBlock {
			v.flush()
		}
	}
	return n, nil
}

// flush ends a block of the data, padded with zeros.
func (v *verityHash) flush() {
	v.block.Write(make([]byte, verityBlock-v.fill))
	v.push(0, v.block.Sum(nil))
	v.block.Reset()
	v.fill = 0
}

// push adds a hash to a level; a block that was full becomes one of the level above.
func (v *verityHash) push(level int, sum []byte) {
	if level == len(v.levels) {
		v.levels = append(v.levels, nil)
	}
	if len(v.levels[level]) == verityBlock {
		v.up(level)
	}
	v.levels[level] = append(v.levels[level], sum...)
}

func (v *verityHash) up(level int) {
	block := make([]byte, verityBlock)
	copy(block, v.levels[level])
	sum := sha256.Sum256(block)
	v.levels[level] = v.levels[level][:0]
	v.push(level+1, sum[:])
}

// sum gives the digest: the hash of a descriptor with the root of the tree.
func (v *verityHash) sum() Checksum {
	if v.fill > 0 {
		v.flush()
	}
	var root []byte
	for level := 0; level < len(v.levels); level++ {
		if level == len(v.levels)-1 && len(v.levels[level]) == sha256.Size {
			root = v.levels[level]
			break
		}
		v.up(level)
	}
	d := make([]byte, 256)
	if root == nil {
		root = make([]byte, sha256.Size) // of no data
	}
	d[0], d[1], d[2] = 1, 1, 12 // version, SHA-256, bits of the block size
	binary.LittleEndian.PutUint64(d[8:], v.size)
	copy(d[16:], root)
	return sha256.Sum256(d)
}

// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"hash/maphash"
	"math/bits"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// interner numbers texts in the order in which they come. The texts lie in one piece of memory and nothing in
// here is a pointer that the garbage collector would have to follow: a map takes several times as long.
type interner struct {
	seed  maphash.Seed
	slots []slot // open addressing; a power of two
	ends  []uint32
	blob  []byte
}

// slot holds a part of the hash, so that most texts are compared with one other at most. id is one more than
// the number of the text; 0 marks a free slot.
type slot struct{ hash, id uint32 }

func newInterner() interner {
	return interner{seed: maphash.MakeSeed(), slots: make([]slot, 1<<12)}
}

// at gives the text with a number.
func (t *interner) at(id uint32) []byte {
	from := uint32(0)
	if id > 0 {
		from = t.ends[id-1]
	}
	return t.blob[from:t.ends[id]]
}

// find gives the number of a text that has one.
func (t *interner) find(text []byte) (id uint32, known bool) {
	_, id, known = t.look(text, maphash.Bytes(t.seed, text))
	return id, known
}

// look gives the number of a text, or the free slot for it.
func (t *interner) look(text []byte, hash uint64) (at uint64, id uint32, known bool) {
	mask := uint64(len(t.slots) - 1)
	at = hash & mask
	for ; t.slots[at].id != 0; at = (at + 1) & mask {
		if s := t.slots[at]; s.hash == uint32(hash>>32) && string(t.at(s.id-1)) == string(text) {
			return at, s.id - 1, true
		}
	}
	return at, 0, false
}

// id gives the number of a text, a new one if it has none.
func (t *interner) id(text []byte) uint32 {
	hash := maphash.Bytes(t.seed, text)
	at, id, known := t.look(text, hash)
	if known {
		return id
	}
	id = uint32(len(t.ends))
	t.slots[at] = slot{uint32(hash >> 32), id + 1}
	t.blob = append(t.blob, text...)
	t.ends = append(t.ends, uint32(len(t.blob)))
	if 2*len(t.ends) > len(t.slots) {
		t.grow()
	}
	return id
}

func (t *interner) grow() {
	t.slots = make([]slot, 4*len(t.slots))
	mask := uint64(len(t.slots) - 1)
	for id := range t.ends {
		hash := maphash.Bytes(t.seed, t.at(uint32(id)))
		at := hash & mask
		for t.slots[at].id != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = slot{uint32(hash >> 32), uint32(id) + 1}
	}
}

// tables are the texts and versions that packages name by number. Number 0 is the empty one of each.
type tables struct {
	texts   interner
	evrs    []evrRef
	evrByID map[evrRef]uint32
}

type evrRef struct{ flags, epoch, version, release uint32 }

// depRef is a dependency: the numbers of its name and version, and the flags of an RPM header.
type depRef struct{ name, evr, flags uint32 }

// record is a package: the numbers of its texts and version, how many dependencies and files it has, and its
// sizes and build time.
type record struct {
	texts [numTexts]uint32
	evr   uint32
	deps  [numDepLists]uint32
	files uint32
	nums  [numNumbers]int64
}

// batch is a run of packages, with the dependencies and files of all in the order of the packages.
type batch struct {
	packages []record
	deps     []depRef
	files    []uint32
}

func newTables() *tables {
	t := &tables{texts: newInterner(), evrByID: map[evrRef]uint32{}}
	t.texts.id(nil)
	t.version(rpm.EVR{}, 0, 0)
	return t
}

// version numbers an EVR whose version and release have the given numbers.
func (t *tables) version(e rpm.EVR, version, release uint32) uint32 {
	ref := evrRef{epoch: e.Epoch, version: version, release: release}
	if e.HasEpoch {
		ref.flags = hasEpoch
	}
	return t.evr(ref)
}

func (t *tables) evr(ref evrRef) uint32 {
	id, ok := t.evrByID[ref]
	if !ok {
		id = uint32(len(t.evrs))
		t.evrs, t.evrByID[ref] = append(t.evrs, ref), id
	}
	return id
}

// adopt numbers what another table holds, and rewrites the numbers in its batches.
func (t *tables) adopt(other *tables, batches []batch) {
	texts := make([]uint32, len(other.texts.ends))
	for id := range texts {
		texts[id] = t.texts.id(other.texts.at(uint32(id)))
	}
	evrs := make([]uint32, len(other.evrs))
	for id, e := range other.evrs {
		e.version, e.release = texts[e.version], texts[e.release]
		evrs[id] = t.evr(e)
	}
	for _, b := range batches {
		for i := range b.packages {
			p := &b.packages[i]
			for k, id := range p.texts {
				p.texts[k] = texts[id]
			}
			p.evr = evrs[p.evr]
		}
		for i, d := range b.deps {
			b.deps[i].name, b.deps[i].evr = texts[d.name], evrs[d.evr]
		}
		for i, id := range b.files {
			b.files[i] = texts[id]
		}
	}
}

// sizeHint is the capacity for about n things where the last run had that many.
func sizeHint(n int) int { return 1 << bits.Len(uint(n)) }

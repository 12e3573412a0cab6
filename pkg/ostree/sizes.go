// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// keySizes holds, in the metadata of a commit, what its objects take in an archive
// repository: aay, sorted by checksum.
const keySizes = "ostree.sizes"

// ObjectSize is what an object of a commit takes, in bytes: Archived as it is stored
// and transferred, Unpacked the content. A symbolic link's content is its target.
type ObjectSize struct {
	Object             ObjectName
	Archived, Unpacked uint64
}

// marshal gives the checksum, both sizes as unsigned LEB128 and the type.
func (s ObjectSize) marshal() []byte {
	b := slices.Clone(s.Object.Checksum[:])
	b = binary.AppendUvarint(b, s.Archived)
	b = binary.AppendUvarint(b, s.Unpacked)
	return append(b, byte(s.Object.Type))
}

// parseObjectSize reads one entry. Old writers left the type out; bytes after it
// are for later versions.
func parseObjectSize(b []byte) (s ObjectSize, err error) {
	if len(b) < len(s.Object.Checksum) {
		return s, fmt.Errorf("%w: entry of %d bytes", ErrInvalid, len(b))
	}
	rest := b[copy(s.Object.Checksum[:], b):]
	for _, v := range []*uint64{&s.Archived, &s.Unpacked} {
		n := 0
		if *v, n = binary.Uvarint(rest); n <= 0 {
			return s, fmt.Errorf("%w: number in the entry of %s", ErrInvalid, s.Object.Checksum)
		}
		rest = rest[n:]
	}
	s.Object.Type = TypeFile
	if len(rest) > 0 {
		s.Object.Type = ObjectType(rest[0])
	}
	if s.Object.Type < TypeFile || s.Object.Type > TypeDirMeta {
		return s, fmt.Errorf("%w: type %d in the entry of %s", ErrInvalid, s.Object.Type, s.Object.Checksum)
	}
	return s, nil
}

// Sizes gives the sizes of the commit's objects, in the order of the commit;
// ErrNotFound where it does not tell them.
func (c Commit) Sizes() ([]ObjectSize, error) {
	v, ok := c.Metadata.Get(keySizes)
	if !ok {
		return nil, fmt.Errorf("commit metadata %s: %w", keySizes, ErrNotFound)
	}
	list, ok := v.ByteSlices()
	if !ok {
		return nil, fmt.Errorf("commit metadata %s: %w: type %s", keySizes, ErrInvalid, v.Type())
	}
	out := make([]ObjectSize, len(list))
	for i, b := range list {
		var err error
		if out[i], err = parseObjectSize(b); err != nil {
			return nil, fmt.Errorf("commit metadata %s: %w", keySizes, err)
		}
	}
	return out, nil
}

// sizeTable collects the sizes of objects while a transaction runs.
type sizeTable struct {
	on atomic.Bool
	mu sync.Mutex
	m  map[ObjectName]ObjectSize

	max int // CommitOptions.MaxSizes
}

// start begins recording. What was recorded for another source stays: all sources
// of a commit count.
func (s *sizeTable) start(most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.max = most
	if s.m == nil {
		s.m = map[ObjectName]ObjectSize{}
	}
	s.on.Store(true)
}

func (s *sizeTable) add(n ObjectName, archived, unpacked int64) {
	if !s.on.Load() || n.Type > TypeDirMeta {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.m[n]; !ok {
		s.m[n] = ObjectSize{n, uint64(archived), uint64(unpacked)}
	}
}

// take gives the metadata value and stops recording; false where nothing was asked for
// or there are too many.
func (s *sizeTable) take() (gvariant.Value, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tooMany := s.max > 0 && len(s.m) > s.max
	if !s.on.Swap(false) || len(s.m) == 0 || tooMany {
		s.m = nil
		return gvariant.Value{}, false
	}
	list := make([][]byte, 0, len(s.m))
	byName := func(a, b ObjectName) int { return a.Checksum.Compare(b.Checksum) }
	for _, n := range slices.SortedFunc(maps.Keys(s.m), byName) {
		list = append(list, s.m[n].marshal())
	}
	s.m = nil
	return gvariant.ByteSlices(list), true
}

// recordStored records the sizes of a content object that is stored already.
func (t *Txn) recordStored(n ObjectName, h FileHeader, unpacked int64) error {
	if !t.sizes.on.Load() {
		return nil
	}
	if h.IsSymlink() {
		unpacked = int64(len(h.Target))
	}
	st, inArchive, err := t.storedStat(n)
	if err != nil {
		return fmt.Errorf("size of object %s: %w", n, err)
	}
	if inArchive {
		t.sizes.add(n, st.Size, unpacked)
	}
	return nil
}

// storedStat looks at the file of an object, which a parent may have, of another mode.
func (t *Txn) storedStat(n ObjectName) (st fsx.Stat, inArchive bool, err error) {
	if t.isStaged(n) {
		d, name := t.stagedAt(n)
		st, err = d.Lstat(name)
		return st, true, err
	}
	for r := t.r; r != nil; r = r.parent {
		st, err = r.objects.Lstat(n.loosePath(r.mode))
		if !errors.Is(err, fs.ErrNotExist) {
			return st, r.mode == ModeArchive, err
		}
	}
	return st, false, err
}

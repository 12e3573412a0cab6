// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// ErrBadADV reports an auxiliary data vector that EXTLINUX would take for empty.
var ErrBadADV = errors.New("bad auxiliary data vector")

// The auxiliary data vector is what EXTLINUX remembers from boot to boot: the last
// two sectors of ldlinux.sys, the second a copy of the first. A sector is a mark, a
// checksum, items of tag, length and data, zeros, and another mark; numbers are
// little-endian. The 32-bit words between the marks add up to advSum. The loader
// finds the sectors by their place on the disk, not through the filesystem.
const (
	advSector = 512
	advData   = 8
	advEnd    = advSector - 4 // of the data
	advHead   = 0x5a2d2fa5
	advSum    = 0xa3041767
	advTail   = 0xdd28bf64

	// advOnce is what the loader starts instead of its default, once: it removes the
	// item from the disk before it does so. It keeps items that it does not know.
	advOnce = 1
	// advTried names the trial that advOnce was last set for. SYSLINUX has no such tag.
	advTried = 0xb7
)

// adv is the content of a vector, in order.
type adv []advItem

type advItem struct {
	tag  byte // not 0
	data []byte
}

func (a adv) get(tag byte) string {
	for _, i := range a {
		if i.tag == tag {
			return string(i.data)
		}
	}
	return ""
}

// with sets an item, or removes it where value is "".
func (a adv) with(tag byte, value string) adv {
	out := slices.DeleteFunc(slices.Clone(a), func(i advItem) bool { return i.tag == tag })
	if value == "" {
		return out
	}
	return append(out, advItem{tag, []byte(value)})
}

func parseADV(data []byte) (adv, error) {
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(data[i:]) }
	if len(data) != advSector || word(0) != advHead || word(advEnd) != advTail {
		return nil, fmt.Errorf("%w: no marks", ErrBadADV)
	}
	if sum := advWords(data) + word(4); sum != advSum {
		return nil, fmt.Errorf("%w: checksum %#x", ErrBadADV, sum)
	}
	var a adv
	for rest := data[advData:advEnd]; len(rest) >= 2 && rest[0] != 0; {
		n := 2 + int(rest[1])
		if n > len(rest) {
			return nil, fmt.Errorf("%w: an item of %d bytes at offset %d", ErrBadADV, rest[1], advEnd-len(rest))
		}
		a = append(a, advItem{rest[0], slices.Clone(rest[2:n])})
		rest = rest[n:]
	}
	return a, nil
}

func advWords(sector []byte) (sum uint32) {
	for i := advData; i < advEnd; i += 4 {
		sum += binary.LittleEndian.Uint32(sector[i:])
	}
	return sum
}

// format returns one sector; ErrBadADV where it has no room.
func (a adv) format() ([]byte, error) {
	var data []byte
	for _, i := range a {
		if i.tag == 0 || len(i.data) > 255 {
			return nil, fmt.Errorf("%w: item %d with %d bytes", ErrBadADV, i.tag, len(i.data))
		}
		data = append(append(data, i.tag, byte(len(i.data))), i.data...)
	}
	if len(data) > advEnd-advData {
		return nil, fmt.Errorf("%w: %d bytes do not fit into %d", ErrBadADV, len(data), advEnd-advData)
	}
	out := make([]byte, advSector)
	copy(out[advData:], data)
	binary.LittleEndian.PutUint32(out, advHead)
	binary.LittleEndian.PutUint32(out[advEnd:], advTail)
	binary.LittleEndian.PutUint32(out[4:], advSum-advWords(out))
	return out, nil
}

// advFile holds the code of EXTLINUX, and the vector.
const advFile = "syslinux/ldlinux.sys"

// readADV reads the vector as the loader does: the first of the two that is good.
func readADV(boot *fsx.Dir) (adv, error) {
	f, err := boot.OpenFile(advFile, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	at, err := advOffset(f)
	if err != nil {
		return nil, err
	}
	both := make([]byte, 2*advSector)
	if _, err := f.ReadAt(both, at); err != nil {
		return nil, fmt.Errorf("read %s: %w", advFile, err)
	}
	first, err := parseADV(both[:advSector])
	if err == nil {
		return first, nil
	}
	if second, err2 := parseADV(both[advSector:]); err2 == nil {
		return second, nil
	}
	return nil, fmt.Errorf("read %s: %w", advFile, err)
}

func advOffset(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() || st.Size() < 2*advSector || st.Size()%advSector != 0 {
		return 0, fmt.Errorf("%s: %w: it has %d bytes, not whole sectors", advFile, ErrBadADV, st.Size())
	}
	return st.Size() - 2*advSector, nil
}

// writeADV overwrites both sectors where they are, one after the other: each is
// written whole or not at all, and the first decides. The installer makes the file
// immutable, since it must not move.
func writeADV(boot *fsx.Dir, a adv) error {
	data, err := a.format()
	if err != nil {
		return err
	}
	unlock, err := openImmutable(boot, advFile)
	if err != nil {
		return err
	}
	err = overwriteADV(boot, data)
	return errors.Join(err, unlock())
}

func overwriteADV(boot *fsx.Dir, data []byte) error {
	f, err := boot.OpenFile(advFile, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	at, err := advOffset(f)
	for range 2 {
		if err == nil {
			_, err = f.WriteAt(data, at)
		}
		if err == nil {
			err = f.Sync()
		}
		at += advSector
	}
	return errors.Join(err, f.Close())
}

// openImmutable takes the immutable flag off a file until restore is called.
func openImmutable(boot *fsx.Dir, name string) (restore func() error, err error) {
	f, err := boot.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	// Filesystems without the flag do not tell.
	if on, err := sys.Immutable(int(f.Fd())); err != nil || !on {
		return f.Close, nil
	}
	if err := sys.SetImmutable(int(f.Fd()), false); err != nil {
		return nil, errors.Join(fmt.Errorf("take the immutable flag off %s: %w", name, err), f.Close())
	}
	return func() error { return errors.Join(sys.SetImmutable(int(f.Fd()), true), f.Close()) }, nil
}

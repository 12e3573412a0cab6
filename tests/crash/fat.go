// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path"
	"strings"
	"unicode/utf16"
)

// The geometry of fatDisk: FAT16, a cluster is a sector.
const (
	sectorSize   = 512
	fatClusters  = 8192
	fatSectors   = (fatClusters + 2) * 2 / sectorSize // of one copy, rounded up below
	fatStart     = 1
	fatLength    = fatSectors + 1
	rootStart    = fatStart + 2*fatLength
	rootLength   = 32
	dataStart    = rootStart + rootLength
	fatTotal     = dataStart + fatClusters
	slotSize     = 32
	endOfChain   = 0xffff
	freeSlot     = 0xe5
	attrDir      = 0x10
	attrLongName = 0x0f
)

type sector = [sectorSize]byte

// fatDisk is a FAT filesystem as an operating system writes it, sector by sector.
// It keeps every content that a sector had since it was last synced: a power cut may
// leave any of them, whatever became of the other sectors. A sector is written whole
// or not at all, which is all that FAT can rely on.
type fatDisk struct {
	now   map[int]sector
	dirty map[int][]sector // contents before, the oldest is what is on the disk
	alias int              // of the last short name
}

func newFAT() *fatDisk {
	d := &fatDisk{now: map[int]sector{}, dirty: map[int][]sector{}}
	var b sector
	copy(b[:], "\xeb\x3c\x90crash   ")
	binary.LittleEndian.PutUint16(b[11:], sectorSize)
	b[13] = 1                                  // sectors in a cluster
	binary.LittleEndian.PutUint16(b[14:], 1)   // reserved sectors
	b[16] = 2                                  // copies of the table
	binary.LittleEndian.PutUint16(b[17:], 512) // slots of the root directory
	binary.LittleEndian.PutUint16(b[19:], uint16(fatTotal))
	b[21] = 0xf8
	binary.LittleEndian.PutUint16(b[22:], fatLength)
	b[24], b[26] = 32, 64 // sectors in a track, heads: some programs want them
	b[38] = 0x29
	copy(b[43:], "NO NAME    FAT16   ")
	b[510], b[511] = 0x55, 0xaa
	d.now[0] = b
	d.link(0, 0xfff8)
	d.link(1, endOfChain)
	d.sync()
	return d
}

func (d *fatDisk) put(n int, s sector) {
	if d.now[n] == s {
		return
	}
	d.dirty[n] = append(d.dirty[n], d.now[n])
	d.now[n] = s
}

// sync makes sectors safe; none named: all.
func (d *fatDisk) sync(list ...int) {
	if len(list) == 0 {
		clear(d.dirty)
	}
	for _, n := range list {
		delete(d.dirty, n)
	}
}

func fatAt(c int) (sector, offset int) { return c * 2 / sectorSize, c * 2 % sectorSize }

// link writes an entry of the table, both copies.
func (d *fatDisk) link(c int, next uint16) {
	n, off := fatAt(c)
	for _, start := range []int{fatStart, fatStart + fatLength} {
		s := d.now[start+n]
		binary.LittleEndian.PutUint16(s[off:], next)
		d.put(start+n, s)
	}
}

func (d *fatDisk) next(c int) int {
	n, off := fatAt(c)
	s := d.now[fatStart+n]
	return int(binary.LittleEndian.Uint16(s[off:]))
}

// allocate takes the first free cluster, so that what was deleted is overwritten
// as soon as possible.
func (d *fatDisk) allocate() (int, error) {
	for c := 2; c < fatClusters+2; c++ {
		if d.next(c) == 0 {
			d.link(c, endOfChain)
			return c, nil
		}
	}
	return 0, fmt.Errorf("the FAT is full")
}

func (d *fatDisk) chain(first int) []int {
	var out []int
	for c := first; c >= 2 && c < fatClusters+2; c = d.next(c) {
		out = append(out, c)
	}
	return out
}

func (d *fatDisk) free(first int) {
	for _, c := range d.chain(first) {
		d.link(c, 0)
	}
}

// fatDir is a directory: first cluster, 0 for the root.
type fatDir struct {
	d     *fatDisk
	first int
}

func (f fatDir) sectors() []int {
	var out []int
	if f.first == 0 {
		for i := range rootLength {
			out = append(out, rootStart+i)
		}
		return out
	}
	for _, c := range f.d.chain(f.first) {
		out = append(out, dataStart+c-2)
	}
	return out
}

// slot is a place in a directory.
type slot struct{ sector, offset int }

func (d *fatDisk) readSlot(s slot) []byte {
	b := d.now[s.sector]
	return bytes.Clone(b[s.offset : s.offset+slotSize])
}

func (d *fatDisk) writeSlot(s slot, data []byte) {
	b := d.now[s.sector]
	copy(b[s.offset:s.offset+slotSize], data)
	d.put(s.sector, b)
}

func (f fatDir) slots() []slot {
	var out []slot
	for _, n := range f.sectors() {
		for off := 0; off < sectorSize; off += slotSize {
			out = append(out, slot{n, off})
		}
	}
	return out
}

// find gives the slots of a name, the short one last.
func (f fatDir) find(name string) []slot {
	var run []slot
	var long string
	for _, s := range f.slots() {
		e := f.d.readSlot(s)
		switch {
		case e[0] == 0:
			return nil
		case e[0] == freeSlot:
			run, long = nil, ""
		case e[11] == attrLongName:
			if e[0]&0x40 != 0 {
				run, long = nil, ""
			}
			run, long = append(run, s), longPart(e)+long
		default:
			if strings.EqualFold(long, name) {
				return append(run, s)
			}
			run, long = nil, ""
		}
	}
	return nil
}

// longPart gives the 13 characters of a slot of a long name.
func longPart(e []byte) string {
	var u []uint16
	for _, r := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := r[0]; i < r[1]; i += 2 {
			v := binary.LittleEndian.Uint16(e[i:])
			if v == 0 || v == 0xffff {
				return string(utf16.Decode(u))
			}
			u = append(u, v)
		}
	}
	return string(utf16.Decode(u))
}

func shortSum(short []byte) byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

// add makes an entry: its slots, one behind the other, short one last.
func (f fatDir) add(name string, attr byte, first int, size uint32) error {
	f.d.alias++
	ext := strings.ToUpper(strings.TrimPrefix(path.Ext(name), "."))
	short := []byte(fmt.Sprintf("F~%-6d%-3.3s", f.d.alias, ext))
	units := utf16.Encode([]rune(name))
	count := (len(units) + 12) / 13
	place, err := f.room(count + 1)
	if err != nil {
		return err
	}
	for i := range count {
		n := count - i
		e := bytes.Repeat([]byte{0xff}, slotSize)
		e[0], e[11], e[12], e[13], e[26], e[27] = byte(n), attrLongName, 0, shortSum(short), 0, 0
		if i == 0 {
			e[0] |= 0x40
		}
		at := (n - 1) * 13
		for _, r := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
			for j := r[0]; j < r[1]; j += 2 {
				if at < len(units) {
					binary.LittleEndian.PutUint16(e[j:], units[at])
				} else if at == len(units) {
					e[j], e[j+1] = 0, 0
				}
				at++
			}
		}
		f.d.writeSlot(place[i], e)
	}
	e := make([]byte, slotSize)
	copy(e, short)
	e[11] = attr
	f.d.writeSlot(place[count], e)
	f.d.describe(place[count], first, size)
	return nil
}

// describe writes where the content is and how large.
func (d *fatDisk) describe(s slot, first int, size uint32) {
	e := d.readSlot(s)
	binary.LittleEndian.PutUint16(e[26:], uint16(first))
	binary.LittleEndian.PutUint32(e[28:], size)
	d.writeSlot(s, e)
}

// room finds n free slots in a row; the directory grows where there are none.
func (f fatDir) room(n int) ([]slot, error) {
	var run []slot
	for _, s := range f.slots() {
		if b := f.d.readSlot(s)[0]; b != 0 && b != freeSlot {
			run = nil
			continue
		}
		if run = append(run, s); len(run) == n {
			return run, nil
		}
	}
	if f.first == 0 {
		return nil, fmt.Errorf("the root directory is full")
	}
	c, err := f.d.allocate()
	if err != nil {
		return nil, err
	}
	f.d.put(dataStart+c-2, sector{})
	list := f.d.chain(f.first)
	f.d.link(list[len(list)-1], uint16(c))
	return f.room(n)
}

func (f fatDir) remove(name string) {
	for _, s := range f.find(name) {
		e := f.d.readSlot(s)
		e[0] = freeSlot
		f.d.writeSlot(s, e)
	}
}

// dir opens the directory of a path.
func (d *fatDisk) dir(name string) (fatDir, error) {
	f := fatDir{d, 0}
	if name == "." || name == "" {
		return f, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		s := f.find(part)
		if s == nil {
			return f, fmt.Errorf("%s: no %s", name, part)
		}
		f = fatDir{d, int(binary.LittleEndian.Uint16(d.readSlot(s[len(s)-1])[26:]))}
	}
	return f, nil
}

// entry finds a path: its directory and slots, nil where it is not there.
func (d *fatDisk) entry(name string) (fatDir, []slot, error) {
	f, err := d.dir(path.Dir(name))
	if err != nil {
		return f, nil, err
	}
	return f, f.find(path.Base(name)), nil
}

func (d *fatDisk) mkdir(name string) error {
	f, err := d.dir(path.Dir(name))
	if err != nil {
		return err
	}
	c, err := d.allocate()
	if err != nil {
		return err
	}
	var s sector
	copy(s[:], ".          ")
	copy(s[slotSize:], "..         ")
	s[11], s[slotSize+11] = attrDir, attrDir
	binary.LittleEndian.PutUint16(s[26:], uint16(c))
	binary.LittleEndian.PutUint16(s[slotSize+26:], uint16(f.first))
	d.put(dataStart+c-2, s)
	return f.add(path.Base(name), attrDir, c, 0)
}

func (d *fatDisk) create(name string) error {
	f, err := d.dir(path.Dir(name))
	if err != nil {
		return err
	}
	return f.add(path.Base(name), 0, 0, 0)
}

// content gives a file's clusters and size.
func (d *fatDisk) content(s []slot) (first int, size uint32) {
	e := d.readSlot(s[len(s)-1])
	return int(binary.LittleEndian.Uint16(e[26:])), binary.LittleEndian.Uint32(e[28:])
}

// write gives a file new content: sectors are overwritten where they are, the chain
// grows or shrinks behind them, and the entry says the size.
func (d *fatDisk) write(name string, data []byte) error {
	_, s, err := d.entry(name)
	if err != nil || s == nil {
		return fmt.Errorf("write %s: not there: %w", name, err)
	}
	first, _ := d.content(s)
	list := d.chain(first)
	need := (len(data) + sectorSize - 1) / sectorSize
	for len(list) < need {
		c, err := d.allocate()
		if err != nil {
			return err
		}
		if len(list) > 0 {
			d.link(list[len(list)-1], uint16(c))
		}
		list = append(list, c)
	}
	for i, c := range list[:need] {
		var b sector
		if part := data[i*sectorSize:]; len(part) >= sectorSize {
			copy(b[:], part)
		} else { // what is behind the end stays
			b = d.now[dataStart+c-2]
			copy(b[:], part)
		}
		d.put(dataStart+c-2, b)
	}
	if need < len(list) {
		d.free(list[need])
		if need > 0 {
			d.link(list[need-1], endOfChain)
		}
	}
	first = 0
	if need > 0 {
		first = list[0]
	}
	d.describe(s[len(s)-1], first, uint32(len(data)))
	// The time of change; nothing reads it.
	e := d.readSlot(s[len(s)-1])
	binary.LittleEndian.PutUint16(e[22:], binary.LittleEndian.Uint16(e[22:])+1)
	d.writeSlot(s[len(s)-1], e)
	return nil
}

func (d *fatDisk) remove(name string) error {
	f, s, err := d.entry(name)
	if err != nil || s == nil {
		return fmt.Errorf("remove %s: not there: %w", name, err)
	}
	first, _ := d.content(s)
	f.remove(path.Base(name))
	d.free(first)
	return nil
}

// rename is a new entry, or that of the target with other content, and the end of
// the old one.
func (d *fatDisk) rename(from, to string) error {
	f, s, err := d.entry(from)
	if err != nil || s == nil {
		return fmt.Errorf("rename %s: not there: %w", from, err)
	}
	first, size := d.content(s)
	g, old, err := d.entry(to)
	if err != nil {
		return err
	}
	if old == nil {
		err = g.add(path.Base(to), d.readSlot(s[len(s)-1])[11], first, size)
	} else {
		gone, _ := d.content(old)
		d.describe(old[len(old)-1], first, size)
		defer d.free(gone)
	}
	f.remove(path.Base(from))
	return err
}

// exchange swaps what two entries say.
func (d *fatDisk) exchange(a, b string) error {
	_, s, err := d.entry(a)
	if err != nil || s == nil {
		return fmt.Errorf("exchange %s: not there: %w", a, err)
	}
	_, t, err := d.entry(b)
	if err != nil || t == nil {
		return fmt.Errorf("exchange %s: not there: %w", b, err)
	}
	first, size := d.content(s)
	other, otherSize := d.content(t)
	d.describe(s[len(s)-1], other, otherSize)
	d.describe(t[len(t)-1], first, size)
	return nil
}

// syncFile is fsync: the data, the entry and the table, or what is in a directory.
func (d *fatDisk) syncFile(name string, isDir bool) error {
	var list []int
	for n := fatStart; n < rootStart; n++ {
		list = append(list, n)
	}
	if isDir {
		f, err := d.dir(name)
		if err != nil {
			return err
		}
		d.sync(append(list, f.sectors()...)...)
		return nil
	}
	_, s, err := d.entry(name)
	if err != nil || s == nil {
		return fmt.Errorf("sync %s: not there: %w", name, err)
	}
	first, _ := d.content(s)
	for _, c := range d.chain(first) {
		list = append(list, dataStart+c-2)
	}
	d.sync(append(list, s[len(s)-1].sector)...)
	return nil
}

// image gives the whole disk, for other programs.
func (d *fatDisk) image() []byte {
	out := make([]byte, fatTotal*sectorSize)
	for n, s := range d.now {
		copy(out[n*sectorSize:], s[:])
	}
	return out
}

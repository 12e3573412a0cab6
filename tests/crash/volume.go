// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// volume is a boot partition as firmware reads it.
type volume interface {
	// file gives the content of a file, links followed.
	file(name string) ([]byte, error)
	// list gives the names in a directory, none where there is none.
	list(dir string) []string
	// write lays everything out in a folder, as far as it can be read.
	write(folder string) error
}

// fatVolume reads a FAT whose sectors may be of different times.
type fatVolume struct{ get func(n int) sector }

type fatEntry struct {
	name  string
	dir   bool
	first int
	size  uint32
}

func (v fatVolume) chain(first int) ([]int, error) {
	var out []int
	for c := first; c < 0xfff8; {
		if c < 2 || c >= fatClusters+2 || len(out) > fatClusters {
			return out, fmt.Errorf("broken chain at cluster %d", c)
		}
		out = append(out, c)
		n, off := fatAt(c)
		s := v.get(fatStart + n)
		c = int(binary.LittleEndian.Uint16(s[off:]))
	}
	return out, nil
}

// entries reads a directory as far as that goes.
func (v fatVolume) entries(first int) []fatEntry {
	var sectors []int
	if first == 0 {
		for i := range rootLength {
			sectors = append(sectors, rootStart+i)
		}
	} else {
		list, _ := v.chain(first)
		for _, c := range list {
			sectors = append(sectors, dataStart+c-2)
		}
	}
	var out []fatEntry
	long, want, sum := "", 0, byte(0)
	for _, n := range sectors {
		s := v.get(n)
		for off := 0; off < sectorSize; off += slotSize {
			e := s[off : off+slotSize]
			switch {
			case e[0] == 0:
				return out
			case e[0] == freeSlot:
				long, want = "", 0
			case e[11] == attrLongName:
				if e[0]&0x40 != 0 {
					long, want, sum = "", int(e[0]&0x3f), e[13]
				}
				if int(e[0]&0x3f) != want || e[13] != sum || want == 0 {
					long, want = "", 0
					continue
				}
				long, want = longPart(e)+long, want-1
			default:
				name := strings.TrimRight(string(e[:8]), " ")
				if ext := strings.TrimRight(string(e[8:11]), " "); ext != "" {
					name += "." + ext
				}
				// Slots without their short one, and the reverse, belong to nothing.
				if long != "" && want == 0 && shortSum(e[:11]) == sum {
					name = long
				}
				long, want = "", 0
				if name != "." && name != ".." {
					out = append(out, fatEntry{name, e[11]&attrDir != 0, int(binary.LittleEndian.Uint16(e[26:])), binary.LittleEndian.Uint32(e[28:])})
				}
			}
		}
	}
	return out
}

func (v fatVolume) find(name string) (fatEntry, error) {
	at := fatEntry{dir: true}
	for part := range strings.SplitSeq(strings.Trim(path.Clean(name), "/"), "/") {
		if !at.dir {
			return at, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		i := slices.IndexFunc(v.entries(at.first), func(e fatEntry) bool { return strings.EqualFold(e.name, part) })
		if i < 0 {
			return at, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		at = v.entries(at.first)[i]
		if at.dir && at.first == 0 {
			return at, fmt.Errorf("%s: broken directory", name)
		}
	}
	return at, nil
}

func (v fatVolume) file(name string) ([]byte, error) {
	e, err := v.find(name)
	if err != nil || e.dir {
		return nil, fmt.Errorf("%s: no file: %w", name, err)
	}
	return v.content(e)
}

func (v fatVolume) content(e fatEntry) ([]byte, error) {
	if e.size == 0 {
		return nil, nil
	}
	list, err := v.chain(e.first)
	if err != nil || len(list)*sectorSize < int(e.size) {
		return nil, fmt.Errorf("%s: %d clusters for %d bytes: %w", e.name, len(list), e.size, err)
	}
	var out []byte
	for _, c := range list {
		s := v.get(dataStart + c - 2)
		out = append(out, s[:]...)
	}
	return out[:e.size], nil
}

func (v fatVolume) list(dir string) []string {
	e, err := v.find(dir)
	if err != nil || !e.dir {
		return nil
	}
	var out []string
	for _, f := range v.entries(e.first) {
		out = append(out, f.name)
	}
	return out
}

// node is a file, directory or link at one moment: with the data that was written,
// and with that which was synced.
type node struct {
	kind       fs.FileMode
	data, safe []byte
}

// linkVolume is a filesystem with a journal and links.
type linkVolume struct {
	names map[string]node
	// lost tells of which files only synced data is there.
	lost func(name string) bool
}

// resolve follows links, which stay inside.
func (v linkVolume) resolve(name string) (string, bool) {
	todo := strings.Split(strings.Trim(path.Clean(name), "/"), "/")
	at := "."
	for hops := 0; len(todo) > 0 && hops < 40; hops++ {
		part := todo[0]
		todo = todo[1:]
		if part == "." || part == "" {
			continue
		}
		next := path.Join(at, part)
		if strings.HasPrefix(next, "..") {
			next = "."
		}
		n, ok := v.names[next]
		if !ok && next != "." {
			return "", false
		}
		if n.kind != fs.ModeSymlink {
			at = next
			continue
		}
		target := string(n.data)
		if strings.HasPrefix(target, "/") {
			at = "."
		}
		todo = append(strings.Split(strings.Trim(target, "/"), "/"), todo...)
	}
	return at, len(todo) == 0
}

func (v linkVolume) file(name string) ([]byte, error) {
	at, ok := v.resolve(name)
	n := v.names[at]
	if !ok || n.kind != 0 {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if v.lost != nil && v.lost(at) {
		return n.safe, nil
	}
	return n.data, nil
}

func (v linkVolume) list(dir string) []string {
	at, ok := v.resolve(dir)
	if !ok {
		return nil
	}
	var out []string
	for name := range v.names {
		if path.Dir(name) == at && name != "." {
			out = append(out, path.Base(name))
		}
	}
	slices.Sort(out)
	return out
}

func (v linkVolume) write(folder string) error {
	for _, name := range slices.Sorted(maps.Keys(v.names)) {
		n, p := v.names[name], filepath.Join(folder, name)
		var err error
		switch n.kind {
		case fs.ModeDir:
			err = os.Mkdir(p, 0o755)
		case fs.ModeSymlink:
			err = os.Symlink(string(n.data), p)
		default:
			data := n.data
			if v.lost != nil && v.lost(name) {
				data = n.safe
			}
			err = os.WriteFile(p, data, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v fatVolume) write(folder string) error { return v.writeDir(folder, fatEntry{dir: true}, 0) }

func (v fatVolume) writeDir(folder string, dir fatEntry, depth int) error {
	for _, e := range v.entries(dir.first) {
		p := filepath.Join(folder, e.name)
		if e.dir {
			err := os.Mkdir(p, 0o755)
			// A directory whose entry came to the disk without its cluster may lead anywhere.
			if err == nil && e.first != 0 && depth < 4 {
				err = v.writeDir(p, e, depth+1)
			}
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			continue
		}
		data, err := v.content(e)
		if err != nil {
			data = nil
		}
		if err := os.WriteFile(p, data, 0o644); err != nil && !errors.Is(err, syscall.EISDIR) {
			return err
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// buildHeader writes a header with an immutable region over all entries, magic included.
func buildHeader(region Tag, entries []Entry) []byte {
	slices.SortFunc(entries, func(a, b Entry) int { return int(a.Tag) - int(b.Tag) })
	var index, data []byte
	add := func(tag Tag, typ Type, offset int32, count uint32) {
		index = binary.BigEndian.AppendUint32(index, uint32(tag))
		index = binary.BigEndian.AppendUint32(index, uint32(typ))
		index = binary.BigEndian.AppendUint32(index, uint32(offset))
		index = binary.BigEndian.AppendUint32(index, count)
	}
	for _, e := range entries {
		for w := typeWidth(e.Type); w > 1 && len(data)%w != 0; {
			data = append(data, 0)
		}
		add(e.Tag, e.Type, int32(len(data)), e.Count)
		data = append(data, e.Data...)
	}
	rest := index
	index = nil
	add(region, TypeBin, int32(len(data)), entrySize)
	index = append(index, rest...)
	keep := index
	index = nil
	add(region, TypeBin, -int32(len(keep)), entrySize)
	data = append(data, index...)
	out := append([]byte(nil), headerMagic[:]...)
	out = binary.BigEndian.AppendUint32(out, uint32(len(keep)/entrySize))
	out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
	return append(append(out, keep...), data...)
}

func str(tag Tag, s string) Entry {
	return Entry{Tag: tag, Type: TypeString, Count: 1, Data: append([]byte(s), 0)}
}

func u16(tag Tag, values ...uint16) Entry {
	e := Entry{Tag: tag, Type: TypeInt16, Count: uint32(len(values))}
	for _, v := range values {
		e.Data = binary.BigEndian.AppendUint16(e.Data, v)
	}
	return e
}

// testFile is a file of a built package.
type testFile struct {
	path  string
	data  string
	mode  uint16
	inode uint32
	link  string
	flags FileFlags
}

// baseEntries makes a complete main header for files.
func baseEntries(files []testFile) []Entry {
	out := []Entry{str(TagName, "pkg"), str(TagVersion, "1"), str(TagRelease, "2"), str(TagArch, "noarch"), str(TagSourceRPM, "pkg-1-2.src.rpm")}
	if len(files) == 0 {
		return out
	}
	var bases, dirs, links, digests, owners []string
	var sizes, indexes, inodes, devs, flags []uint32
	var modes []uint16
	for i, f := range files {
		slash := bytes.LastIndexByte([]byte(f.path), '/') + 1
		bases, dirs = append(bases, f.path[slash:]), append(dirs, f.path[:slash])
		indexes = append(indexes, uint32(i))
		digest := ""
		if uint32(f.mode)&ModeTypeMask == ModeRegular && f.flags&FileGhost == 0 {
			digest = fmt.Sprintf("%x", sha256.Sum256([]byte(f.data)))
		}
		size := len(f.data)
		if f.link != "" {
			size = len(f.link)
		}
		sizes, modes, links, digests = append(sizes, uint32(size)), append(modes, f.mode), append(links, f.link), append(digests, digest)
		inode := f.inode
		if inode == 0 {
			inode = uint32(100 + i)
		}
		inodes, devs, owners, flags = append(inodes, inode), append(devs, 1), append(owners, "root"), append(flags, uint32(f.flags))
	}
	return append(out, StringsEntry(TagBasenames, bases...), StringsEntry(TagDirnames, dirs...), Uint32Entry(TagDirIndexes, indexes...),
		Uint32Entry(TagFileSizes, sizes...), u16(TagFileModes, modes...), StringsEntry(TagFileLinktos, links...), StringsEntry(TagFileDigests, digests...),
		Uint32Entry(TagFileInodes, inodes...), Uint32Entry(TagFileDevices, devs...), StringsEntry(TagFileUserName, owners...),
		StringsEntry(TagFileGroupName, owners...), Uint32Entry(TagFileFlags, flags...), Uint32Entry(TagFileDigestAlgo, 8))
}

// newc writes one archive entry.
func newc(name string, mode uint16, data string) []byte {
	b := fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	b = pad4(append(append(b, name...), 0))
	return pad4(append(b, data...))
}

// stripped writes one archive entry of the form for large files.
func stripped(index int, data string) []byte {
	return pad4(append(pad4(fmt.Appendf(nil, "07070X%08x", index)), data...))
}

func pad4(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// buildPackage puts a package file together.
func buildPackage(main []Entry, payload []byte) []byte {
	return buildSigned(main, payload, func([]byte) []Entry { return nil })
}

// buildSigned adds what sign gives for the main header to the signature header.
func buildSigned(main []Entry, payload []byte, sign func(header []byte) []Entry) []byte {
	lead := make([]byte, leadSize)
	copy(lead, leadMagic[:])
	lead[4], lead[79] = 3, 5
	header := buildHeader(TagHeaderImmutable, main)
	sum := sha256.Sum256(header)
	all := md5.New()
	all.Write(header)
	all.Write(payload)
	sig := buildHeader(TagHeaderSignatures, append(sign(header),
		str(TagSHA256Header, hex.EncodeToString(sum[:])),
		Uint32Entry(SigTagSize, uint32(len(header)+len(payload))),
		Entry{Tag: SigTagMD5, Type: TypeBin, Count: 16, Data: all.Sum(nil)},
	))
	out := append(lead, sig...)
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	return append(append(out, header...), payload...)
}

func concat(parts ...[]byte) []byte { return slices.Concat(parts...) }

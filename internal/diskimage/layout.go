// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"context"
	"fmt"
	"path"

	"github.com/hostctl/hostctl/internal/fsx"
)

const (
	mib       = 1 << 20
	blockSize = 4096
	inodeSize = 256
	// biosBootSize holds GRUB's core, about 100 KiB.
	biosBootSize = mib
	// espSize holds GRUB and room for firmware updates; 33 MiB are the least for FAT32.
	espSize = 128 * mib
)

// Names of partitions.
const (
	partBIOS = "bios"
	partESP  = "esp"
	partBoot = "boot"
	partRoot = "root"
)

// tree is the space that a folder takes in a filesystem.
type tree struct {
	Inodes int64
	Bytes  int64 // in whole blocks
}

// content is what an image has to hold.
type content struct {
	boot, root tree
	// immutable are the directories of the root that carry the immutable flag,
	// bootPaths everything below boot, parents first.
	immutable []string
	bootPaths []fsx.Entry
}

// Layout is where everything goes; offsets and sizes are bytes.
type Layout struct {
	Size int64
	// Partitions have the names bios (GRUB's core), esp (the EFI system partition),
	// boot and root, in this order, those that the way to boot needs.
	Partitions []Partition
}

// find returns the partition called name, the zero value if there is none.
func (l Layout) find(name string) Partition {
	for _, p := range l.Partitions {
		if p.Name == name {
			return p
		}
	}
	return Partition{}
}

// planLayout places the partitions. The first and last MiB hold the tables.
func planLayout(o Options, c content, i ids) (Layout, error) {
	parts, err := smallPartitions(o, c, i)
	if err != nil {
		return Layout{}, err
	}
	rootStart := int64(mib)
	for n := range parts {
		parts[n].Start = rootStart
		rootStart += parts[n].Size
	}
	// The boot files are written to the root first and deleted from it again.
	rootTree := tree{Inodes: c.root.Inodes + c.boot.Inodes, Bytes: c.root.Bytes + c.boot.Bytes}
	size := alignDown(o.Size)
	if o.Size == 0 {
		size = rootStart + fsNeeds(rootTree, o.Slack) + mib
	}
	rootSize := size - mib - rootStart
	if need := fsNeeds(rootTree, 0); rootSize < need {
		return Layout{}, fmt.Errorf("root partition of %d MiB, content needs %d MiB: %w", rootSize/mib, need/mib, ErrTooSmall)
	}
	root := Partition{Name: partRoot, Type: typeRootAMD, ID: i.rootPart, Start: rootStart, Size: rootSize}
	return Layout{Size: size, Partitions: append(parts, root)}, nil
}

// smallPartitions are those before the root, not placed yet.
func smallPartitions(o Options, c content, i ids) ([]Partition, error) {
	size, need := alignDown(o.BootSize), fsNeeds(c.boot, 0)
	if o.Boot.fatBoot() {
		need = fatNeeds(c.boot)
	}
	if size < need {
		return nil, fmt.Errorf("boot partition of %d MiB, content needs %d MiB: %w", size/mib, need/mib, ErrTooSmall)
	}
	bios := Partition{Name: partBIOS, Type: typeBIOSBoot, ID: i.bios, Size: biosBootSize}
	esp := Partition{Name: partESP, Type: typeESP, ID: i.espPart, Size: espSize}
	boot := Partition{Name: partBoot, Type: typeXBOOTLDR, ID: i.bootPart, Size: size}
	switch o.Boot {
	case UEFIGRUB:
		return []Partition{esp, boot}, nil
	case UEFISystemdBoot:
		esp.Size = size
		return []Partition{esp}, nil
	}
	return []Partition{bios, boot}, nil
}

// fatNeeds estimates the size of a FAT32 filesystem that holds t and a boot loader.
func fatNeeds(t tree) int64 {
	return max(alignDown(t.Bytes+t.Bytes/32+mib-1)+8*mib, 64*mib)
}

// inodesFor leaves room for twice the files, and for one more per 16 KiB of a
// filesystem of size bytes: a repository is mostly small files.
func inodesFor(t tree, size int64) int64 { return 2*t.Inodes + size/(16<<10) }

// fsNeeds estimates the size of a filesystem that holds t and has free bytes left.
func fsNeeds(t tree, free int64) int64 {
	data := t.Bytes + t.Bytes/32 + free
	data += inodesFor(t, data) * inodeSize
	data += journalSize(data) + data/128 // bitmaps, descriptors, copies of the superblock
	return alignDown(data+mib-1) + 8*mib
}

// journalSize in bytes, fixed here so that the estimate holds.
func journalSize(size int64) int64 {
	switch {
	case size < 256*mib:
		return 4 * mib
	case size < 1024*mib:
		return 16 * mib
	}
	return 64 * mib
}

func alignDown(n int64) int64 { return n - n%mib }

// inodeKey identifies a file across its hard links.
type inodeKey struct{ dev, ino uint64 }

// measure walks the sysroot once.
func measure(ctx context.Context, sysroot *fsx.Dir) (content, error) {
	m := measurer{ctx: ctx, seen: map[inodeKey]bool{}}
	if err := m.walk(sysroot, "", &m.c.root); err != nil {
		return content{}, fmt.Errorf("measure sysroot: %w", err)
	}
	return m.c, nil
}

type measurer struct {
	ctx  context.Context
	seen map[inodeKey]bool
	c    content
}

func (m *measurer) walk(d *fsx.Dir, at string, t *tree) error {
	if err := m.ctx.Err(); err != nil {
		return err
	}
	entries, err := d.ReadDir(".")
	if err != nil {
		return err
	}
	immutable, err := isImmutable(d)
	if err != nil {
		return err
	}
	if immutable {
		m.c.immutable = append(m.c.immutable, "/"+at)
	}
	t.Inodes++
	t.Bytes += blockSize
	for _, e := range entries {
		name := path.Join(at, e.Name)
		into := t
		if name == "boot" {
			into = &m.c.boot
		}
		if into == &m.c.boot && at != "" {
			m.c.bootPaths = append(m.c.bootPaths, fsx.Entry{Name: name, Type: e.Type})
		}
		if !e.IsDir() {
			if err := m.file(d, e.Name, into); err != nil {
				return err
			}
			continue
		}
		if err := m.enter(d, e.Name, name, into); err != nil {
			return err
		}
	}
	// Long directories take more than one block.
	t.Bytes += int64(len(entries)) / 64 * blockSize
	return nil
}

func (m *measurer) enter(d *fsx.Dir, name, at string, t *tree) error {
	sub, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	return m.walk(sub, at, t)
}

func (m *measurer) file(d *fsx.Dir, name string, t *tree) error {
	st, err := d.Lstat(name)
	if err != nil {
		return err
	}
	if st.Nlink > 1 {
		key := inodeKey{st.Dev, st.Ino}
		if m.seen[key] {
			return nil
		}
		m.seen[key] = true
	}
	t.Inodes++
	if st.IsRegular() || st.Size >= 60 {
		t.Bytes += (st.Size + blockSize - 1) / blockSize * blockSize
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/etcmerge"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// Preflight tells whether a deployment could be made and finalised, from its preview:
// what would fail at shutdown fails here, before anything is written. ErrBootMissing,
// ErrReadOnly, bootloader.ErrForeignConfig, ErrBootSpace, ErrDiskSpace or, if asked,
// ErrEtcConflict.
func (l *Locked) Preflight(ctx context.Context, p Preview, failOnConflict bool) error {
	s := l.s
	st, err := s.Load(ctx)
	if err != nil {
		return err
	}
	if st.BootProblem != "" {
		return fmt.Errorf("%w: %s", ErrBootMissing, st.BootProblem)
	}
	if err := s.checkWritable(); err != nil {
		return err
	}
	kind, backend, err := s.backend(ctx)
	if err != nil {
		return err
	}
	if err := bootloader.Check(ctx, backend, s.boot); err != nil {
		return fmt.Errorf("check boot loader %s: %w", kind, err)
	}
	if !p.Boot.FitsInSteps() {
		return &BootSpaceError{p.Boot}
	}
	if !p.Disk.Fits() {
		return &DiskSpaceError{p.Disk}
	}
	return p.Etc.check(failOnConflict)
}

func (s *Sysroot) checkWritable() error {
	for _, d := range []*fsx.Dir{s.boot, s.dir} {
		ro, err := d.ReadOnly()
		if err != nil {
			return err
		}
		if ro {
			return fmt.Errorf("%s: %w: the kernel may have made it so after an error of the disk (see dmesg); mount it read-write", d.Path(), ErrReadOnly)
		}
	}
	return nil
}

const maxFstab = 1 << 20

// bootProblem tells what of the places that a boot loader reads is not mounted in the
// running system: what was written to the directory behind would never be booted.
func (s *Sysroot) bootProblem(st State) string {
	if s.o.Root == nil {
		return ""
	}
	data, err := s.o.Root.ReadFileInRoot("etc/fstab", maxFstab)
	if err == nil {
		for _, at := range bootMounts(string(data)) {
			if ok, err := isMount(s.o.Root, at); err == nil && !ok {
				return fmt.Sprintf("/etc/fstab has a filesystem at /%s, which is not mounted: run \"mount /%s\"", at, at)
			}
		}
	}
	if _, ok := st.Booted(); !ok && !st.hasLoader && len(st.Deployments) == 0 {
		return "/boot/loader is missing, from which this system was booted: is the filesystem of /boot mounted?"
	}
	return ""
}

// bootMounts lists the mount points of boot loaders, without the first slash, that an
// fstab wants mounted at boot.
func bootMounts(fstab string) []string {
	var out []string
	for line := range strings.Lines(fstab) {
		f := strings.Fields(line)
		if len(f) < 4 || strings.HasPrefix(f[0], "#") {
			continue
		}
		at := strings.Trim(path.Clean(f[1]), "/")
		options := strings.Split(f[3], ",")
		if !slices.Contains([]string{"boot", "efi", "boot/efi"}, at) ||
			slices.ContainsFunc([]string{"noauto", "nofail", "bind", "rbind", "x-systemd.automount"}, func(o string) bool { return slices.Contains(options, o) }) {
			continue
		}
		out = append(out, at)
	}
	return out
}

func isMount(root *fsx.Dir, at string) (bool, error) {
	a, err := root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || a.IsSymlink() {
		return true, err
	}
	b, err := root.Lstat(path.Dir(at))
	return a.Dev != b.Dev, err
}

// diskMargin is what links, refs and the origin may take, in bytes, and fileMargin in
// inodes.
const (
	diskMargin = 4 << 20
	fileMargin = 128
)

// DiskSpace says what a checkout and its /etc take of the sysroot's filesystem, in
// bytes and inodes; the files of a checkout are links to objects that are there.
type DiskSpace struct {
	Need int64 `json:"need"` // with a margin, and with the kernels if /boot is on it
	Free int64 `json:"free"`
	// NeedFiles are inodes, with a margin: at most so many, or exactly where that would
	// not fit. FreeFiles is -1 on a filesystem that makes them as needed.
	NeedFiles int64 `json:"needFiles"`
	FreeFiles int64 `json:"freeFiles"`
}

// Fits reports that there is room.
func (d DiskSpace) Fits() bool { return d.Need <= d.Free && d.fitsFiles() }

func (d DiskSpace) fitsFiles() bool { return d.FreeFiles < 0 || d.NeedFiles <= d.FreeFiles }

// DiskSpaceError is ErrDiskSpace with the numbers.
type DiskSpaceError struct{ DiskSpace }

func (e *DiskSpaceError) Error() string {
	if e.Need <= e.Free {
		return fmt.Sprintf("%v: %d files (inodes) needed, %d free: %d files are missing; \"hostctl cleanup\" and \"hostctl undeploy\" make room", ErrDiskSpace, e.NeedFiles, e.FreeFiles, e.NeedFiles-e.FreeFiles)
	}
	return fmt.Sprintf("%v: %d bytes needed, %d free: %d bytes are missing; \"hostctl cleanup\" and \"hostctl undeploy\" make room", ErrDiskSpace, e.Need, e.Free, e.Need-e.Free)
}

// Unwrap makes errors.Is(err, ErrDiskSpace) hold.
func (e *DiskSpaceError) Unwrap() error { return ErrDiskSpace }

func (s *Sysroot) diskSpace(t repoTree, p Preview, sizes etcSizes) (DiskSpace, error) {
	free, _, err := s.dir.FreeSpace()
	if err != nil {
		return DiskSpace{}, err
	}
	block, err := s.dir.BlockSize()
	if err != nil {
		return DiskSpace{}, err
	}
	c := counter{repo: s.repo, block: max(block, 1), trees: map[ostree.Checksum]taken{}, empty: map[ostree.Checksum]int64{}}
	root, err := t.lookup(".")
	if err != nil {
		return DiskSpace{}, err
	}
	all, err := c.directories(root.Tree, 0)
	if err != nil {
		return DiskSpace{}, err
	}
	d := DiskSpace{Free: int64(free), Need: all.bytes + diskMargin, NeedFiles: all.dirs + all.files + int64(len(sizes.defaults)) + fileMargin}
	if d.FreeFiles, err = s.dir.FreeFiles(); err != nil {
		return d, err
	}
	for _, n := range sizes.defaults {
		d.Need += blocks(n.Size, c.block)
	}
	for _, ch := range p.Etc.Changes {
		if ch.Op == etcmerge.OpCopy {
			d.Need += blocks(sizes.current[ch.Path].Size, c.block)
			d.NeedFiles++
		}
	}
	fs, err := s.dir.FSType()
	if err != nil {
		return d, err
	}
	if !d.fitsFiles() && fs != sys.Tmpfs { // where a link takes an inode, too
		// Most files of a checkout are links to objects; empty ones are not.
		empty, err := c.emptyFiles(root.Tree)
		if err != nil {
			return d, err
		}
		d.NeedFiles += empty - all.files
	}
	if own, err := s.bootIsMount(); err != nil {
		return d, err
	} else if !own {
		d.Need += max(p.Boot.Need, 0)
	}
	return d, nil
}

// etcSizes are the snapshots that tell what /etc takes.
type etcSizes struct{ defaults, current etcmerge.Snapshot }

// taken is what a tree takes of a filesystem.
type taken struct{ bytes, dirs, files int64 }

// counter adds up what the directories of a commit take; equal ones are read once.
type counter struct {
	repo  *ostree.Repo
	block int64
	trees map[ostree.Checksum]taken
	empty map[ostree.Checksum]int64 // empty files below a tree; 1 or 0 for a file
}

// sum does not overflow: a commit may name one tree any number of times.
func sum(a, b int64) int64 { return min(a+b, 1<<60) }

func (c counter) directories(tree ostree.Checksum, depth int) (taken, error) {
	if n, ok := c.trees[tree]; ok {
		return n, nil
	}
	if depth > 512 {
		return taken{}, fmt.Errorf("%w: nested too deep", ErrInvalidCommit)
	}
	dt, err := c.repo.LoadDirTree(tree)
	if err != nil {
		return taken{}, err
	}
	own := int64(1)
	const entry = 12 // of a directory of ext4, beside the name
	for _, f := range dt.Files {
		own += int64(len(f.Name)) + entry
	}
	total := taken{dirs: 1, files: int64(len(dt.Files))}
	for _, d := range dt.Dirs {
		own += int64(len(d.Name)) + entry
		n, err := c.directories(d.Tree, depth+1)
		if err != nil {
			return taken{}, err
		}
		total = taken{sum(total.bytes, n.bytes), sum(total.dirs, n.dirs), sum(total.files, n.files)}
	}
	total.bytes = sum(total.bytes, blocks(own, c.block))
	c.trees[tree] = total
	return total, nil
}

// emptyFiles counts the empty files of a tree that directories went through.
func (c counter) emptyFiles(tree ostree.Checksum) (int64, error) {
	if n, ok := c.empty[tree]; ok {
		return n, nil
	}
	dt, err := c.repo.LoadDirTree(tree)
	if err != nil {
		return 0, err
	}
	var total int64
	for _, f := range dt.Files {
		n, err := c.emptyFile(f.Checksum)
		if err != nil {
			return 0, err
		}
		total += n
	}
	for _, d := range dt.Dirs {
		n, err := c.emptyFiles(d.Tree)
		if err != nil {
			return 0, err
		}
		total = sum(total, n)
	}
	c.empty[tree] = total
	return total, nil
}

func (c counter) emptyFile(file ostree.Checksum) (int64, error) {
	if n, ok := c.empty[file]; ok {
		return n, nil
	}
	size, err := c.repo.StorageSize(ostree.ObjectName{Checksum: file, Type: ostree.TypeFile})
	if err != nil {
		return 0, err
	}
	var n int64
	if size == 0 {
		n = 1
	}
	c.empty[file] = n
	return n, nil
}

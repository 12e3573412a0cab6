// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
)

// bootMargin is what a menu and directory blocks may take in /boot beside kernels and overlays.
const bootMargin = 1 << 20

// BootSpace says how /boot copes with a boot order, in bytes.
type BootSpace struct {
	Need        int64 `json:"need"`        // of kernels and overlay initrds that are not installed yet, with a margin
	Free        int64 `json:"free"`        // now, leftovers of crashes counted as free
	Reclaimable int64 `json:"reclaimable"` // of kernels and overlay initrds that the new order drops
}

// Fits reports that everything fits beside what is there.
func (b BootSpace) Fits() bool { return b.Need <= b.Free }

// FitsInSteps reports that it fits once the outgoing kernels are gone.
func (b BootSpace) FitsInSteps() bool { return b.Need <= b.Free+b.Reclaimable }

// BootSpaceError is ErrBootSpace with the numbers.
type BootSpaceError struct{ BootSpace }

func (e *BootSpaceError) Error() string {
	return fmt.Sprintf("%v: %d bytes needed, %d free, %d in kernels that the new boot order drops: %d bytes are missing; unpin or undeploy what is not needed",
		ErrBootSpace, e.Need, e.Free, e.Reclaimable, e.Need-e.Free-e.Reclaimable)
}

// Unwrap makes errors.Is(err, ErrBootSpace) hold.
func (e *BootSpaceError) Unwrap() error { return ErrBootSpace }

// bootSpace computes the space that order needs. sizes gives the bytes of each
// kernel directory of order.
func (s *Sysroot) bootSpace(st State, order []Deployment, sizes map[string]int64) (BootSpace, error) {
	free, _, err := s.boot.FreeSpace()
	if err != nil {
		return BootSpace{}, err
	}
	b := BootSpace{Need: bootMargin, Free: int64(free)}
	durable := durableBootDirs(st)
	for dir, size := range sizes {
		if !durable[dir] {
			b.Need += size
		}
	}
	installed, err := s.kernelDirs()
	if err != nil {
		return b, err
	}
	for dir, size := range installed {
		switch _, wanted := sizes[dir]; {
		case !durable[dir]:
			b.Free += size // left over from a crash: removed before anything is written
		case !wanted:
			b.Reclaimable += size
		}
	}
	return b, s.addOverlays(&b, st, order)
}

// addOverlays adds what the overlay initrds of order take of /boot and free there.
func (s *Sysroot) addOverlays(b *BootSpace, st State, order []Deployment) error {
	installed, err := s.overlaySizes()
	if err != nil {
		return err
	}
	wanted, used, inForce := overlaysOf(order), overlaysOf(st.Deployments), overlaysOf(st.Written())
	for sum, size := range installed {
		switch {
		case wanted[sum] || used[sum] && !inForce[sum]:
		case used[sum]:
			b.Reclaimable += size
		default:
			b.Free += size // left over, as above
		}
	}
	for sum := range wanted {
		if _, ok := installed[sum]; ok || !isSHA256(sum) {
			continue
		}
		size, err := s.stagedOverlaySize(sum)
		if err != nil {
			return err
		}
		b.Need += size
	}
	return nil
}

// kernelDirs lists the kernel directories in /boot with the bytes in them.
func (s *Sysroot) kernelDirs() (map[string]int64, error) {
	list, err := s.boot.ReadDir("ostree")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	block, err := s.bootBlock()
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, e := range list {
		if !e.IsDir() || !isKernelDir(e.Name) {
			continue
		}
		dir := path.Join("ostree", e.Name)
		if out[dir], err = s.bootDirSize(dir, block); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// blocks gives the bytes that a file of n bytes takes of a filesystem.
func blocks(n, block int64) int64 { return (n + block - 1) / block * block }

func (s *Sysroot) bootBlock() (int64, error) {
	n, err := s.boot.BlockSize()
	return max(n, 1), err
}

// takes gives the bytes that a kernel takes of a filesystem with such blocks.
func (k kernel) takes(block int64) int64 {
	var n int64
	for _, f := range k.files() {
		n += blocks(f.size, block)
	}
	return n
}

func (s *Sysroot) bootDirSize(dir string, block int64) (int64, error) {
	list, err := s.boot.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var n int64
	for _, e := range list {
		name := path.Join(dir, e.Name)
		if e.IsDir() {
			sub, err := s.bootDirSize(name, block)
			if err != nil {
				return 0, err
			}
			n += sub
			continue
		}
		st, err := s.boot.Lstat(name)
		if err != nil {
			return 0, err
		}
		n += blocks(st.Size, block)
	}
	return n, nil
}

// kernelSizes gives the bytes of each kernel directory that order needs in /boot.
func (s *Sysroot) kernelSizes(order []Deployment) (map[string]int64, error) {
	block, err := s.bootBlock()
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, d := range order {
		if _, done := out[d.bootDir()]; done {
			continue
		}
		root, err := s.dir.OpenDir(d.Dir())
		if err != nil {
			return nil, err
		}
		k, err := s.findKernel(dirTree{root})
		root.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name(), err)
		}
		out[d.bootDir()] = k.takes(block)
	}
	return out, nil
}

// makeBootSpace makes sure that the kernels of order fit. It drops leftovers,
// and where that is not enough writes a boot order without the outgoing
// deployments first, so that their kernels can go before the new ones come.
func (l *Locked) makeBootSpace(ctx context.Context, st State, order []Deployment) error {
	sizes, err := l.s.kernelSizes(order)
	if err != nil {
		return err
	}
	space, err := l.s.bootSpace(st, order, sizes)
	if err != nil {
		return err
	}
	// An entry that cannot be followed may still mean a kernel that is there.
	if len(st.Broken) == 0 {
		if _, err := l.s.dropKernels(durableBootDirs(st)); err != nil {
			return err
		}
		if err := l.s.dropOverlays(slices.Concat(st.Deployments, order)); err != nil {
			return err
		}
	}
	if space.Fits() {
		return nil
	}
	rest := slices.DeleteFunc(slices.Clone(order), func(d Deployment) bool {
		return !slices.ContainsFunc(st.Written(), d.Same)
	})
	if !space.FitsInSteps() || len(rest) == 0 || len(rest) == len(order) {
		return &BootSpaceError{space}
	}
	l.s.log.Info("dropping outgoing kernels first", "need", space.Need, "free", space.Free)
	if _, err := l.write(ctx, st, rest); err != nil {
		return fmt.Errorf("drop outgoing deployments: %w", err)
	}
	now, err := l.s.Load(ctx)
	if err != nil {
		return err
	}
	if _, err = l.s.dropKernels(durableBootDirs(now)); err != nil {
		return err
	}
	return l.s.dropOverlays(slices.Concat(now.Deployments, order))
}

// dropKernels removes the kernel directories that are not in keep and returns
// the bytes they held.
func (s *Sysroot) dropKernels(keep map[string]bool) (int64, error) {
	dirs, err := s.kernelDirs()
	if err != nil {
		return 0, err
	}
	var freed int64
	for dir, size := range dirs {
		if keep[dir] {
			continue
		}
		if err := s.boot.RemoveAll(dir); err != nil {
			return freed, err
		}
		freed += size
	}
	return freed, nil
}

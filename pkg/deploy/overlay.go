// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

const (
	overlayDir       = "ostree/initramfs-overlays" // below /boot
	stagedOverlayDir = "ostree/staged-initrds"     // below /run: libostree's, until shutdown
	maxOverlay       = 1 << 30                     // bytes
)

// Overlay initrds are loaded after the initramfs and add files to it that the
// tree does not have. A deployment names them by SHA-256; the deployments that
// use one share the file.

func overlayPath(sum string) string { return path.Join(overlayDir, sum+".img") }

// overlayName turns an initrd line of a boot entry into the checksum of an
// overlay; lines of other forms stay as they are.
func overlayName(line string) string {
	name := strings.TrimPrefix(strings.TrimPrefix(line, "/boot"), "/"+overlayDir+"/")
	if sum, ok := strings.CutSuffix(name, ".img"); ok && isSHA256(sum) {
		return sum
	}
	return line
}

// initrdLine is the reverse of overlayName.
func initrdLine(overlay, prefix string) string {
	if isSHA256(overlay) {
		return prefix + "/" + overlayPath(overlay)
	}
	return overlay
}

// AddOverlayInitrd stores an overlay initrd in /boot and returns the checksum for
// Request.Overlays. Until a deployment names it Cleanup removes it.
func (l *Locked) AddOverlayInitrd(ctx context.Context, r io.Reader) (string, error) {
	sum, err := l.s.addOverlay(ctx, r)
	if err != nil {
		return "", fmt.Errorf("store overlay initrd: %w", err)
	}
	return sum, nil
}

func (s *Sysroot) addOverlay(ctx context.Context, r io.Reader) (string, error) {
	if err := s.boot.MkdirAll(overlayDir, 0o755); err != nil {
		return "", err
	}
	dir, err := s.boot.OpenDir(overlayDir)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	// The name is known at the end only.
	const tmp = "new.tmp"
	sum, err := writeHashed(ctx, dir, tmp, r)
	if err != nil {
		return "", err
	}
	// A rename over the same file may lose it on FAT, and the order in force may need it.
	if ok, err := s.overlayInstalled(sum); err != nil || ok {
		return sum, errors.Join(err, dir.Remove(tmp))
	}
	err = dir.Rename(tmp, dir, sum+".img")
	if err == nil {
		err = dir.Fsync()
	}
	return sum, err
}

// writeHashed stores at most maxOverlay bytes durably and gives their SHA-256.
func writeHashed(ctx context.Context, dir *fsx.Dir, name string, r io.Reader) (string, error) {
	f, err := dir.CreateAtomic(name, 0o644)
	if err != nil {
		return "", err
	}
	defer f.Cancel()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, maxOverlay+1))
	if err != nil {
		return "", err
	}
	if n > maxOverlay {
		return "", fsx.ErrTooLarge
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return hexSum(h), f.Commit()
}

// overlaysOf lists the overlays that deployments name.
func overlaysOf(list []Deployment) map[string]bool {
	out := map[string]bool{}
	for _, d := range list {
		for _, o := range d.overlays {
			out[o] = true
		}
	}
	return out
}

// installOverlays makes sure that the overlays of d are in /boot. A file that the
// menu in force does not use may be torn by a crash of the tool that wrote it; a
// staged deployment of libostree has it in /run.
func (s *Sysroot) installOverlays(ctx context.Context, d Deployment, durable map[string]bool) error {
	for _, sum := range d.overlays {
		if !isSHA256(sum) || durable[sum] {
			continue
		}
		ok, err := s.overlayInstalled(sum)
		if err != nil {
			return err
		}
		if ok {
			continue
		}
		if err := s.fetchOverlay(ctx, sum); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sysroot) overlayInstalled(sum string) (bool, error) {
	f, err := s.boot.Open(overlayPath(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return false, err
	}
	return hexSum(h) == sum, nil
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

func (s *Sysroot) fetchOverlay(ctx context.Context, sum string) error {
	missing := fmt.Errorf("overlay initrd %s is neither in /boot/%s nor in /run/%s", sum, overlayDir, stagedOverlayDir)
	if s.o.Run == nil {
		return missing
	}
	f, err := s.o.Run.Open(path.Join(stagedOverlayDir, sum))
	if errors.Is(err, fs.ErrNotExist) {
		return missing
	}
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := s.addOverlay(ctx, f)
	if err == nil && got != sum {
		err = fmt.Errorf("/run/%s/%s has other content than its name says", stagedOverlayDir, sum)
	}
	return err
}

// findOverlays lists the files of overlayDir, below /boot.
func (s *Sysroot) findOverlays() ([]string, error) {
	list, err := s.boot.ReadDir(overlayDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range list {
		if !e.IsDir() {
			out = append(out, path.Join(overlayDir, e.Name))
		}
	}
	return out, err
}

// overlaySizes gives the bytes that each file of overlayDir takes, by its name without
// .img, which is an overlay's checksum or a leftover.
func (s *Sysroot) overlaySizes() (map[string]int64, error) {
	files, err := s.findOverlays()
	if err != nil {
		return nil, err
	}
	block, err := s.bootBlock()
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, name := range files {
		st, err := s.boot.Lstat(name)
		if err != nil {
			return nil, err
		}
		out[strings.TrimSuffix(path.Base(name), ".img")] = blocks(st.Size, block)
	}
	return out, nil
}

// stagedOverlaySize gives the bytes that an overlay in /run will take of /boot; 0 where it
// is not there, which installOverlays tells.
func (s *Sysroot) stagedOverlaySize(sum string) (int64, error) {
	if s.o.Run == nil {
		return 0, nil
	}
	st, err := s.o.Run.Lstat(path.Join(stagedOverlayDir, sum))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	block, err := s.bootBlock()
	return blocks(st.Size, block), err
}

// dropOverlays removes the overlays in /boot that no deployment of keep names.
func (s *Sysroot) dropOverlays(keep []Deployment) error {
	files, err := s.findOverlays()
	if err != nil {
		return err
	}
	used := overlaysOf(keep)
	for _, name := range files {
		if used[strings.TrimSuffix(path.Base(name), ".img")] {
			continue
		}
		if err := s.boot.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

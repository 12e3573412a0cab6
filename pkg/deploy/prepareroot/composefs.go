// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/sys"
)

// ImageName is the name of a deployment's composefs image, in its directory.
const ImageName = ".ostree.cfs"

// ErrNoImage reports a deployment without the image that the configuration wants.
var ErrNoImage = errors.New("no composefs image")

// ErrBadImage reports an image that is not the one that was signed, or none at all.
var ErrBadImage = errors.New("bad composefs image")

// Image says how a composefs image is mounted: names and metadata come from the image,
// the content of files from the repository.
type Image struct {
	Lower       string // empty directory, used meanwhile
	Objects     string // objects directory of the repository
	Upper, Work string // of a writable layer; "" means that there is none
	Verity      bool   // files have to match their digests, by fs-verity
	Digest      string // fs-verity digest of the image in hexadecimal; "" is not checked
}

func (i Image) words() string {
	var s strings.Builder
	for _, w := range []struct{ name, value string }{{"upper", i.Upper}, {"digest", i.Digest}} {
		if w.value != "" {
			s.WriteString(" " + w.name + "=" + w.value)
		}
	}
	if i.Verity {
		s.WriteString(" verity")
	}
	return s.String()
}

// readComposefs decides whether the root is the deployment's image.
func (s *State) readComposefs() error {
	c := s.Config.Composefs
	if c.Use == No {
		return nil
	}
	name := s.Places.Root + "/" + s.Deployment.Path() + "/" + ImageName
	info, err := os.Lstat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for composefs image: %w", err)
	}
	if err != nil || !info.Mode().IsRegular() {
		if c.Use == Maybe {
			return nil
		}
		return fmt.Errorf("%w: %s is no file; deploy the commit again where prepare-root.conf of its tree asks for composefs", ErrNoImage, name)
	}
	for _, fstype := range []string{"erofs", "overlay"} {
		ok, err := sys.HasFilesystem(fstype)
		if err != nil {
			return fmt.Errorf("ask kernel for %s: %w", fstype, err)
		}
		if ok {
			continue
		}
		if c.Use == Maybe {
			return nil
		}
		return fmt.Errorf("composefs: the kernel has no %s: %w", fstype, ErrNotSupported)
	}
	s.Composefs = true
	if c.Signed {
		s.Digest, err = s.signedDigest()
	}
	return err
}

// The header of an image.
const (
	imageMagic  = 0xD078629A
	imageHasACL = 1 // in the flags
)

// mount mounts the image in file.
func (i Image) mount(file, target string) error {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := i.check(f); err != nil {
		return err
	}
	data, err := imageOptions(f)
	if err != nil {
		return err
	}
	if err := sys.MountImage(f, i.Lower, "erofs", data); err != nil {
		return fmt.Errorf("mount erofs: %w", err)
	}
	err = i.overlay(target)
	// The overlay has its own hold on it.
	return errors.Join(err, sys.Unmount(i.Lower, true))
}

// check compares what the kernel says of the image with what was signed. It is the file
// that is mounted then: one with fs-verity can't be changed any more.
func (i Image) check(f *os.File) error {
	if !i.Verity && i.Digest == "" {
		return nil
	}
	got, on, err := sys.VerityDigest(int(f.Fd()))
	switch {
	case sys.IsNotSupported(err):
		return fmt.Errorf("the kernel or the filesystem has no fs-verity (%w): %w", err, ErrNotSupported)
	case err != nil:
		return fmt.Errorf("read fs-verity digest: %w", err)
	case i.Digest == "":
		return nil
	case !on:
		return fmt.Errorf("%w: fs-verity is not enabled on it", ErrBadImage)
	case hex.EncodeToString(got[:]) != i.Digest:
		return fmt.Errorf("%w: its digest is %x, the commit has %s", ErrBadImage, got, i.Digest)
	}
	return nil
}

// imageOptions reads the header of an image.
func imageOptions(f *os.File) (string, error) {
	var h [32]byte
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, int64(len(h))), h[:]); err != nil {
		return "", fmt.Errorf("%w: read header: %w", ErrBadImage, err)
	}
	if magic := binary.LittleEndian.Uint32(h[:]); magic != imageMagic {
		return "", fmt.Errorf("%w: magic number %#x", ErrBadImage, magic)
	}
	if binary.LittleEndian.Uint32(h[8:])&imageHasACL != 0 {
		return "", nil
	}
	return "noacl", nil // and no look for them at every access
}

func (i Image) overlay(target string) error {
	options := func(sep string) string {
		s := "metacopy=on,redirect_dir=on,lowerdir=" + i.Lower + sep + i.Objects
		if i.Upper != "" {
			s += ",upperdir=" + i.Upper + ",workdir=" + i.Work
		}
		if i.Verity {
			s += ",verity=require"
		}
		return s
	}
	flags := sys.MountSilent
	if i.Upper == "" {
		flags |= sys.MountReadOnly
	}
	err := sys.Mount("composefs", target, "overlay", flags, options("::"))
	if !errors.Is(err, syscall.EINVAL) {
		return wrapOverlay(err)
	}
	if i.Verity {
		return fmt.Errorf("mount overlay with fs-verity, which takes Linux 6.6: %w: %w", err, ErrNotSupported)
	}
	// Before Linux 6.5 there are no layers for data only. The image hides the names of
	// the objects itself.
	return wrapOverlay(sys.Mount("composefs", target, "overlay", flags, options(":")))
}

func wrapOverlay(err error) error {
	if err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return nil
}

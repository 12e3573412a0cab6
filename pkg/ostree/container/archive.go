// SPDX-License-Identifier: Apache-2.0

package container

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// maxArchiveFiles bounds the files of an archive that is read.
const maxArchiveFiles = 10000

// archive is a layout in a tar file that can be read at any place.
type archive struct {
	f     *os.File
	files map[string]span
}

type span struct{ at, size int64 }

// OpenArchive finds an image in a plain tar file with a layout, as Open does in a
// folder. The caller closes f when the image is no longer used.
func OpenArchive(f *os.File, tag string) (*Image, error) {
	a := &archive{f: f, files: map[string]span{}}
	err := a.scan()
	var img *Image
	if err == nil {
		img, err = open(a, tag)
	}
	if err != nil {
		return nil, fmt.Errorf("open image in %s: %w", f.Name(), err)
	}
	return img, nil
}

// scan notes where the files are; their contents are passed over.
func (a *archive) scan() error {
	tr := tar.NewReader(a.f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrImage, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		// The reader takes whole blocks and no more, so the file stands at the content.
		at, err := a.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		if _, twice := a.files[name]; twice || len(a.files) >= maxArchiveFiles {
			return fmt.Errorf("%w: %q is there twice, or there are more than %d files", ErrImage, clip(name), maxArchiveFiles)
		}
		a.files[name] = span{at, h.Size}
	}
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	s, ok := a.files[name]
	if !ok {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(a.f, s.at, s.size)), s.size, nil
}

// WriteArchive writes the layout d as a tar archive to w, in the order of names and
// with times of 0.
func WriteArchive(ctx context.Context, d *fsx.Dir, w io.Writer) error {
	tw := tar.NewWriter(w)
	entries, err := d.ReadDir(blobDir)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	names := []string{layoutFile, indexFile}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name, tmpPrefix) {
			names = append(names, blobDir+"/"+e.Name)
		}
	}
	slices.Sort(names)
	for _, dir := range []string{"blobs/", blobDir + "/"} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := archiveFile(tw, folder{d}, name); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	return tw.Close()
}

func archiveFile(tw *tar.Writer, s store, name string) (err error) {
	f, size, err := s.open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, Format: tar.FormatGNU}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}

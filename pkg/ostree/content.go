// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

const (
	userMetaXattr = "user.ostreemeta"
	maxTarget     = 1 << 16 // a stored link target in bytes; the kernel stops at 4096
)

// OpenFile opens a content object: its header, the size of its content in bytes
// and the content, which ends with an error wrapping ErrCorrupt where a .filez
// does not unpack to exactly that size. For a symbolic link the size is 0 and
// the content empty. The checksum is not verified; Fsck does that.
func (r *Repo) OpenFile(c Checksum) (FileHeader, int64, io.ReadCloser, error) {
	n := ObjectName{c, TypeFile}
	h, size, rc, err := r.openContent(r.objects, n.loosePath(r.mode), n)
	if r.parent != nil && errors.Is(err, ErrNotFound) {
		return r.parent.OpenFile(c)
	}
	return h, size, rc, err
}

// openContent opens a content object stored at path in d.
func (r *Repo) openContent(d *fsx.Dir, path string, n ObjectName) (FileHeader, int64, io.ReadCloser, error) {
	var h FileHeader
	var size int64
	var rc io.ReadCloser
	var err error
	switch r.mode {
	case ModeArchive:
		h, size, rc, err = r.openArchived(d, path)
	case ModeBareUser:
		h, size, rc, err = openBareUser(d, path)
	case ModeBareSplitXattrs:
		h, size, rc, err = r.openSplit(d, path)
	default:
		h, size, rc, err = r.openBare(d, path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return h, 0, nil, worded(ErrNotFound, "Opening content object %s: Couldn't find file object '%s'", n.Checksum, n.Checksum)
	}
	if err != nil {
		return h, 0, nil, fmt.Errorf("open object %s: %w", n, err)
	}
	return h, size, rc, nil
}

func noContent() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

func (r *Repo) openBare(d *fsx.Dir, path string) (h FileHeader, size int64, rc io.ReadCloser, err error) {
	f, err := d.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		h, err = r.bareLink(d, path)
		return h, 0, noContent(), err
	}
	if err != nil {
		return h, 0, nil, err
	}
	st, err := fsx.FStat(f)
	if err == nil && !st.IsRegular() {
		err = fmt.Errorf("%w: mode %o", ErrCorrupt, st.Mode)
	}
	if err == nil && r.mode == ModeBare && !r.opts.disableXattrs {
		h.Xattrs, err = fileXattrs(fsx.FXattrs(f))
	}
	if err != nil {
		return h, 0, nil, errors.Join(err, f.Close())
	}
	h.Mode = st.Mode
	if r.mode.ownedFiles() {
		h.UID, h.GID = st.UID, st.GID
	}
	return h, st.Size, f, nil
}

func (r *Repo) bareLink(d *fsx.Dir, path string) (h FileHeader, err error) {
	st, err := d.Lstat(path)
	if err != nil {
		return h, err
	}
	h.Mode = st.Mode
	if h.Target, err = d.Readlink(path); err != nil || !r.mode.ownedFiles() {
		return h, err
	}
	h.UID, h.GID = st.UID, st.GID
	if r.mode == ModeBare && !r.opts.disableXattrs {
		h.Xattrs, err = fileXattrs(d.Xattrs(path))
	}
	return h, err
}

func fileXattrs(list []fsx.Xattr, err error) ([]Xattr, error) {
	var out []Xattr
	for _, x := range list {
		out = append(out, Xattr(x))
	}
	return out, err
}

// openBareUser reads owner, mode and attributes from user.ostreemeta. A symbolic
// link is a file with the target and, as libostree writes it, a NUL.
func openBareUser(d *fsx.Dir, path string) (h FileHeader, size int64, rc io.ReadCloser, err error) {
	f, err := d.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return h, 0, nil, err
	}
	h, size, err = bareUserHeader(f)
	if err != nil {
		return h, 0, nil, errors.Join(err, f.Close())
	}
	if h.IsSymlink() {
		return h, 0, noContent(), f.Close()
	}
	return h, size, f, nil
}

func bareUserHeader(f *os.File) (h FileHeader, size int64, err error) {
	st, err := fsx.FStat(f)
	if err != nil {
		return h, 0, err
	}
	if h, err = userMeta(f); err != nil {
		return h, 0, err
	}
	if !h.IsSymlink() {
		return h, st.Size, h.check()
	}
	target, err := io.ReadAll(io.LimitReader(f, maxTarget))
	if err != nil {
		return h, 0, err
	}
	h.Target = string(bytes.TrimSuffix(target, []byte{0}))
	if err := h.check(); err != nil {
		return h, 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return h, 0, nil
}

// userMeta reads the attribute user.ostreemeta, (uuua(ayay)).
func userMeta(f *os.File) (FileHeader, error) {
	raw, err := sys.Fgetxattr(int(f.Fd()), userMetaXattr)
	if err != nil {
		return FileHeader{}, fmt.Errorf("%w: attribute %s: %w", ErrCorrupt, userMetaXattr, err)
	}
	return parseUserMeta(raw)
}

func parseUserMeta(raw []byte) (FileHeader, error) {
	v, err := gvariant.Parse(dirMetaType, raw)
	if err != nil {
		return FileHeader{}, fmt.Errorf("%w: attribute %s: %w", ErrCorrupt, userMetaXattr, err)
	}
	m, err := metaFields(v)
	if err != nil {
		return FileHeader{}, fmt.Errorf("%w: attribute %s: %w", ErrCorrupt, userMetaXattr, err)
	}
	return FileHeader{UID: m.UID, GID: m.GID, Mode: m.Mode, Xattrs: m.Xattrs}, nil
}

func marshalUserMeta(h FileHeader) ([]byte, error) {
	xattrs, err := sortedXattrs(h.Xattrs)
	if err != nil {
		return nil, err
	}
	v := gvariant.Tuple(gvariant.Uint32BE(h.UID), gvariant.Uint32BE(h.GID), gvariant.Uint32BE(h.Mode), xattrsValue(xattrs))
	return v.Bytes(), v.Err()
}

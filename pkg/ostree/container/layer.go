// SPDX-License-Identifier: Apache-2.0

package container

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// The repository of an image.
const (
	repoPath     = "sysroot/ostree/repo"
	objectPrefix = repoPath + "/objects/"
	repoConfig   = "[core]\nrepo_version=1\nmode=bare-split-xattrs\n"
	paxXattr     = "SCHILY.xattr."
	selinuxXattr = "security.selinux"
)

// repoDirs are those that a repository needs, parents first.
func repoDirs() []string {
	dirs := []string{"sysroot", "sysroot/ostree", repoPath}
	for _, name := range []string{"extensions", "refs", "refs/heads", "refs/mirrors", "refs/remotes", "state", "tmp", "tmp/cache", "objects"} {
		dirs = append(dirs, repoPath+"/"+name)
	}
	for i := range 256 {
		dirs = append(dirs, fmt.Sprintf("%s%02x", objectPrefix, i))
	}
	return dirs
}

func objectPath(n ostree.ObjectName) string {
	s := n.String()
	return objectPrefix + s[:2] + "/" + s[2:]
}

// layerWriter writes one layer. Times are 0, as in the repository: an image does not
// depend on when it is made.
type layerWriter struct {
	t    *tree
	tw   *tar.Writer
	buf  []byte
	made map[string]bool // directories that the layer has
}

func newLayerWriter(t *tree, w io.Writer) *layerWriter {
	return &layerWriter{t: t, tw: tar.NewWriter(w), buf: make([]byte, 128<<10), made: map[string]bool{}}
}

func (w *layerWriter) header(h *tar.Header, xattrs []ostree.Xattr) error {
	h.Format = tar.FormatGNU
	for _, x := range xattrs {
		// Engines set the label themselves; a name with = has no place in a record.
		if x.Name == selinuxXattr || strings.Contains(x.Name, "=") {
			continue
		}
		if h.PAXRecords == nil {
			h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{}
		}
		h.PAXRecords[paxXattr+x.Name] = string(x.Value)
	}
	if err := w.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("write layer entry %q: %w", clip(h.Name), err)
	}
	return nil
}

func (w *layerWriter) dir(name string, m ostree.DirMeta) error {
	if w.made[name] {
		return nil
	}
	w.made[name] = true
	if name == "" {
		name = "."
	}
	return w.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(m.Mode & 0o7777), Uid: int(m.UID), Gid: int(m.GID)}, m.Xattrs)
}

// plainDir is a directory that the commit does not have.
func plainDir(mode uint32) ostree.DirMeta { return ostree.DirMeta{Mode: mode} }

// parents writes the directories above name: an engine that unpacks a layer by itself
// would make those that are missing as it likes.
func (w *layerWriter) parents(name string) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		dir := name[:i]
		m := plainDir(0o755)
		if sum, ok := w.t.byPath[dir]; ok && !strings.HasPrefix(dir+"/", "sysroot/") {
			m = w.t.metas[sum]
		}
		if err := w.dir(dir, m); err != nil {
			return err
		}
	}
	return nil
}

func (w *layerWriter) data(name string, data []byte) error {
	if err := w.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}, nil); err != nil {
		return err
	}
	_, err := w.tw.Write(data)
	return err
}

// structure writes the first layer: the repository with the commit, its detached
// metadata and all directories, as objects and as what they describe.
func (w *layerWriter) structure(ctx context.Context) error {
	top := w.t.dirs[0]
	if err := w.dir("", w.t.metas[top.Meta]); err != nil {
		return err
	}
	for _, name := range repoDirs() {
		if err := w.dir(name, plainDir(0o755)); err != nil {
			return err
		}
	}
	if err := w.data(repoPath+"/config", []byte(repoConfig)); err != nil {
		return err
	}
	if err := w.commitObjects(); err != nil {
		return err
	}
	written := map[ostree.ObjectName]bool{}
	for _, d := range w.t.dirs {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, n := range []ostree.ObjectName{{Checksum: d.Meta, Type: ostree.TypeDirMeta}, {Checksum: d.Tree, Type: ostree.TypeDirTree}} {
			if written[n] {
				continue
			}
			written[n] = true
			if err := w.metadata(n); err != nil {
				return err
			}
		}
		if p := imagePath(d.Path); p != "" && !hidden(p) {
			if err := w.dir(p, w.t.metas[d.Meta]); err != nil {
				return err
			}
		}
	}
	// Programs in a container want it, and nothing there makes it.
	if err := w.parents("var/tmp"); err != nil {
		return err
	}
	return w.dir("var/tmp", plainDir(0o1777))
}

func (w *layerWriter) metadata(n ostree.ObjectName) error {
	data, err := w.t.repo.LoadRaw(n)
	if err != nil {
		return err
	}
	return w.data(objectPath(n), data)
}

func (w *layerWriter) commitObjects() error {
	if err := w.metadata(ostree.ObjectName{Checksum: w.t.commit, Type: ostree.TypeCommit}); err != nil {
		return err
	}
	err := w.metadata(ostree.ObjectName{Checksum: w.t.commit, Type: ostree.TypeCommitMeta})
	if errors.Is(err, ostree.ErrNotFound) {
		return nil
	}
	return err
}

// files writes the objects of a layer in the order of their paths.
func (w *layerWriter) files(ctx context.Context, list []*object) error {
	slices.SortFunc(list, func(a, b *object) int { return cmp.Compare(a.first, b.first) })
	for _, o := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.file(o); err != nil {
			return err
		}
	}
	return nil
}

func (w *layerWriter) file(o *object) (err error) {
	h, size, content, err := w.t.repo.OpenFile(o.sum)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	attributes, err := ostree.MarshalXattrs(h.Xattrs)
	if err != nil {
		return fmt.Errorf("attributes of %s: %w", clip(o.first), err)
	}
	name := objectPath(ostree.ObjectName{Checksum: o.sum, Type: ostree.TypeFile})
	if err := w.parents(name); err != nil {
		return err
	}
	// Importers need the attributes before the content. A file of its own, no hard
	// link: file systems limit those.
	if err := w.data(objectPath(ostree.ObjectName{Checksum: o.sum, Type: ostree.TypeFileXattrsLink}), attributes); err != nil {
		return err
	}
	if err := w.content(name, h, size, content); err != nil {
		return err
	}
	for _, p := range o.paths {
		if err := w.parents(p); err != nil {
			return err
		}
		if err := w.show(p, name, h, size); err != nil {
			return err
		}
	}
	return nil
}

func fileHeader(name string, h ostree.FileHeader, size int64) *tar.Header {
	out := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(h.Mode & 0o7777), Uid: int(h.UID), Gid: int(h.GID), Size: size}
	if h.IsSymlink() {
		out.Typeflag, out.Linkname = tar.TypeSymlink, h.Target
	}
	return out
}

func (w *layerWriter) content(name string, h ostree.FileHeader, size int64, content io.Reader) error {
	if err := w.header(fileHeader(name, h, size), h.Xattrs); err != nil {
		return err
	}
	if h.IsSymlink() {
		return nil
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{w.tw}, struct{ io.Reader }{content}, w.buf)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path.Base(name), err)
	}
	return nil
}

// show puts a file at its place. Empty files are no links: whoever writes to one in a
// derived image would change the object, and so all of them.
func (w *layerWriter) show(p, object string, h ostree.FileHeader, size int64) error {
	entry := fileHeader(p, h, 0)
	if h.IsRegular() && size == 0 {
		return w.header(entry, h.Xattrs)
	}
	entry.Typeflag, entry.Linkname = tar.TypeLink, object
	return w.header(entry, nil)
}

func (w *layerWriter) close() error { return w.tw.Close() }

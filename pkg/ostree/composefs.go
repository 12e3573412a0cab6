// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/sys"
)

// Attributes by which the kernel's overlay finds a file's content, and by which a
// directory hides what is below it.
const (
	overlayXattrs  = "trusted.overlay."
	xattrMetacopy  = overlayXattrs + "metacopy"
	xattrRedirect  = overlayXattrs + "redirect"
	xattrOpaque    = overlayXattrs + "opaque"
	escapedOverlay = overlayXattrs + "overlay."
)

// ComposefsOptions say what WriteComposefs writes.
type ComposefsOptions struct {
	// NoVerity leaves the digests of the files out: the image can then be used over
	// files that have no fs-verity, and protects their names and metadata only.
	NoVerity bool
	// OnDisk puts in the digests of those files only that have fs-verity here, for an
	// image that is used over this repository, which must be bare.
	OnDisk bool
	// Enable turns fs-verity on for the files of the commit in this repository, which
	// must be bare; an error for which sys.IsNotSupported holds tells that it can't be.
	Enable bool
}

// WriteComposefs writes the composefs image of a commit to w: an EROFS filesystem of
// names and metadata, whose files point to XX/REST.file below the objects directory
// of a bare repository, to be mounted with that directory as the data layer of an
// overlay. Missing directories usr, etc, boot, var and sysroot are added at its top.
// It returns the fs-verity digest of the image, which commits record as
// ostree.composefs.digest.v0. The form is that of libcomposefs for libostree: docs/formats
// has the page. The content of every file is read unless NoVerity is set.
func (r *Repo) WriteComposefs(ctx context.Context, commit Checksum, w io.Writer, o ComposefsOptions) (Checksum, error) {
	var digest Checksum
	obj, err := r.LoadCommit(commit)
	if err == nil {
		c := &composefs{r: r, src: r, o: o, verity: map[Checksum]Checksum{}}
		digest, err = c.write(ctx, obj.RootTree, obj.RootMeta, w)
	}
	if err != nil {
		return digest, fmt.Errorf("write composefs image of %s: %w", commit, err)
	}
	return digest, nil
}

type composefs struct {
	r      *Repo
	src    treeSource
	o      ComposefsOptions
	verity map[Checksum]Checksum // digests of files met already
}

func (c *composefs) write(ctx context.Context, tree, meta Checksum, w io.Writer) (Checksum, error) {
	root, err := c.tree(ctx, Node{Path: "/", IsDir: true, Tree: tree, Meta: meta})
	if err != nil {
		return Checksum{}, err
	}
	for _, name := range []string{"usr", "etc", "boot", "var", "sysroot"} {
		if have, _ := root.child(name); have == nil {
			root.add(&erofsNode{name: name, mode: syscall.S_IFDIR | 0o755})
		}
	}
	v := newVerity()
	return writeImage(root, io.MultiWriter(w, v), v)
}

// writeImage prepares a tree for an overlay and writes it.
func writeImage(root *erofsNode, w io.Writer, v *verityHash) (Checksum, error) {
	root.prepare(root)
	root.setXattr(xattrOpaque, "y")
	root.hideObjects()
	var m erofsImage
	if err := m.layout(root); err != nil {
		return Checksum{}, err
	}
	if err := m.write(w); err != nil {
		return Checksum{}, err
	}
	return v.sum(), nil
}

// tree builds the nodes of a tree.
func (c *composefs) tree(ctx context.Context, root Node) (*erofsNode, error) {
	dirs := map[string]*erofsNode{}
	left := maxTreeEntries
	err := walkTree(ctx, c.src, root, 0, &left, func(n Node) error {
		node, err := c.node(n)
		if err != nil {
			return fmt.Errorf("%s: %w", clip(n.Path), err)
		}
		if n.IsDir {
			dirs[n.Path] = node
		}
		if n.Path != "/" {
			dirs[path.Dir(n.Path)].add(node)
		}
		return nil
	})
	return dirs["/"], err
}

func (c *composefs) node(n Node) (*erofsNode, error) {
	if len(path.Base(n.Path)) > maxImageName {
		return nil, fmt.Errorf("%w: name too long for an image", ErrInvalid)
	}
	if n.IsDir {
		m, err := loadParsed(c.src.LoadRaw, ObjectName{n.Meta, TypeDirMeta}, ParseDirMeta)
		return newErofsNode(n, FileHeader{UID: m.UID, GID: m.GID, Mode: m.Mode, Xattrs: m.Xattrs}), err
	}
	h, size, rc, err := c.src.OpenFile(n.File)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	node := newErofsNode(n, h)
	node.target = h.Target
	if size == 0 {
		return node, nil
	}
	node.size = uint64(size)
	node.setXattr(xattrRedirect, "/"+ObjectName{n.File, TypeFile}.loosePath(ModeBare))
	sum, ok, err := c.fileDigest(n.File, rc)
	if err != nil {
		return nil, err
	}
	digest := ""
	if ok {
		// Version 0, the length of all, no flags, SHA-256.
		digest = "\x00\x24\x00\x01" + string(sum[:])
	}
	node.setXattr(xattrMetacopy, digest)
	return node, nil
}

// fileDigest gives the digest for a file, if it is to have one.
func (c *composefs) fileDigest(file Checksum, content io.Reader) (sum Checksum, ok bool, err error) {
	if !c.o.OnDisk && !c.o.Enable {
		if !c.o.NoVerity {
			sum, err = c.digest(file, content)
		}
		return sum, !c.o.NoVerity, err
	}
	f, ok := content.(*os.File)
	if !ok {
		return sum, false, fmt.Errorf("%w: fs-verity in a repository that is not bare", ErrUnsupported)
	}
	defer runtime.KeepAlive(f)
	if c.o.Enable {
		if err := sys.EnableVerity(int(f.Fd())); err != nil {
			return sum, false, fmt.Errorf("enable fs-verity: %w", err)
		}
	}
	sum, ok, err = sys.VerityDigest(int(f.Fd()))
	if sys.IsNotSupported(err) && !c.o.Enable {
		return sum, false, nil
	}
	return sum, ok, err
}

// digest computes the fs-verity digest of a file, once.
func (c *composefs) digest(file Checksum, content io.Reader) (Checksum, error) {
	if sum, ok := c.verity[file]; ok {
		return sum, nil
	}
	sum, err := c.hash(content)
	if err == nil {
		c.verity[file] = sum
	}
	return sum, err
}

func (c *composefs) hash(content io.Reader) (Checksum, error) {
	buf := c.r.pools.buffer()
	defer c.r.pools.buffers.Put(buf)
	v := newVerity()
	if _, err := io.CopyBuffer(v, struct{ io.Reader }{content}, (*buf)[:bufSize]); err != nil {
		return Checksum{}, err
	}
	return v.sum(), nil
}

func newErofsNode(n Node, h FileHeader) *erofsNode {
	node := &erofsNode{name: path.Base(n.Path), mode: h.Mode, uid: h.UID, gid: h.GID}
	for _, x := range h.Xattrs {
		// What the tree has of the overlay's attributes must not work on it.
		if rest, ok := strings.CutPrefix(x.Name, overlayXattrs); ok {
			x.Name = escapedOverlay + rest
		}
		node.setXattr(x.Name, string(x.Value))
	}
	return node
}

// prepare adds the entries of every directory for itself and its parent.
func (n *erofsNode) prepare(parent *erofsNode) {
	if n.typ() != syscall.S_IFDIR {
		return
	}
	for _, c := range n.children {
		c.prepare(n)
	}
	n.add(&erofsNode{name: ".", link: n})
	n.add(&erofsNode{name: "..", link: parent})
}

// hideObjects covers the directories of the data layer, which would otherwise be
// seen at the top: whiteouts with the names 00 to ff.
func (n *erofsNode) hideObjects() {
	for i := range 256 {
		name := fmt.Sprintf("%02x", i)
		if have, _ := n.child(name); have != nil {
			continue
		}
		hole := &erofsNode{name: name, mode: syscall.S_IFCHR | 0o644, uid: n.uid, gid: n.gid}
		for _, x := range n.xattrs {
			if x.Name == selinuxXattr {
				hole.xattrs = append(hole.xattrs, x)
			}
		}
		n.add(hole)
	}
}

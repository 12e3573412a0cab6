// SPDX-License-Identifier: Apache-2.0

package container

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func newRepo(t testing.TB, mode ostree.Mode) *ostree.Repo {
	t.Helper()
	r, err := ostree.Create(testutil.OpenDir(t, t.TempDir()), mode, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// node is a file of a test tree, or a directory where data starts with "dir".
type node struct {
	path, data string // "-> TARGET" for a link
	mode       uint32
	uid, gid   uint32
	xattrs     []ostree.Xattr
}

var sampleTree = []node{
	{path: "usr", data: "dir", mode: 0o755},
	{path: "usr/bin", data: "dir", mode: 0o755},
	{path: "usr/bin/tool", data: strings.Repeat("tool ", 9000), mode: 0o4755},
	{path: "usr/bin/link", data: "-> ..//bin/tool", mode: 0o777},
	{path: "usr/bin/ping", data: "ping", mode: 0o755, xattrs: []ostree.Xattr{{Name: "security.capability", Value: []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")}, {Name: "security.selinux", Value: []byte("label\x00")}, {Name: "user.a=b", Value: []byte("c")}}},
	{path: "usr/etc", data: "dir", mode: 0o755},
	{path: "usr/etc/empty", mode: 0o600, uid: 7, gid: 3000000},
	{path: "usr/etc/conf", data: "conf", mode: 0o640, gid: 5},
	{path: "usr/lib", data: "dir", mode: 0o755},
	{path: "usr/lib/" + strings.Repeat("long", 30), data: "long", mode: 0o644},
	{path: "usr/lib/.wh.odd", data: "odd", mode: 0o644},
	{path: "usr/lib/.wh.dir", data: "dir", mode: 0o755},
	{path: "usr/lib/.wh.dir/inside", data: "inside", mode: 0o644},
	{path: "usr/lib/same", data: "conf", mode: 0o640, gid: 5},
	{path: "usr/lib/modules", data: "dir", mode: 0o755},
	{path: "usr/lib/modules/6.1", data: "dir", mode: 0o755},
	{path: "usr/lib/modules/6.1/initramfs.img", data: "initramfs", mode: 0o600},
	{path: "usr/share", data: "dir", mode: 0o2775, gid: 9},
	{path: "usr/share/ümlaut", data: "u", mode: 0o644},
	{path: "sysroot", data: "dir", mode: 0o755},
	{path: "sysroot/inside", data: "hidden", mode: 0o644},
}

func (n node) header() ostree.FileHeader {
	h := ostree.FileHeader{UID: n.uid, GID: n.gid, Mode: n.mode | syscall.S_IFREG, Xattrs: n.xattrs}
	if target, ok := strings.CutPrefix(n.data, "-> "); ok {
		h.Mode, h.Target = n.mode|syscall.S_IFLNK, target
	}
	return h
}

// commitTree stores a tree with owners and attributes, without being root.
func commitTree(t testing.TB, r *ostree.Repo, nodes []node, version string) (sum ostree.Checksum) {
	t.Helper()
	_, err := r.Update(context.Background(), func(ctx context.Context, txn *ostree.Txn) error {
		top := ostree.NewMTree()
		if err := top.SetMeta(ostree.DirMeta{Mode: syscall.S_IFDIR | 0o755}); err != nil {
			return err
		}
		for _, n := range nodes {
			m := top
			parts := strings.Split(n.path, "/")
			for _, p := range parts[:len(parts)-1] {
				var err error
				if m, err = m.Dir(p, false); err != nil {
					return err
				}
			}
			name := parts[len(parts)-1]
			if n.data == "dir" {
				d, err := m.Dir(name, true)
				if err != nil {
					return err
				}
				if err := d.SetMeta(ostree.DirMeta{UID: n.uid, GID: n.gid, Mode: n.mode | syscall.S_IFDIR}); err != nil {
					return err
				}
				continue
			}
			data := n.data
			h := n.header()
			if h.IsSymlink() {
				data = ""
			}
			c, err := txn.WriteContent(ctx, h, int64(len(data)), strings.NewReader(data))
			if err != nil {
				return err
			}
			if err := m.SetFile(name, c); err != nil {
				return err
			}
		}
		c := ostree.Commit{Timestamp: 1700000000}
		c.Metadata.Set("version", gvariant.String(version))
		c.Metadata.Set("ostree.bootable", gvariant.Bool(true))
		c.Metadata.Set("ostree.linux", gvariant.String("6.1"))
		c.Metadata.Set("ostree.container-cmd", gvariant.Strings([]string{"/usr/bin/tool"}))
		var err error
		if c.RootTree, c.RootMeta, err = txn.WriteTree(ctx, top); err != nil {
			return err
		}
		if sum, err = txn.WriteCommit(ctx, c); err != nil {
			return err
		}
		var detached gvariant.Dict
		detached.Set("note", gvariant.String("beside"))
		if err := txn.SetCommitMeta(ctx, sum, detached); err != nil {
			return err
		}
		return txn.SetRef("test", sum)
	})
	testutil.Must(t, err)
	return sum
}

var sampleContents = Contents{
	Components: []Component{{Name: "tools", Packages: []string{"tool", "ping"}}, {Name: "lib", Packages: []string{"lib"}, Often: true}},
	Owner: map[string]int{"/usr/bin/tool": 0, "/usr/bin/ping": 0, "/usr/bin/link": 0, "/usr/etc/conf": 0, "/usr/lib/same": 1,
		"/usr/lib/" + strings.Repeat("long", 30): 1, "/usr/lib/modules/6.1/initramfs.img": 1},
}

func mustEncapsulate(t testing.TB, r *ostree.Repo, c ostree.Checksum, o EncapsulateOptions) (*Encapsulated, *fsx.Dir) {
	t.Helper()
	d := testutil.OpenDir(t, t.TempDir())
	res, err := Encapsulate(context.Background(), r, c, d, o)
	testutil.Must(t, err)
	return res, d
}

func mustOpen(t testing.TB, d *fsx.Dir, tag string) *Image {
	t.Helper()
	img, err := Open(d, tag)
	testutil.Must(t, err)
	return img
}

// entries lists the names of a layer with their types.
func entries(t testing.TB, img *Image, i int) map[string]*tar.Header {
	t.Helper()
	l, err := img.openLayer(context.Background(), i, DefaultMaxBytes)
	testutil.Must(t, err)
	defer l.close()
	out := map[string]*tar.Header{}
	for tr := tar.NewReader(l); ; {
		h, err := tr.Next()
		if err == io.EOF {
			testutil.Must(t, l.finish())
			return out
		}
		testutil.Must(t, err)
		if out[h.Name] != nil {
			t.Errorf("%q is twice in layer %d", h.Name, i)
		}
		out[h.Name] = h
	}
}

// member is an entry of a layer that a test makes.
type member struct {
	tar.Header
	data string
}

// packLayer gives a plain tar stream.
func packLayer(t testing.TB, list []member) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, m := range list {
		h := m.Header
		h.Size = int64(len(m.data))
		testutil.Must(t, tw.WriteHeader(&h))
		if _, err := io.WriteString(tw, m.data); err != nil {
			t.Fatal(err)
		}
	}
	testutil.Must(t, tw.Close())
	return b.Bytes()
}

// unpackLayer gives the entries of a layer of a real image, to be changed.
func unpackLayer(t testing.TB, img *Image, i int) (out []member) {
	t.Helper()
	l, err := img.openLayer(context.Background(), i, DefaultMaxBytes)
	testutil.Must(t, err)
	defer l.close()
	for tr := tar.NewReader(l); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		testutil.Must(t, err)
		data, err := io.ReadAll(tr)
		testutil.Must(t, err)
		out = append(out, member{*h, string(data)})
	}
}

// fake writes an image of plain layers with the right digests.
func fake(t testing.TB, labels map[string]string, layers ...[]byte) (*fsx.Dir, *Manifest) {
	t.Helper()
	dir := t.TempDir()
	testutil.Must(t, os.MkdirAll(filepath.Join(dir, blobDir), 0o755))
	write := func(typ string, data []byte) Descriptor {
		d := Descriptor{MediaType: typ, Digest: digestBytes(data), Size: int64(len(data))}
		testutil.Must(t, os.WriteFile(filepath.Join(dir, blobName(d.Digest)), data, 0o644))
		return d
	}
	marshal := func(v any) []byte {
		data, err := json.Marshal(v)
		testutil.Must(t, err)
		return data
	}
	m := &Manifest{SchemaVersion: 2, MediaType: typeManifest}
	c := Config{Architecture: "amd64", OS: "linux", Config: RunConfig{Labels: labels}}
	c.RootFS.Type = "layers"
	for _, data := range layers {
		m.Layers = append(m.Layers, write(typeLayer, data))
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digestBytes(data))
	}
	m.Config = write(typeConfig, marshal(c))
	index := marshal(map[string]any{"schemaVersion": 2, "manifests": []Descriptor{write(typeManifest, marshal(m))}})
	testutil.Must(t, os.WriteFile(filepath.Join(dir, indexFile), index, 0o644))
	testutil.Must(t, os.WriteFile(filepath.Join(dir, layoutFile), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	return testutil.OpenDir(t, dir), m
}

func sumPath(data, typ string) string {
	s := fmt.Sprintf("%x", sha256.Sum256([]byte(data)))
	return objectPrefix + s[:2] + "/" + s[2:] + "." + typ
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// The vectors were decoded from what ostree 2022.7 wrote for a tree with /d/x,
// /empty, /hello and /link, owner 0:0, commit time 1700000000.
const (
	vecHello     = "44f778e59f0a4748d6b0c90a47347212a231c4ad1e8f7ea5c5dffc7749153a6b"
	vecEmpty     = "7245d84b7f2d4620c8a0c50b8d3ff98129fd7718f912b163ace544a252e55bee"
	vecLink      = "73baaba0102e9154b8522687d33eedb8ed1bc78eadb82428b2616144ec502934"
	vecX         = "0dc0b8ef304f590da41227cf8b670d2a5eacf9f142aadd2cf966af4b019f5fc2"
	vecXattr     = "d1ace085fd642507695e4713cfac4ad16f9b296eb147e21251d7a2980bbe5de4"
	vecMeta      = "446a0ef11b7cc167f3b603e585c7eeeeb675faa412d5ec73f62988eb0b6c5488"
	vecEmptyTree = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
	vecSubTree   = "902a1eae936c35b2d883c6ab67a6a587382bdd4a9f899b93f9bc8349139263d2"
	vecRootTree  = "82d678ee78f74ebb387582f29e1b5184f9a4e8f72839bc09010201e5d4b2125b"
	vecCommit    = "77eba0fe39852388295ff96e1d21de71bb7b71946c9dd94f99d7f10d6e9c2d4a"
)

func TestVectorHeaders(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, content, checksum string
		header                  FileHeader
		prefix, filezPrefix     string
	}{
		{name: "hello", content: "hello\n", checksum: vecHello, header: FileHeader{Mode: 0o100644},
			prefix:      "0000001200000000" + "0000000000000000000081a4000000000011",
			filezPrefix: "0000001a0000000000000000000000060000000000000000000081a4000000000019"},
		{name: "empty", checksum: vecEmpty, header: FileHeader{Mode: 0o100755},
			filezPrefix: "0000001a0000000000000000000000000000000000000000000081ed000000000019"},
		{name: "link", checksum: vecLink, header: FileHeader{Mode: 0o120777, Target: "hello"},
			prefix:      "0000001700000000" + "00000000000000000000a1ff0000000068656c6c6f0016",
			filezPrefix: "0000001f00000000000000000000000000000000000000000000a1ff0000000068656c6c6f001e"},
		{name: "x", content: "x", checksum: vecX, header: FileHeader{Mode: 0o100600}},
		{name: "xattrs", content: "hello\n", checksum: vecXattr,
			header: FileHeader{Mode: 0o100644, Xattrs: []Xattr{{"user.b", []byte("22")}, {"user.a", []byte("1")}}},
			prefix: "0000002700000000" + "0000000000000000000081a40000000000757365722e61003107757365722e6200323207091311"},
	}
	r := newTestRepo(t, ModeArchive)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			prefix, err := tt.header.checksumPrefix()
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(prefix); tt.prefix != "" && got != tt.prefix {
				t.Errorf("checksum header = %s, want %s", got, tt.prefix)
			}
			filez, err := tt.header.archivePrefix(int64(len(tt.content)))
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(filez); tt.filezPrefix != "" && got != tt.filezPrefix {
				t.Errorf("archive header = %s, want %s", got, tt.filezPrefix)
			}
			sum, err := r.hashContent(tt.header, int64(len(tt.content)), strings.NewReader(tt.content))
			if err != nil || sum.String() != tt.checksum {
				t.Errorf("checksum = %s, %v, want %s", sum, err, tt.checksum)
			}
		})
	}
}

// The .filez bytes that libostree wrote must unpack here.
func TestVectorFilez(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	for _, tt := range []struct{ filez, content, checksum string }{
		{"0000001a0000000000000000000000060000000000000000000081a4000000000019cb48cdc9c9e70200", "hello\n", vecHello},
		{"0000001a0000000000000000000000000000000000000000000081ed0000000000190300", "", vecEmpty},
		{"0000001f00000000000000000000000000000000000000000000a1ff0000000068656c6c6f001e", "", vecLink},
	} {
		raw, err := hex.DecodeString(tt.filez)
		if err != nil {
			t.Fatal(err)
		}
		h, size, rc, err := r.readArchived(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		if err != nil || string(data) != tt.content || size != int64(len(tt.content)) {
			t.Errorf("content = %q (size %d), %v, want %q", data, size, err, tt.content)
		}
		sum, err := r.hashContent(h, size, bytes.NewReader(data))
		if err != nil || sum.String() != tt.checksum {
			t.Errorf("checksum = %s, %v, want %s", sum, err, tt.checksum)
		}
	}
}

func TestVectorMetadata(t *testing.T) {
	t.Parallel()
	meta, err := DirMeta{Mode: 0o40755}.Marshal()
	if err != nil || hex.EncodeToString(meta) != "0000000000000000000041ed" {
		t.Errorf("dirmeta = %x, %v", meta, err)
	}
	empty, err := DirTree{}.Marshal()
	if err != nil || !bytes.Equal(empty, []byte{0}) {
		t.Errorf("empty dirtree = %x, %v", empty, err)
	}
	x := mustSum(t, vecX)
	sub, err := DirTree{Files: []TreeFile{{"x", x}}}.Marshal()
	if want := "7800" + vecX + "022324"; err != nil || hex.EncodeToString(sub) != want {
		t.Errorf("dirtree = %x, %v, want %s", sub, err, want)
	}
}

// The whole tree and commit of the vectors, built from content.
func TestVectorCommit(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	var got Checksum
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) (err error) {
		got, err = vectorCommit(ctx, t, tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != vecCommit {
		t.Errorf("commit = %s, want %s", got, vecCommit)
	}
	raw, err := r.LoadRaw(ObjectName{got, TypeCommit})
	if want := "76657273696f6e00312e30000073080f7375626a00626f647900000000000000000000006553f100" + vecRootTree + vecMeta + "481a15101010"; err != nil ||
		hex.EncodeToString(raw) != want {
		t.Errorf("commit bytes = %x, %v, want %s", raw, err, want)
	}
}

func vectorCommit(ctx context.Context, t *testing.T, tx *Txn) (Checksum, error) {
	t.Helper()
	m := NewMTree()
	d, err := m.Dir("d", true)
	if err != nil {
		return Checksum{}, err
	}
	for _, dir := range []*MTree{m, d} {
		if err := dir.SetMeta(DirMeta{Mode: 0o40755}); err != nil {
			return Checksum{}, err
		}
	}
	for _, f := range []struct {
		dir           *MTree
		name, content string
		h             FileHeader
	}{
		{d, "x", "x", FileHeader{Mode: 0o100600}},
		{m, "empty", "", FileHeader{Mode: 0o100755}},
		{m, "hello", "hello\n", FileHeader{Mode: 0o100644}},
		{m, "link", "", FileHeader{Mode: 0o120777, Target: "hello"}},
	} {
		c, err := tx.WriteContent(ctx, f.h, int64(len(f.content)), strings.NewReader(f.content))
		if err != nil {
			return c, err
		}
		if err := f.dir.SetFile(f.name, c); err != nil {
			return c, err
		}
	}
	tree, meta, err := tx.WriteTree(ctx, m)
	if err != nil {
		return tree, err
	}
	if tree.String() != vecRootTree || meta.String() != vecMeta {
		t.Errorf("root = %s %s, want %s %s", tree, meta, vecRootTree, vecMeta)
	}
	for _, want := range []ObjectName{{mustSum(t, vecSubTree), TypeDirTree}, {mustSum(t, vecX), TypeFile}} {
		if ok, err := tx.Has(want); !ok || err != nil {
			t.Errorf("object %s is absent (%v)", want, err)
		}
	}
	var md gvariant.Dict
	md.Set("version", gvariant.String("1.0"))
	return tx.WriteCommit(ctx, Commit{Metadata: md, Subject: "subj", Body: "body", Timestamp: 1700000000, RootTree: tree, RootMeta: meta})
}

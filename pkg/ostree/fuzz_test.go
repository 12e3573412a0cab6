// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"encoding/hex"
	"io"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// What parses must re-encode to the same bytes: for content-addressed objects
// that is what correct means.
func roundTrip[T interface{ Marshal() ([]byte, error) }](f *testing.F, parse func([]byte) (T, error)) {
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		v, err := parse(data)
		if err != nil {
			return
		}
		again, err := v.Marshal()
		if err != nil {
			t.Fatalf("what was parsed does not marshal: %v", err)
		}
		if !bytes.Equal(data, again) {
			t.Fatalf("re-encoded differently:\n%x\n%x", data, again)
		}
	})
}

func addHex(f *testing.F, seeds ...string) {
	for _, s := range seeds {
		data, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

func FuzzDirMeta(f *testing.F) {
	addHex(f, "0000000000000000000041ed", "00000001000000020000437f757365722e61003107757365722e6200323207091311")
	roundTrip(f, ParseDirMeta)
}

func FuzzDirTree(f *testing.F) {
	addHex(f, "00", "7800"+vecX+"022324")
	t, err := (DirTree{Files: []TreeFile{{"a", sha(nil)}, {"b", sha(nil)}}, Dirs: []TreeDir{{"c", sha(nil), sha(nil)}}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(t)
	roundTrip(f, ParseDirTree)
}

func FuzzCommit(f *testing.F) {
	addHex(f, "76657273696f6e00312e30000073080f7375626a00626f647900000000000000000000006553f100"+vecRootTree+vecMeta+"481a15101010")
	var md gvariant.Dict
	md.Set("ostree.ref-binding", gvariant.Strings([]string{"a", "b"}))
	md.Set("ostree.bootable", gvariant.Bool(true))
	c, err := (Commit{Metadata: md, Parent: sha(nil), Subject: "s", Body: "b", Timestamp: 1, RootTree: sha(nil), RootMeta: sha(nil)}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c)
	roundTrip(f, ParseCommit)
}

func FuzzSummary(f *testing.F) {
	addHex(f, "00")
	ref := func(name string) gvariant.Value {
		var d gvariant.Dict
		d.Set("ostree.commit.timestamp", gvariant.Uint64BE(1))
		entry := gvariant.Tuple(gvariant.Uint64(7), gvariant.ByteSlice(make([]byte, 32)), d.Value())
		return gvariant.Tuple(gvariant.String(name), entry)
	}
	list := gvariant.Array(summaryRef, ref("a/b"), ref("c"))
	var md gvariant.Dict
	md.Set("ostree.summary.collection-map", gvariant.Array("{sa"+summaryRef+"}", gvariant.Entry(gvariant.String("org.example.A"), list)))
	v := gvariant.Tuple(list, md.Value())
	if err := v.Err(); err != nil {
		f.Fatal(err)
	}
	f.Add(v.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		s, err := ParseSummary(data)
		if err != nil {
			return
		}
		var refs []gvariant.Value
		for _, r := range s.Refs {
			entry := gvariant.Tuple(gvariant.Uint64(r.CommitSize), gvariant.ByteSlice(r.Commit[:]), r.Metadata.Value())
			refs = append(refs, gvariant.Tuple(gvariant.String(r.Name), entry))
		}
		again := gvariant.Tuple(gvariant.Array(summaryRef, refs...), s.Metadata.Value())
		if err := again.Err(); err != nil || !bytes.Equal(again.Bytes(), data) {
			t.Fatalf("re-encoded differently: %v\n%x\n%x", err, data, again.Bytes())
		}
	})
}

// FuzzArchived feeds .filez streams: never more than the declared size comes
// out, and the header re-encodes to the same bytes.
func FuzzArchived(f *testing.F) {
	addHex(f, "0000001a0000000000000000000000060000000000000000000081a4000000000019cb48cdc9c9e70200",
		"0000001f00000000000000000000000000000000000000000000a1ff0000000068656c6c6f001e")
	r := &Repo{mode: ModeArchive}
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		h, size, rc, err := r.readArchived(bytes.NewReader(data))
		if err != nil {
			return
		}
		prefix, err := h.archivePrefix(size)
		if err != nil || !bytes.HasPrefix(data, prefix) {
			t.Fatalf("header re-encodes as %x, %v", prefix, err)
		}
		n, err := io.Copy(io.Discard, io.LimitReader(rc, 1<<20))
		if n > size || err == nil && n < size && n < 1<<20 {
			t.Fatalf("%d bytes of %d, %v", n, size, err)
		}
		_ = rc.Close()
	})
}

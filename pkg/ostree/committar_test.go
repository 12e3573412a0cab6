// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func makeTar(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, strings.NewReader(strings.Repeat("x", int(h.Size)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeTarBytes(t *testing.T, r *Repo, data []byte, to TarOptions) (Checksum, error) {
	t.Helper()
	c, _, err := commitWith(t, r, "x", func(ctx context.Context, tx *Txn, m *MTree) error {
		return tx.WriteTar(ctx, bytes.NewReader(data), m, CommitOptions{}, to)
	})
	return c, err
}

var tarTop = tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}

// What a hostile archive can try ends in an error of its kind and changes no ref.
func TestHostileTar(t *testing.T) {
	t.Parallel()
	whole := makeTar(t, tarTop, tar.Header{Name: "a", Size: 5000})
	huge := makeTar(t, tarTop, tar.Header{Name: "a"})
	big := huge[512:1024]
	copy(big[124:], "\x80\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00")
	copy(big[148:], tarSum(big))
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}
	}
	hard := func(name, to string) tar.Header { return tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink} }
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"dots":           {makeTar(t, tarTop, tar.Header{Name: "a/../../b"}), ErrInvalid},
		"leading dots":   {makeTar(t, tarTop, tar.Header{Name: "../b"}), ErrInvalid},
		"dot":            {makeTar(t, tarTop, tar.Header{Name: "a/./b"}), ErrInvalid},
		"through a link": {makeTar(t, tarTop, link("a", "/etc"), tar.Header{Name: "a/passwd"}), nil},
		"through a file": {makeTar(t, tarTop, tar.Header{Name: "a"}, tar.Header{Name: "a/b"}), nil},
		"no parent":      {makeTar(t, tarTop, tar.Header{Name: "no/b"}), ErrNotFound},
		"no top":         {makeTar(t, tar.Header{Name: "b"}), ErrInvalid},
		"device":         {makeTar(t, tarTop, tar.Header{Name: "d", Typeflag: tar.TypeChar}), ErrUnsupported},
		"pipe":           {makeTar(t, tarTop, tar.Header{Name: "p", Typeflag: tar.TypeFifo}), ErrUnsupported},
		"hard outside":   {makeTar(t, tarTop, hard("a", "../../etc/passwd")), ErrInvalid},
		"hard nowhere":   {makeTar(t, tarTop, hard("a", "b")), ErrNotFound},
		"hard to itself": {makeTar(t, tarTop, hard("a", "a")), ErrNotFound},
		"hard to dir":    {makeTar(t, tarTop, tar.Header{Name: "d/", Typeflag: tar.TypeDir}, hard("a", "d")), ErrNotFound},
		"dir and file":   {makeTar(t, tarTop, tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "d"}), ErrExists},
		"file and dir":   {makeTar(t, tarTop, tar.Header{Name: "d"}, tar.Header{Name: "d/", Typeflag: tar.TypeDir}), ErrExists},
		"top a file":     {makeTar(t, tar.Header{Name: "./.", Typeflag: tar.TypeSymlink, Linkname: "x"}), ErrInvalid},
		"cut":            {whole[:3000], ErrCorrupt},
		"huge":           {huge, nil},
		"noise":          {bytes.Repeat([]byte{0xa5}, 2048), ErrCorrupt},
		"cut gzip":       {[]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), ErrCorrupt},
		"cpio dots":      {[]byte(cpioFile("../x", 0o100644, "")), ErrInvalid},
		"cpio cut":       {[]byte(cpioFile("x", 0o100644, "data")[:114]), ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTestRepo(t, ModeArchive)
			_, err := writeTarBytes(t, r, c.data, TarOptions{})
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("err = %v, want %v", err, c.want)
			}
			if refs, err := r.Refs(""); err != nil || len(refs) > 0 {
				t.Error(refs, err)
			}
		})
	}
}

// tarSum gives the checksum field of a header block.
func tarSum(block []byte) string {
	sum := 0
	for i, b := range block {
		if i >= 148 && i < 156 {
			b = ' '
		}
		sum += int(b)
	}
	return fmt.Sprintf("%06o\x00 ", sum)
}

func cpioFile(name string, mode int, content string) string {
	pad := func(s string) string { return s + strings.Repeat("\x00", (4-len(s)%4)%4) }
	h := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	return pad(h+name+"\x00") + pad(content)
}

func names(t *testing.T, r *Repo, c Checksum) (out []string) {
	t.Helper()
	err := r.Walk(t.Context(), c, func(n Node) error {
		out = append(out, n.Path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// Whiteouts remove what lower layers brought, wherever they stand among the entries.
func TestTarWhiteouts(t *testing.T) {
	t.Parallel()
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	file := func(name string) tar.Header { return tar.Header{Name: name} }
	lower := makeTar(t, tarTop, file("gone"), dir("d"), file("d/old"), dir("d/sub"), file("d/sub/old"), dir("e"), file("e/x"), file("stays"))
	upper := makeTar(t, tarTop, dir("d"), dir("d/sub"), file("d/sub/new"), file("d/.wh..wh..opq"), file(".wh.gone"), file(".wh.e"),
		file(".wh.absent"), file("none/.wh.x"))
	r := newTestRepo(t, ModeArchive)
	c, _, err := commitWith(t, r, "x", func(ctx context.Context, tx *Txn, m *MTree) error {
		for _, layer := range [][]byte{lower, upper} {
			if err := tx.WriteTar(ctx, bytes.NewReader(layer), m, CommitOptions{}, TarOptions{Whiteouts: true}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/", "/d", "/d/sub", "/d/sub/new", "/stays"}
	if got := names(t, r, c); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Attributes come in two forms; of a name in both the exact one counts.
func TestTarXattrs(t *testing.T) {
	t.Parallel()
	data := makeTar(t, tarTop, tar.Header{Name: "f", PAXRecords: map[string]string{
		"SCHILY.xattr.user.z": "plain", "LIBARCHIVE.xattr.user.%61": "AAH/", "SCHILY.xattr.user.both": "no", "LIBARCHIVE.xattr.user.both": "eWVz",
		"SCHILY.xattr.user.empty": "",
	}})
	r := newTestRepo(t, ModeArchive)
	c, err := writeTarBytes(t, r, data, TarOptions{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := r.LookupFollow(c, "/f")
	want := []Xattr{{"user.a", []byte{0, 1, 255}}, {"user.both", []byte("yes")}, {"user.z", []byte("plain")}}
	if err != nil || !equalXattrs(info.Xattrs, want) {
		t.Errorf("%v, %v", info.Xattrs, err)
	}
}

// FuzzTar: no archive makes the writer fall over, and what it takes is a sound tree.
func FuzzTar(f *testing.F) {
	f.Add(makeTar(f, tarTop, tar.Header{Name: "a", Size: 3}, tar.Header{Name: "b", Typeflag: tar.TypeLink, Linkname: "a"}))
	f.Add(makeTar(f, tarTop, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../x"}, tar.Header{Name: ".wh.l"}))
	f.Add([]byte(cpioFile(".", 0o40755, "") + cpioFile("f", 0o100644, "abc") + cpioFile(cpioTrailer, 0, "")))
	f.Add([]byte{})
	repo := fuzzRepo(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		stop := errors.New("stop")
		_, err := repo.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
			m := NewMTree()
			if err := tx.WriteTar(ctx, bytes.NewReader(data), m, CommitOptions{}, TarOptions{AutocreateParents: true, SkipUnsupported: true}); err != nil {
				return stop
			}
			if _, _, err := tx.WriteTree(ctx, m); err != nil {
				return err
			}
			return stop
		})
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
	})
}

func fuzzRepo(f *testing.F) *Repo {
	f.Helper()
	d := testutil.OpenDir(f, f.TempDir())
	r, err := Create(d, ModeArchive, Options{DisableFsync: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = r.Close() })
	return r
}

// FuzzSizes: an entry that parses has the same bytes again, unless a number was
// written longer than it need be or later versions added something.
func FuzzSizes(f *testing.F) {
	f.Add(ObjectSize{ObjectName{Checksum{1}, TypeFile}, 300, 1 << 40}.marshal())
	f.Add(append(make([]byte, 32), 1, 2))
	f.Add(append(make([]byte, 32), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		s, err := parseObjectSize(data)
		if err != nil {
			return
		}
		again, err := parseObjectSize(s.marshal())
		if err != nil || again != s || len(s.marshal()) > len(data)+1 {
			t.Errorf("%x: %+v, %+v, %v", data, s, again, err)
		}
		var c Commit
		c.Metadata.Set(keySizes, gvariant.ByteSlices([][]byte{data}))
		if list, err := c.Sizes(); err != nil || len(list) != 1 || list[0] != s {
			t.Errorf("%v, %v", list, err)
		}
	})
}

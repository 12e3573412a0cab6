// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// Digests of images that libcomposefs writes for these trees.
func TestImageVectors(t *testing.T) {
	t.Parallel()
	file := func(name string, mode uint32, size uint64) *erofsNode {
		n := &erofsNode{name: name, mode: syscall.S_IFREG | mode, size: size}
		if size > 0 {
			n.setXattr(xattrMetacopy, "")
		}
		return n
	}
	dir := func(mode uint32, children ...*erofsNode) *erofsNode {
		return &erofsNode{name: "/", mode: syscall.S_IFDIR | mode, children: children}
	}
	attr := func(n *erofsNode, kv ...string) *erofsNode {
		for i := 0; i < len(kv); i += 2 {
			n.setXattr(kv[i], kv[i+1])
		}
		return n
	}
	for want, root := range map[string]*erofsNode{
		"475838479da68b086445eca1f12dd30fc4513f3f88c66b40b58fd70f7495ea27": dir(0o755, file("bigfile", 0o777, 9000000000000000)),
		"5bdb37d78dcf03b4ab1adc9a2d5212d3d95213b41628939f5fe3769f93d927cc": dir(0o755, attr(file("bigfile", 0o777, 9001899274941000), "user.foo", "")),
		"99f02c3c63d0c4c14be6f63e87250adafc0e173a12354f50d9ba7cd320deeca7": attr(dir(0o555, file("a", 0o644, 0), file("b", 0o644, 0)), "trusted.foo1", "bar-1", "user.foo2", "bar-2"),
	} {
		h, v := sha256.New(), newVerity()
		if _, err := writeImage(root, io.MultiWriter(h, v), v); err != nil {
			t.Fatal(err)
		}
		if got := Checksum(h.Sum(nil)); got.String() != want {
			t.Errorf("image %s, want %s", got, want)
		}
	}
	if err := new(erofsImage).layout(dir(0o755, file("x", 0o644, 1<<62))); err == nil {
		t.Error("a file beyond what chunks can describe was accepted")
	}
}

// slowVerity computes the digest from the whole data, level by level.
func slowVerity(data []byte) Checksum {
	level := data
	root := make([]byte, sha256.Size)
	for len(data) > 0 {
		var sums []byte
		for block := range slices.Chunk(level, verityBlock) {
			sum := sha256.Sum256(append(slices.Clone(block), make([]byte, verityBlock-len(block))...))
			sums = append(sums, sum[:]...)
		}
		if level = sums; len(sums) == sha256.Size {
			root = sums
			break
		}
	}
	d := make([]byte, 256)
	copy(d, []byte{1, 1, 12})
	binary.LittleEndian.PutUint64(d[8:], uint64(len(data)))
	copy(d[16:], root)
	return sha256.Sum256(d)
}

func TestVerityDigest(t *testing.T) {
	t.Parallel()
	if got := newVerity().sum().String(); got != "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95" {
		t.Errorf("of no data: %s", got)
	}
	for _, size := range []int{1, 4095, 4096, 4097, 128 * 4096, 128*4096 + 1, 3*128*4096 - 7, 128*128*4096 + 1} {
		data := bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
		v := newVerity()
		for chunk := range slices.Chunk(data, 7001) {
			_, _ = v.Write(chunk)
		}
		if got, want := v.sum(), slowVerity(data); got != want {
			t.Errorf("%d bytes: %s, want %s", size, got, want)
		}
	}
}

// wideTree adds what strains an image: directories of many blocks, long links,
// owners of more than 16 bits, shared and single attributes.
func wideTree(t *testing.T) string {
	t.Helper()
	src := makeTree(t)
	d := testutil.OpenDir(t, src)
	if err := d.MkdirAll("usr/wide", 0o755); err != nil {
		t.Fatal(err)
	}
	wide := testutil.OpenDir(t, filepath.Join(src, "usr/wide"))
	for i := range 700 {
		name := fmt.Sprint(strings.Repeat(string(rune('a'+i%26)), 1+i%60), i)
		if i%5 == 0 {
			if err := wide.Symlink(strings.Repeat("t", 1+i*5), name); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := wide.WriteFile(name, []byte(name), 0o640); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := wide.SetXattr(name, "user.many", []byte("same")); err != nil {
				t.Fatal(err)
			}
		}
		if i%7 == 0 {
			if err := wide.Lchown(name, 70000+i, 3); err != nil {
				t.Fatal(err)
			}
		}
	}
	return src
}

var added = regexp.MustCompile(`^"(boot|etc|sysroot)" `)

// The kernel shows in a mounted image what a checkout has.
func TestComposefsMount(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := newTestRepo(t, ModeBare)
	c := commitDir(t, r, wideTree(t), "b", CommitOptions{})
	tmp := t.TempDir()
	if err := r.Checkout(t.Context(), c, testutil.OpenDir(t, tmp), "out", CheckoutOptions{}); err != nil {
		t.Fatal(err)
	}
	var img, again bytes.Buffer
	o := ComposefsOptions{NoVerity: true} // the filesystem of the test may have none
	digest, err := r.WriteComposefs(t.Context(), c, &img, o)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := r.WriteComposefs(t.Context(), c, &again, o); err != nil || second != digest || !bytes.Equal(img.Bytes(), again.Bytes()) {
		t.Errorf("written again: %s instead of %s, %v", second, digest, err)
	}
	if got := slowVerity(img.Bytes()); got != digest {
		t.Errorf("digest %s, the image has %s", digest, got)
	}
	image := filepath.Join(tmp, "image")
	if err := os.WriteFile(image, img.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	meta, top := filepath.Join(tmp, "meta"), filepath.Join(tmp, "top")
	mountOrSkip(t, meta, "-t", "erofs", "-o", "ro,loop", image)
	objects := filepath.Join(r.Dir().Path(), "objects")
	mountOrSkip(t, top, "-t", "overlay", "-o", "ro,metacopy=on,redirect_dir=on,lowerdir="+meta+"::"+objects, "overlay")
	want, got := plain(layout(t, filepath.Join(tmp, "out"))), plain(layout(t, top))
	got = slices.DeleteFunc(got, added.MatchString)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mounted image differs from the checkout (-checkout +image):\n%s", diff)
	}
}

func mountOrSkip(t *testing.T, at string, args ...string) {
	t.Helper()
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", append(args, at)...).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount: %v\n%s", err, out)
		}
		t.Skipf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
}

// The digests are those of every mode, and of the content of the files.
func TestComposefsDigest(t *testing.T) {
	t.Parallel()
	files := map[string]string{"usr/bin/x": "content", "usr/empty": "", "usr/big": strings.Repeat("big ", 300000)}
	var digests []Checksum
	for _, mode := range []Mode{ModeBareUser, ModeArchive} {
		r := newTestRepo(t, mode)
		c := commitFiles(t, r, "b", Checksum{}, files)
		for _, o := range []ComposefsOptions{{}, {NoVerity: true}} {
			var img bytes.Buffer
			digest, err := r.WriteComposefs(context.Background(), c, &img, o)
			if err != nil {
				t.Fatal(err)
			}
			sum := slowVerity([]byte(files["usr/big"]))
			if found := bytes.Contains(img.Bytes(), sum[:]); found == o.NoVerity {
				t.Errorf("%s %+v: digest of a file in the image: %v", mode, o, found)
			}
			digests = append(digests, digest)
		}
	}
	if digests[0] != digests[2] || digests[1] != digests[3] || digests[0] == digests[1] {
		t.Errorf("digests %v", digests)
	}
}

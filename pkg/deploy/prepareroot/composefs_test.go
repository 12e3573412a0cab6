// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// commitBytes is a commit object with some metadata.
func commitBytes(t *testing.T, parent []byte, metadata gvariant.Dict) []byte {
	t.Helper()
	none := gvariant.ByteSlice(make([]byte, 32))
	v := gvariant.Tuple(metadata.Value(), gvariant.ByteSlice(parent), gvariant.Array("(say)"), gvariant.String(""), gvariant.String(""),
		gvariant.Uint64(0), none, none)
	if err := v.Err(); err != nil {
		t.Fatal(err)
	}
	return v.Bytes()
}

// signedRepo is a physical root with commits, and the state that leads to one.
type signedRepo struct {
	*testing.T
	root string
	key  ed25519.PrivateKey
}

func newSignedRepo(t *testing.T) signedRepo {
	_, key, err := ed25519.GenerateKey(nil)
	testutil.Must(t, err)
	return signedRepo{t, t.TempDir(), key}
}

func (r signedRepo) write(commit []byte, signatures ...[]byte) string {
	sum := sha256.Sum256(commit)
	name := hex.EncodeToString(sum[:])
	base := filepath.Join(r.root, "ostree/repo/objects", name[:2], name[2:])
	testutil.Must(r.T, os.MkdirAll(filepath.Dir(base), 0o755))
	testutil.Must(r.T, os.WriteFile(base+".commit", commit, 0o644))
	if signatures != nil {
		var d gvariant.Dict
		d.Set(signatureKey, gvariant.ByteSlices(signatures))
		data, err := d.Marshal()
		testutil.Must(r.T, err)
		testutil.Must(r.T, os.WriteFile(base+".commitmeta", data, 0o644))
	}
	return name
}

func (r signedRepo) digest(commit string, keys ...[]byte) (string, error) {
	r.Helper()
	file := filepath.Join(r.T.TempDir(), "keys")
	var text strings.Builder
	for _, k := range keys {
		text.WriteString(base64.StdEncoding.EncodeToString(k) + "\n\n")
	}
	testutil.Must(r.T, os.WriteFile(file, []byte(text.String()), 0o644))
	s := State{Places: Places{Root: r.root}, Deployment: Deployment{OS: "os", Checksum: commit}}
	s.Config.Composefs = Composefs{Use: Yes, Verity: true, Signed: true, KeyPath: file}
	return s.signedDigest()
}

func TestSignedDigest(t *testing.T) {
	t.Parallel()
	r := newSignedRepo(t)
	_, foreign, err := ed25519.GenerateKey(nil)
	testutil.Must(t, err)
	public := func(k ed25519.PrivateKey) []byte { return k.Public().(ed25519.PublicKey) }
	var meta gvariant.Dict
	want := strings.Repeat("5a", 32)
	raw, err := hex.DecodeString(want)
	testutil.Must(t, err)
	meta.Set(DigestKey, gvariant.ByteSlice(raw))
	commit := commitBytes(t, nil, meta)
	signature := ed25519.Sign(r.key, commit)
	name := r.write(commit, ed25519.Sign(foreign, commit), signature)
	if got, err := r.digest(name, public(foreign)[:8], public(r.key)); err == nil {
		t.Errorf("a short key was taken: %s", got)
	}
	if got, err := r.digest(name, public(r.key)); err != nil || got != want {
		t.Errorf("signed: %s, %v", got, err)
	}
	if _, err := r.digest(name); !errors.Is(err, ErrNotSigned) {
		t.Errorf("no keys: %v", err)
	}
	// What a container image was made to has the signed commit as its parent.
	sum, err := hex.DecodeString(name)
	testutil.Must(t, err)
	var image gvariant.Dict
	image.Set(imageKey, gvariant.String("{}"))
	if got, err := r.digest(r.write(commitBytes(t, sum, image)), public(r.key)); err != nil || got != want {
		t.Errorf("image: %s, %v", got, err)
	}
	refused := map[string]string{
		"child of a signed commit": r.write(commitBytes(t, sum, gvariant.Dict{})),
		"signed by another key":    r.write(append(commit[:len(commit):len(commit)], commitBytes(t, nil, image)...), ed25519.Sign(foreign, commit)),
		"no signatures":            r.write(commitBytes(t, make([]byte, 32), meta), [][]byte{}...),
		"missing":                  strings.Repeat("00", 32),
	}
	bare := commitBytes(t, nil, gvariant.Dict{})
	refused["no digest"] = r.write(bare, ed25519.Sign(r.key, bare))
	for what, name := range refused {
		if got, err := r.digest(name, public(r.key)); !errors.Is(err, ErrNotSigned) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	// A commit under the name of another.
	path := filepath.Join(r.root, "ostree/repo/objects", name[:2], name[2:]+".commit")
	testutil.Must(t, os.WriteFile(path, bare, 0o644))
	if got, err := r.digest(name, public(r.key)); !errors.Is(err, ErrNotSigned) {
		t.Errorf("swapped: %q, %v", got, err)
	}
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	if keys, err := parseKeys([]byte("\n" + key + "\n " + key + "\r\n")); err != nil || len(keys) != 2 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for _, bad := range []string{"", "\n\n", "?", key + key, key[:20]} {
		if keys, err := parseKeys([]byte(bad)); err == nil {
			t.Errorf("%q: %d keys", bad, len(keys))
		}
	}
}

func TestReadComposefs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := State{Places: Places{Root: root}, Deployment: Deployment{OS: "os", Checksum: csum}}
	dir := filepath.Join(root, s.Deployment.Path())
	testutil.Must(t, os.MkdirAll(dir, 0o755))
	read := func(c Composefs) (bool, error) {
		s := s
		s.Config.Composefs = c
		err := s.readComposefs()
		return s.Composefs, err
	}
	if on, err := read(Composefs{Use: Maybe}); on || err != nil {
		t.Errorf("maybe, no image: %v, %v", on, err)
	}
	if _, err := read(Composefs{Use: Yes}); !errors.Is(err, ErrNoImage) {
		t.Errorf("yes, no image: %v", err)
	}
	testutil.Must(t, os.Symlink("/etc/passwd", filepath.Join(dir, ImageName)))
	if _, err := read(Composefs{Use: Yes}); !errors.Is(err, ErrNoImage) {
		t.Errorf("yes, a link: %v", err)
	}
	testutil.Root(t, "asking for filesystems needs root")
	testutil.Must(t, os.Remove(filepath.Join(dir, ImageName)))
	testutil.Must(t, os.WriteFile(filepath.Join(dir, ImageName), []byte("no image"), 0o644))
	for c, want := range map[Composefs]bool{{Use: Maybe}: true, {Use: Yes}: true, {Use: No, Verity: true}: false} {
		if on, err := read(c); on != want || err != nil {
			t.Errorf("%+v: %v, %v", c, on, err)
		}
	}
	img := Image{Lower: t.TempDir(), Objects: t.TempDir()}
	if err := img.mount(filepath.Join(dir, ImageName), t.TempDir()); !errors.Is(err, ErrBadImage) {
		t.Errorf("mount of what is no image: %v", err)
	}
	// Nobody vouches for this file: on a filesystem with fs-verity it is not enabled.
	img.Digest = csum
	if err := img.mount(filepath.Join(dir, ImageName), t.TempDir()); !errors.Is(err, ErrBadImage) && !errors.Is(err, ErrNotSupported) {
		t.Errorf("mount of what is not signed: %v", err)
	}
}

func FuzzCommit(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add(make([]byte, 64), []byte("ostree.sign.ed25519\x00\x00"))
	f.Fuzz(func(t *testing.T, commit, meta []byte) {
		if base := baseCommit(commit); base != "" && !isHex64(base) {
			t.Errorf("base commit %q", base)
		}
		if digest, err := signedBy([]ed25519.PublicKey{make([]byte, 32)}, commit, meta); err == nil && !isHex64(digest) {
			t.Errorf("digest %q", digest)
		}
	})
}

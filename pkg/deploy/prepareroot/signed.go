// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// ErrNotSigned reports a commit that no key of the initramfs has signed, or one that
// does not say what its image is.
var ErrNotSigned = errors.New("deployment is not signed")

// DigestKey is where the metadata of a commit has the digest of its image, from libostree.
const DigestKey = "ostree.composefs.digest.v0"

// Other names in commits, from libostree, and the type of a commit object.
const (
	signatureKey = "ostree.sign.ed25519"
	imageKey     = "ostree.container.image-config"
	commitType   = "(a{sv}aya(say)sstayay)"
)

// signedDigest gives the digest that the deployment's image must have: what its commit
// records, once a key has vouched for that commit. What a container image was made to
// is not signed; there, the parent may be.
func (s *State) signedDigest() (string, error) {
	name := s.Config.Composefs.Keys()
	data, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read keys: %w", err)
	}
	keys, err := parseKeys(data)
	if err != nil {
		return "", fmt.Errorf("read keys of %s: %w", name, err)
	}
	commit, meta, err := s.readCommit(s.Deployment.Checksum)
	if err != nil {
		return "", err
	}
	if meta == nil {
		if base := baseCommit(commit); base != "" {
			if commit, meta, err = s.readCommit(base); err != nil {
				return "", err
			}
		}
	}
	digest, err := signedBy(keys, commit, meta)
	if err != nil {
		return "", fmt.Errorf("commit %s: %w", s.Deployment.Checksum, err)
	}
	return digest, nil
}

// readCommit reads a commit object and its detached metadata, which is nil where
// there is none.
func (s *State) readCommit(checksum string) (commit, meta []byte, err error) {
	base := s.Places.Root + "/ostree/repo/objects/" + checksum[:2] + "/" + checksum[2:]
	if commit, err = readSmall(base+".commit", maxCommit); err != nil {
		return nil, nil, err
	}
	if sum := sha256.Sum256(commit); hex.EncodeToString(sum[:]) != checksum {
		return nil, nil, fmt.Errorf("commit %s is missing or damaged: %w", checksum, ErrNotSigned)
	}
	if _, err := os.Lstat(base + ".commitmeta"); errors.Is(err, fs.ErrNotExist) {
		return commit, nil, nil
	}
	meta, err = readSmall(base+".commitmeta", maxCommit)
	if meta == nil {
		meta = []byte{}
	}
	return commit, meta, err
}

// parseKeys reads ed25519 keys in base64, one a line. Package sign can do that, too, but
// has more kinds of keys than an initramfs should carry.
func parseKeys(data []byte) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for n, line := range bytes.Split(data, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		if len(raw) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("line %d: %d bytes are no ed25519 key", n+1, len(raw))
		}
		keys = append(keys, raw)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no key: %w", ErrNotSigned)
	}
	return keys, nil
}

// baseCommit gives the parent of a commit that was made of a container image.
func baseCommit(commit []byte) string {
	v, err := gvariant.Parse(commitType, commit)
	if err != nil {
		return ""
	}
	d, _ := v.Children()[0].Dict()
	parent, _ := v.Children()[1].ByteSlice()
	if _, ok := d.Str(imageKey); !ok || len(parent) != sha256.Size {
		return ""
	}
	return hex.EncodeToString(parent)
}

// signedBy gives the digest in a commit if one of the signatures in meta is by a key.
func signedBy(keys []ed25519.PublicKey, commit, meta []byte) (string, error) {
	d, err := gvariant.ParseDict(meta)
	if err != nil {
		return "", fmt.Errorf("%w: read signatures: %w", ErrNotSigned, err)
	}
	list, _ := d.ByteSlices(signatureKey)
	if len(list) == 0 {
		return "", fmt.Errorf("%w: no ed25519 signature", ErrNotSigned)
	}
	if !anyValid(keys, commit, list) {
		return "", fmt.Errorf("%w: none of %d signatures is by one of %d keys", ErrNotSigned, len(list), len(keys))
	}
	v, err := gvariant.Parse(commitType, commit)
	if err != nil {
		return "", fmt.Errorf("%w: read commit: %w", ErrNotSigned, err)
	}
	d, _ = v.Children()[0].Dict()
	digest, _ := d.ByteSlice(DigestKey)
	if len(digest) != sha256.Size {
		return "", fmt.Errorf("%w: it has no %s", ErrNotSigned, DigestKey)
	}
	return hex.EncodeToString(digest), nil
}

func anyValid(keys []ed25519.PublicKey, data []byte, signatures [][]byte) bool {
	for _, k := range keys {
		for _, s := range signatures {
			if ed25519.Verify(k, data, s) {
				return true
			}
		}
	}
	return false
}

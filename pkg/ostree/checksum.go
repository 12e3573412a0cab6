// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// Conditions that callers test for with errors.Is.
var (
	// ErrNotFound: a ref, object, path or prefix is absent.
	ErrNotFound = errors.New("not found")
	// ErrCorrupt: stored or received bytes do not match their checksum or format.
	ErrCorrupt = errors.New("corrupt object")
	// ErrInvalid: a name, ref, mode or object violates the format.
	ErrInvalid = errors.New("invalid")
	// ErrNoSpace: writing would leave less than the configured free space.
	ErrNoSpace = errors.New("not enough free space")
	// ErrExists: a checkout met a file that it may not replace.
	ErrExists = errors.New("already exists")
	// ErrUnsupported: the repository or the operation is of a kind not handled.
	ErrUnsupported = errors.New("not supported")
)

// Checksum is the SHA-256 that names an object.
type Checksum [sha256.Size]byte

// ParseChecksum reads 64 lower-case hexadecimal digits.
func ParseChecksum(s string) (Checksum, error) {
	var c Checksum
	if len(s) != 2*len(c) || !isLowerHex(s) {
		return c, fmt.Errorf("%w: checksum %q", ErrInvalid, clip(s))
	}
	_, err := hex.Decode(c[:], []byte(s))
	return c, err
}

// ChecksumFromBytes takes the 32 raw bytes of a checksum.
func ChecksumFromBytes(b []byte) (Checksum, error) {
	var c Checksum
	if len(b) != len(c) {
		return c, fmt.Errorf("%w: checksum of %d bytes", ErrInvalid, len(b))
	}
	copy(c[:], b)
	return c, nil
}

// String gives 64 lower-case hexadecimal digits.
func (c Checksum) String() string { return hex.EncodeToString(c[:]) }

// IsZero reports the zero value, which stands for "no checksum".
func (c Checksum) IsZero() bool { return c == Checksum{} }

// Compare orders checksums by their bytes.
func (c Checksum) Compare(d Checksum) int { return bytes.Compare(c[:], d[:]) }

// MarshalText gives the hexadecimal form, for JSON.
func (c Checksum) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseChecksum.
func (c *Checksum) UnmarshalText(b []byte) (err error) {
	*c, err = ParseChecksum(string(b))
	return err
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// clip keeps hostile text in messages short.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// ObjectType is the kind of an object; the numbers are part of the format.
type ObjectType uint8

// The object types.
const (
	TypeFile       ObjectType = 1 // content: a regular file or symbolic link
	TypeDirTree    ObjectType = 2
	TypeDirMeta    ObjectType = 3
	TypeCommit     ObjectType = 4
	TypeTombstone  ObjectType = 5 // marks a deleted commit
	TypeCommitMeta ObjectType = 6 // detached metadata, named after its commit

	TypePayloadLink    ObjectType = 7 // symbolic link from the hash of bare content to a file object
	TypeFileXattrs     ObjectType = 8 // attributes, in bare-split-xattrs repositories
	TypeFileXattrsLink ObjectType = 9 // hard link to them, named after the file object
)

// String gives the extension of loose objects, without the z of archive mode.
func (t ObjectType) String() string {
	switch t {
	case TypeFile:
		return "file"
	case TypeDirTree:
		return "dirtree"
	case TypeDirMeta:
		return "dirmeta"
	case TypeCommit:
		return "commit"
	case TypeTombstone:
		return "tombstone-commit"
	case TypeCommitMeta:
		return "commitmeta"
	case TypePayloadLink:
		return "payload-link"
	case TypeFileXattrs:
		return "file-xattrs"
	case TypeFileXattrsLink:
		return "file-xattrs-link"
	}
	return fmt.Sprintf("type-%d", uint8(t))
}

// IsMeta reports a metadata type, whose object is the hashed bytes themselves.
func (t ObjectType) IsMeta() bool { return t >= TypeDirTree && t <= TypeCommitMeta }

// hashed reports the types whose name is the SHA-256 of their bytes.
func (t ObjectType) hashed() bool { return t >= TypeDirTree && t <= TypeCommit }

// verifiable reports the types whose objects match their name or are damaged.
func (t ObjectType) verifiable() bool { return t == TypeFile || t.hashed() }

// ObjectName names one object.
type ObjectName struct {
	Checksum Checksum
	Type     ObjectType
}

// String gives CHECKSUM.TYPE.
func (n ObjectName) String() string { return n.Checksum.String() + "." + n.Type.String() }

// loosePath gives the object's path below objects/.
func (n ObjectName) loosePath(m Mode) string {
	h := n.Checksum.String()
	p := h[:2] + "/" + h[2:] + "." + n.Type.String()
	if n.Type == TypeFile && m == ModeArchive {
		p += "z"
	}
	return p
}

// LoosePath gives the path of an object inside an archive repository, as served
// over HTTP: objects/ab/cdef….filez.
func LoosePath(n ObjectName) string { return "objects/" + n.loosePath(ModeArchive) }

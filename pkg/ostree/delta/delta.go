// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// Conditions that callers test for with errors.Is.
var (
	// ErrCorrupt: a superblock, part or patch violates the format, or bytes do not
	// match their checksum. It is ostree.ErrCorrupt.
	ErrCorrupt = ostree.ErrCorrupt
	// ErrNoSource: the commit that the delta starts from is not in the repository.
	ErrNoSource = errors.New("delta source is not in the repository")
	// ErrFallback: the delta leaves objects to be fetched one by one, which cannot
	// be done offline.
	ErrFallback = errors.New("delta has fallback objects")
	// ErrUnsigned: a signature was asked for and the delta carries none.
	ErrUnsigned = errors.New("delta is not signed")
)

const (
	superblockType = "(a{sv}tayay(a{sv}aya(say)sstayay)aya(uayttay)a(yaytt))"
	signedType     = "(taya{sv})"
	inlineType     = "(yay)"
	signedMagic    = "OSTSGNDT"
	endiannessKey  = "ostree.endianness"
	recordSize     = 1 + sha256.Size // of an object in the list of a part
	partVersion    = 0
)

// MaxSuperblockSize bounds a superblock in bytes, inline parts included.
const MaxSuperblockSize = gvariant.MaxSize

// Endianness is the byte order of the numbers in a superblock.
type Endianness byte

// The byte orders; the values are those of the metadata key ostree.endianness.
const (
	// Undeclared numbers are read as little-endian.
	Undeclared   Endianness = 0
	LittleEndian Endianness = 'l'
	BigEndian    Endianness = 'B'
)

// String gives the word that libostree prints.
func (e Endianness) String() string {
	switch e {
	case LittleEndian:
		return "little"
	case BigEndian:
		return "big"
	}
	return "invalid"
}

// Part describes one part file.
type Part struct {
	Checksum ostree.Checksum // SHA-256 of the file, its compression byte included
	Size     uint64          // of the file in bytes
	// UncompressedSize is the sum of the sizes of the objects that the part makes.
	UncompressedSize uint64

	version uint32
	objects []byte // records of a type byte and a checksum
	inline  []byte // the part file itself, nil if it is stored beside
}

// NumObjects counts the objects that the part makes.
func (p *Part) NumObjects() int { return len(p.objects) / recordSize }

// Object names object i, in the order in which the part makes them.
func (p *Part) Object(i int) ostree.ObjectName {
	rec := p.objects[i*recordSize : (i+1)*recordSize]
	return ostree.ObjectName{Type: ostree.ObjectType(rec[0]), Checksum: ostree.Checksum(rec[1:])}
}

// Inline gives the part file where it is inside the superblock.
func (p *Part) Inline() ([]byte, bool) { return p.inline, p.inline != nil }

// Fallback is an object that the delta leaves to be fetched as a loose object.
type Fallback struct {
	Object           ostree.ObjectName
	Size             uint64 // as stored in the generating repository, in bytes
	UncompressedSize uint64
}

// Delta is a parsed superblock. It shares memory with the bytes it was read from.
type Delta struct {
	Name      ostree.DeltaName
	Timestamp uint64        // of its generation, seconds since 1970 UTC
	Metadata  gvariant.Dict // all keys, inline parts and detached metadata included
	Commit    []byte        // the commit object, verified against Name.To
	Parents   int           // deltas to be applied before; no known writer sets any
	Parts     []Part
	Fallbacks []Fallback
	// Endianness is the declared byte order; with Heuristic it was guessed.
	Endianness Endianness
	Heuristic  bool
	// Signed tells that the superblock came inside a signed file. SignedData are the
	// bytes that Signatures cover: a dictionary from "ostree.sign.NAME" to aay. Parse
	// verifies no signature.
	Signed     bool
	SignedData []byte
	Signatures gvariant.Dict

	recursion []byte
}

// CommitMeta gives the detached metadata of the target commit, if the delta
// carries them.
func (d *Delta) CommitMeta() (gvariant.Dict, bool) {
	v, _ := d.Metadata.Get(d.Name.Path() + "/commitmeta")
	return v.Dict()
}

// PartName gives the name of a part's file in the delta's directory.
func PartName(i int) string { return strconv.Itoa(i) }

// PartPath gives the path of a part below the repository.
func (d *Delta) PartPath(i int) string { return d.Name.Path() + "/" + PartName(i) }

// Parse reads a superblock, signed or not. The Delta keeps views into data, which
// must not change. Errors wrap ErrCorrupt or ostree.ErrUnsupported.
func Parse(data []byte) (*Delta, error) {
	d, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("parse delta superblock: %w", err)
	}
	return d, nil
}

func parse(data []byte) (*Delta, error) {
	if len(data) > MaxSuperblockSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(data))
	}
	if !bytes.HasPrefix(data, []byte(signedMagic)) {
		return parsePlain(data)
	}
	v, err := gvariant.Parse(signedType, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	f := v.Children()
	inner, _ := f[1].ByteSlice()
	d, err := parsePlain(inner)
	if err != nil {
		return nil, err
	}
	d.Signed, d.SignedData = true, inner
	d.Signatures, _ = f[2].Dict()
	return d, nil
}

func parsePlain(data []byte) (*Delta, error) {
	v, err := gvariant.Parse(superblockType, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	f := v.Children()
	d := &Delta{Commit: f[4].Bytes()}
	d.Metadata, _ = f[0].Dict()
	d.Timestamp, _ = f[1].Uint64BE()
	if err := d.readNames(f); err != nil {
		return nil, err
	}
	d.recursion, _ = f[5].ByteSlice()
	if len(d.recursion)%(2*sha256.Size) != 0 {
		return nil, fmt.Errorf("%w: list of parents of %d bytes", ErrCorrupt, len(d.recursion))
	}
	d.Parents = len(d.recursion) / (2 * sha256.Size)
	if err := d.readEndianness(f[6], f[7]); err != nil {
		return nil, err
	}
	if err := d.readParts(f[6]); err != nil {
		return nil, err
	}
	return d, d.readFallbacks(f[7])
}

func (d *Delta) readNames(f []gvariant.Value) (err error) {
	if from, _ := f[2].ByteSlice(); len(from) > 0 {
		if d.Name.From, err = ostree.ChecksumFromBytes(from); err != nil {
			return fmt.Errorf("%w: from: %w", ErrCorrupt, err)
		}
		if d.Name.From.IsZero() {
			return fmt.Errorf("%w: from is all zero", ErrCorrupt)
		}
	}
	to, _ := f[3].ByteSlice()
	if d.Name.To, err = ostree.ChecksumFromBytes(to); err != nil {
		return fmt.Errorf("%w: to: %w", ErrCorrupt, err)
	}
	if sum := sha256.Sum256(d.Commit); sum != d.Name.To {
		return fmt.Errorf("%w: commit has checksum %s instead of %s", ErrCorrupt, ostree.Checksum(sum), d.Name.To)
	}
	return nil
}

// order gives the byte order in which numbers are read.
func (d *Delta) order() binary.ByteOrder {
	if d.Endianness == BigEndian {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

func (d *Delta) readEndianness(parts, fallbacks gvariant.Value) error {
	v, ok := d.Metadata.Get(endiannessKey)
	if b, isByte := v.Byte(); isByte {
		d.Endianness = Endianness(b)
		if d.Endianness != LittleEndian && d.Endianness != BigEndian {
			return fmt.Errorf("%w: endianness %q", ErrCorrupt, b)
		}
		return nil
	}
	if ok {
		return fmt.Errorf("%w: endianness of type %s", ErrCorrupt, v.Type())
	}
	d.Heuristic = true
	if looksBigEndian(parts, fallbacks) {
		d.Endianness = BigEndian
	}
	return nil
}

// looksBigEndian guesses: of the two readings of the sizes one is absurd, beyond
// any disk. libostree's rule is another one, which takes small deltas for swapped
// because compression made them larger.
func looksBigEndian(parts, fallbacks gvariant.Value) bool {
	var little, big uint64
	for _, p := range append(parts.Children(), fallbacks.Children()...) {
		f := p.Children()
		for _, size := range f[2:4] {
			l, _ := size.Uint64()
			b, _ := size.Uint64BE()
			little, big = max(little, l), max(big, b)
		}
	}
	return big < little
}

func (d *Delta) readParts(list gvariant.Value) error {
	order := d.order()
	for i, p := range list.Children() {
		f := p.Children()
		part := Part{
			version: order.Uint32(f[0].Bytes()), Size: order.Uint64(f[2].Bytes()), UncompressedSize: order.Uint64(f[3].Bytes()),
		}
		if part.version != partVersion {
			return fmt.Errorf("part %d: %w: version %d", i, ostree.ErrUnsupported, part.version)
		}
		sum, _ := f[1].ByteSlice()
		var err error
		if part.Checksum, err = ostree.ChecksumFromBytes(sum); err != nil {
			return fmt.Errorf("%w: part %d: %w", ErrCorrupt, i, err)
		}
		part.objects, _ = f[4].ByteSlice()
		if err := checkObjects(part.objects); err != nil {
			return fmt.Errorf("part %d: %w", i, err)
		}
		if v, ok := d.Metadata.Get(d.PartPath(i)); ok {
			if v.Type() != inlineType {
				return fmt.Errorf("%w: part %d: inline data of type %s", ErrCorrupt, i, v.Type())
			}
			part.inline = v.Bytes()
		}
		d.Parts = append(d.Parts, part)
	}
	return nil
}

func checkObjects(list []byte) error {
	if len(list)%recordSize != 0 {
		return fmt.Errorf("%w: object list of %d bytes", ErrCorrupt, len(list))
	}
	for i := 0; i < len(list); i += recordSize {
		if t := ostree.ObjectType(list[i]); t < ostree.TypeFile || t > ostree.TypeCommitMeta {
			return fmt.Errorf("%w: object type %d", ErrCorrupt, list[i])
		}
	}
	return nil
}

func (d *Delta) readFallbacks(list gvariant.Value) error {
	order := d.order()
	for i, e := range list.Children() {
		f := e.Children()
		typ, _ := f[0].Byte()
		sum, _ := f[1].ByteSlice()
		c, err := ostree.ChecksumFromBytes(sum)
		if err != nil {
			return fmt.Errorf("%w: fallback %d: %w", ErrCorrupt, i, err)
		}
		n := ostree.ObjectName{Checksum: c, Type: ostree.ObjectType(typ)}
		if n.Type < ostree.TypeFile || n.Type > ostree.TypeCommit {
			return fmt.Errorf("%w: fallback %d: object type %d", ErrCorrupt, i, typ)
		}
		d.Fallbacks = append(d.Fallbacks, Fallback{n, order.Uint64(f[2].Bytes()), order.Uint64(f[3].Bytes())})
	}
	return nil
}

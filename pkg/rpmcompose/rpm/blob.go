// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Merge gives the header as a blob without magic, with entries added behind its immutable region, so that
// digests and signatures stay valid. An added entry replaces one of the same tag that stands behind the
// region; a tag that the region holds must not be added.
func (h *Header) Merge(entries ...Entry) ([]byte, error) {
	il, dl := h.regionEntries, h.regionData
	added := map[Tag]Entry{}
	for _, e := range h.behindRegion() {
		added[e.Tag] = e
	}
	for _, e := range entries {
		if e.Count == 0 {
			return nil, fmt.Errorf("add tag %d: no values: %w", e.Tag, ErrFormat)
		}
		if h.inRegion(e.Tag) {
			return nil, fmt.Errorf("add tag %d: it stands in the immutable region: %w", e.Tag, ErrFormat)
		}
		added[e.Tag] = e
	}
	tags := make([]Tag, 0, len(added))
	for t := range added {
		tags = append(tags, t)
	}
	slices.Sort(tags)
	index := slices.Clone(h.index[:il*entrySize])
	data := slices.Clone(h.data[:dl])
	for _, t := range tags {
		e := added[t]
		if w := typeWidth(e.Type); w > 1 {
			for len(data)%w != 0 {
				data = append(data, 0)
			}
		}
		index = binary.BigEndian.AppendUint32(index, uint32(e.Tag))
		index = binary.BigEndian.AppendUint32(index, uint32(e.Type))
		index = binary.BigEndian.AppendUint32(index, uint32(len(data)))
		index = binary.BigEndian.AppendUint32(index, e.Count)
		data = append(data, e.Data...)
	}
	return (&Header{index: index, data: data}).Blob(), nil
}

// behindRegion lists the entries that the immutable region does not cover.
func (h *Header) behindRegion() []Entry {
	var out []Entry
	for i := h.regionEntries; i < len(h.index)/entrySize; i++ {
		e, err := h.parseEntry(i, 0)
		if err == nil {
			out = append(out, e)
		}
	}
	return out
}

func (h *Header) inRegion(tag Tag) bool {
	for i := range h.regionEntries {
		if Tag(binary.BigEndian.Uint32(h.index[i*entrySize:])) == tag {
			return true
		}
	}
	return false
}

// signatureMap says under which tag an installed header carries an entry of the signature header, of which
// type, and how many values it must have (0: any number).
var signatureMap = []struct {
	from, to Tag
	typ      Type
	count    uint32
	// either marks tags that may stand in the main header instead.
	either bool
}{
	{SigTagSize, TagSigSize, TypeInt32, 1, false},
	{SigTagPGP, TagSigPGP, TypeBin, 0, false},
	{SigTagMD5, TagSigMD5, TypeBin, 16, false},
	{SigTagGPG, TagSigGPG, TypeBin, 0, false},
	{SigTagPayloadSize, TagArchiveSize, TypeInt32, 1, true},
	{SigTagFileSignatures, TagFileSignatures, TypeStringArray, 0, true},
	{SigTagFileSignatureLen, TagFileSignatureLen, TypeInt32, 1, true},
	{TagVeritySigs, TagVeritySigs, TypeStringArray, 0, false},
	{TagVerityAlgo, TagVerityAlgo, TypeInt32, 1, false},
	{TagSHA1Header, TagSHA1Header, TypeString, 1, false},
	{TagSHA256Header, TagSHA256Header, TypeString, 1, false},
	{TagDSAHeader, TagDSAHeader, TypeBin, 0, false},
	{TagRSAHeader, TagRSAHeader, TypeBin, 0, false},
	{TagLongSigSize, TagLongSigSize, TypeInt64, 1, false},
	{TagLongArchiveSize, TagLongArchiveSize, TypeInt64, 1, false},
	{TagOpenPGP, TagOpenPGP, TypeStringArray, 0, false},
	{TagSHA3256Header, TagSHA3256Header, TypeString, 1, false},
}

// Blob gives the header as the database of installed packages stores it: the main header unchanged, and
// behind its immutable region the entries of the signature header and extra entries such as the
// installation time. [ParsePackage] reads it back, and header signatures still verify.
//
// A main header that itself carries a signature entry, or a signature entry of the wrong form, is refused
// with [ErrFormat]: it could hide what was signed.
//
// A header without immutable region, as programs before rpm 4.0 wrote them, is refused with
// [ErrUnsupported].
func (p *Package) Blob(extra ...Entry) ([]byte, error) {
	if !p.Header.HasRegion() {
		return nil, fmt.Errorf("make database header: no immutable region: %w", ErrUnsupported)
	}
	entries := append([]Entry(nil), extra...)
	if p.Signature != nil {
		merged, err := p.signatureEntries()
		if err != nil {
			return nil, err
		}
		entries = append(entries, merged...)
	}
	return p.Header.Merge(entries...)
}

func (p *Package) signatureEntries() ([]Entry, error) {
	var out []Entry
	for _, m := range signatureMap {
		e, ok := p.Signature.Lookup(m.from)
		if p.Header.Has(m.to) {
			if m.either && !ok {
				continue
			}
			return nil, fmt.Errorf("merge signature: tag %d stands in the header: %w", m.to, ErrFormat)
		}
		if !ok {
			continue
		}
		if e.Type != m.typ || m.count > 0 && e.Count != m.count || e.Count == 0 {
			return nil, fmt.Errorf("merge signature: tag %d has type %d and %d values: %w", m.from, e.Type, e.Count, ErrFormat)
		}
		e.Tag = m.to
		out = append(out, e)
	}
	return out, nil
}

// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/openpgpx"
)

// VerifyOptions is the policy of a verification. The zero value checks digests and whatever signatures
// are there, and refuses SHA-1.
type VerifyOptions struct {
	// Name is put in front of error messages; usually the file's name.
	Name string
	// RequireSignature refuses a package unless good signatures cover its header and its payload.
	RequireSignature bool
	// AllowSHA1 accepts signatures over SHA-1 hashes, which are common up to about 2012.
	AllowSHA1 bool
	// StrongOnly leaves the MD5 digest unread where stronger digests cover header and
	// payload, too.
	StrongOnly bool
	// Time is when keys must be valid; zero means now.
	Time time.Time
}

func (o VerifyOptions) wrap(err error) error {
	if err == nil || o.Name == "" {
		return err
	}
	return fmt.Errorf("verify %s: %w", o.Name, err)
}

// DigestResult says what came of one digest.
type DigestResult struct {
	Tag             Tag
	Header, Payload bool // what the digest covers
	Hash            crypto.Hash
	Want, Got       string // hexadecimal
}

// OK says whether the digest matches.
func (d DigestResult) OK() bool { return strings.EqualFold(d.Want, d.Got) }

// VerifyResult lists every check that was made.
type VerifyResult struct {
	Package    *Package
	Digests    []DigestResult
	Signatures []SignatureResult
	// HeaderSigned and PayloadSigned say whether good signatures cover header and payload; the payload
	// also by way of its digest in a signed header.
	HeaderSigned, PayloadSigned bool
	// Size is the number of bytes of the whole file; 0 if only the header was verified.
	Size int64
}

// VerifyPackage reads a whole package file once and checks its size, digests and OpenPGP signatures.
//
// The error is nil if every digest matches, no signature is wrong and, with RequireSignature, good
// signatures cover the whole file. Otherwise it wraps [ErrDigest], [ErrBadSignature], [ErrUnsigned],
// [ErrNoKey], [ErrKeyExpired], [ErrKeyRevoked], [ErrWeak], [ErrFormat] or [ErrTruncated]. The result lists
// what was found even then, as far as reading got.
func VerifyPackage(r io.Reader, kr *Keyring, o VerifyOptions) (VerifyResult, error) {
	p, err := ReadPackage(r)
	if err != nil {
		return VerifyResult{}, o.wrap(err)
	}
	v := &verifier{pkg: p, sig: p.Signature, kr: kr, o: o, payload: true}
	v.res.Package = p
	if err := v.start(); err != nil {
		return v.res, o.wrap(err)
	}
	n, err := v.stream(r)
	if err != nil {
		return v.res, o.wrap(readError("payload", p.PayloadOffset+n, err))
	}
	v.res.Size = p.PayloadOffset + n
	if err := v.checkSize(n); err != nil {
		return v.res, o.wrap(err)
	}
	v.finish()
	return v.res, o.wrap(v.verdict())
}

// VerifyHeader checks the digests and signatures that cover the header alone: of a package whose payload
// is not at hand, or of an installed header, which carries its signatures itself. RequireSignature then
// asks for a good signature over the header.
func VerifyHeader(p *Package, kr *Keyring, o VerifyOptions) (VerifyResult, error) {
	sig := p.Signature
	if sig == nil {
		sig = p.Header
	}
	v := &verifier{pkg: p, sig: sig, kr: kr, o: o}
	v.res.Package = p
	if err := v.start(); err != nil {
		return v.res, o.wrap(err)
	}
	v.finish()
	return v.res, o.wrap(v.verdict())
}

// verifier collects the hashes that one pass over the payload feeds.
type verifier struct {
	pkg     *Package
	sig     *Header
	kr      *Keyring
	o       VerifyOptions
	payload bool
	res     VerifyResult
	sinks   []io.Writer
	digests []pendingDigest
	sigs    []pendingSignature
}

type pendingDigest struct {
	res DigestResult
	sum hash.Hash
}

type pendingSignature struct {
	sig *openpgpx.Signature
	sum hash.Hash
	res SignatureResult
}

// start sets up every check, hashes the header and remembers which hashes want the payload.
func (v *verifier) start() error {
	signed := v.pkg.Header.signedBytes()
	v.headerDigest(TagSHA1Header, crypto.SHA1, signed)
	v.headerDigest(TagSHA256Header, crypto.SHA256, signed)
	v.headerDigest(TagSHA3256Header, crypto.SHA3_256, signed)
	if md5 := v.sig.Bytes(SigTagMD5); v.payload && md5 != nil && !(v.o.StrongOnly && v.strong()) {
		v.addDigest(DigestResult{Tag: SigTagMD5, Header: true, Payload: true, Hash: crypto.MD5, Want: hex.EncodeToString(md5)}, signed)
	}
	if err := v.payloadDigests(); err != nil {
		return err
	}
	for _, tag := range []Tag{TagRSAHeader, TagDSAHeader} {
		if err := v.addSignature(tag, v.sig.Bytes(tag), signed, false); err != nil {
			return err
		}
	}
	for _, text := range v.sig.Strings(TagOpenPGP) {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("read signature header: tag %d: %w: %w", TagOpenPGP, ErrFormat, err)
		}
		if err := v.addSignature(TagOpenPGP, raw, signed, false); err != nil {
			return err
		}
	}
	if !v.payload {
		return nil
	}
	for _, tag := range []Tag{SigTagPGP, SigTagGPG} {
		if err := v.addSignature(tag, v.sig.Bytes(tag), signed, true); err != nil {
			return err
		}
	}
	return nil
}

// strong tells whether digests better than MD5 and SHA-1 cover header and payload.
func (v *verifier) strong() bool {
	h := v.pkg.Header
	if !v.sig.Has(TagSHA256Header) && !v.sig.Has(TagSHA3256Header) || h.String(TagPayloadDigest) == "" {
		return false
	}
	algo, ok := h.Uint(TagPayloadDigestAlgo)
	id := openpgpx.HashByID(algo)
	return !ok || id != crypto.MD5 && id != crypto.SHA1
}

func (v *verifier) headerDigest(tag Tag, id crypto.Hash, signed []byte) {
	e, ok := v.sig.Lookup(tag)
	if !ok {
		return
	}
	res := DigestResult{Tag: tag, Header: true, Hash: id, Want: v.sig.String(tag)}
	if e.Type == TypeBin {
		res.Want = hex.EncodeToString(e.Data)
	}
	h := id.New()
	h.Write(signed)
	v.digests = append(v.digests, pendingDigest{res, h})
}

// payloadDigests takes the digests of the compressed payload out of the main header.
func (v *verifier) payloadDigests() error {
	if !v.payload {
		return nil
	}
	h := v.pkg.Header
	if want := h.String(TagPayloadDigest); want != "" {
		algo, ok := h.Uint(TagPayloadDigestAlgo)
		if !ok {
			algo = 8
		}
		id := openpgpx.HashByID(algo)
		if id == 0 || !id.Available() {
			return fmt.Errorf("payload digest algorithm %d: %w", algo, ErrUnsupported)
		}
		v.addDigest(DigestResult{Tag: TagPayloadDigest, Payload: true, Hash: id, Want: want}, nil)
	}
	for _, t := range []struct {
		tag Tag
		id  crypto.Hash
	}{{TagPayloadSHA512, crypto.SHA512}, {TagPayloadSHA3256, crypto.SHA3_256}} {
		if want := h.String(t.tag); want != "" {
			v.addDigest(DigestResult{Tag: t.tag, Payload: true, Hash: t.id, Want: want}, nil)
		}
	}
	return nil
}

func (v *verifier) addDigest(res DigestResult, head []byte) {
	h := res.Hash.New()
	h.Write(head)
	v.digests = append(v.digests, pendingDigest{res, h})
	v.sinks = append(v.sinks, h)
}

// addSignature prepares all signature packets of one tag. What cannot be checked at all is a result of
// its own; what is malformed is an error.
func (v *verifier) addSignature(tag Tag, data, signed []byte, payload bool) error {
	if data == nil {
		if v.sig.Has(tag) && tag != TagOpenPGP {
			return fmt.Errorf("read signature header: tag %d is not binary: %w", tag, ErrFormat)
		}
		return nil
	}
	res := SignatureResult{Tag: tag, Header: true, Payload: payload}
	sigs, err := parseSignatures(data)
	if err != nil && !errors.Is(err, ErrUnsupported) {
		return fmt.Errorf("read signature header: tag %d: %w: %w", tag, ErrBadSignature, err)
	}
	if err != nil {
		res.Err = err
		v.res.Signatures = append(v.res.Signatures, res)
		res.Err = nil
	}
	for _, s := range sigs {
		h, err := s.NewHash()
		if err != nil {
			res.Err = pgpError(err)
			v.res.Signatures = append(v.res.Signatures, res)
			res.Err = nil
			continue
		}
		h.Write(signed)
		v.sigs = append(v.sigs, pendingSignature{s, h, res})
		if payload {
			v.sinks = append(v.sinks, h)
		}
	}
	return nil
}

// stream feeds the payload to every hash that wants it.
func (v *verifier) stream(r io.Reader) (int64, error) {
	buf := make([]byte, 128<<10)
	var total int64
	for {
		n, err := r.Read(buf)
		total += int64(n)
		for _, s := range v.sinks {
			if _, err := s.Write(buf[:n]); err != nil {
				return total, err
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// checkSize compares the size of header and payload with the signature header, which finds a truncated
// download before any digest does.
func (v *verifier) checkSize(payload int64) error {
	want, ok := v.sig.Uint(TagLongSigSize)
	if !ok {
		want, ok = v.sig.Uint(SigTagSize)
	}
	if !ok {
		return nil
	}
	got := uint64(payload) + uint64(len(v.pkg.HeaderBytes))
	end := uint64(v.pkg.HeaderOffset) + got
	if got < want {
		return fmt.Errorf("read payload: offset %d, %d bytes are missing: %w", end, want-got, ErrTruncated)
	}
	if got > want {
		return fmt.Errorf("read payload: %d bytes too many from offset %d: %w", got-want, uint64(v.pkg.HeaderOffset)+want, ErrFormat)
	}
	return nil
}

func (v *verifier) finish() {
	payloadOK := false
	for _, d := range v.digests {
		d.res.Got = hex.EncodeToString(d.sum.Sum(nil))
		v.res.Digests = append(v.res.Digests, d.res)
		if d.res.Payload && !d.res.Header && d.res.OK() {
			payloadOK = true
		}
	}
	for _, s := range v.sigs {
		res := verdict(s.sig, v.kr, s.sum, v.o)
		res.Tag, res.Header, res.Payload = s.res.Tag, s.res.Header, s.res.Payload
		v.res.Signatures = append(v.res.Signatures, res)
		if res.Err == nil {
			v.res.HeaderSigned = true
			v.res.PayloadSigned = v.res.PayloadSigned || res.Payload
		}
	}
	if v.res.HeaderSigned && payloadOK {
		v.res.PayloadSigned = true
	}
}

// verdict turns the results into one error.
func (v *verifier) verdict() error {
	for _, d := range v.res.Digests {
		if !d.OK() {
			return fmt.Errorf("%s: %v digest %s, %s promised: %w", covered(d.Header, d.Payload), d.Hash, d.Got, d.Want, ErrDigest)
		}
	}
	var reason error
	for _, s := range v.res.Signatures {
		if errors.Is(s.Err, ErrBadSignature) {
			return fmt.Errorf("%s: %w", covered(s.Header, s.Payload), s.Err)
		}
		if s.Err != nil && reason == nil {
			reason = fmt.Errorf("%s: %w", covered(s.Header, s.Payload), s.Err)
		}
	}
	if !v.o.RequireSignature || v.res.HeaderSigned && (v.res.PayloadSigned || !v.payload) {
		return nil
	}
	if reason != nil {
		return reason
	}
	if v.res.HeaderSigned {
		return fmt.Errorf("payload: %w", ErrUnsigned)
	}
	return ErrUnsigned
}

func covered(header, payload bool) string {
	switch {
	case header && payload:
		return "header and payload"
	case payload:
		return "payload"
	}
	return "header"
}

// PackageDigest gives the SHA-256 of what the package's header digests cover, as hexadecimal text.
func (p *Package) PackageDigest() string {
	h := crypto.SHA256.New()
	_, _ = io.Copy(h, bytes.NewReader(p.Header.signedBytes()))
	return hex.EncodeToString(h.Sum(nil))
}

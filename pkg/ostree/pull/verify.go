// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// Trust decides whether commits, summaries and deltas of a remote are signed by
// keys that its configuration trusts. GPG and the other signature types are
// independent: where both are switched on, both must accept. What is verified are
// the bytes as received. It is made by LoadTrust and safe for concurrent use.
type Trust struct {
	gpg                   *sign.Keyring
	gpgCommit, gpgSummary bool
	commit, summary       []*sign.Verifier // nil: off
	deltas                bool             // core.sign-verify-deltas
	now                   time.Time        // zero: the clock's
	accepted              func(ostree.Checksum, Verified)
}

// Verified tells which signatures were found on something that was accepted.
type Verified struct {
	GPG  sign.GPGResult // all of them; nil where gpg-verify is off
	Sign sign.Match     // the one that verified; its Type is "" where sign-verify is off
}

// Describe gives the lines that libostree prints for accepted signatures, with
// newlines between them; "" where nothing had to be verified.
func (v Verified) Describe() string {
	var b strings.Builder
	for _, s := range v.GPG {
		b.WriteString(s.Describe("GPG: "))
	}
	if v.GPG != nil && v.Sign.Type != "" {
		b.WriteByte('\n')
	}
	return b.String() + v.Sign.Message
}

// CommitsVerified tells whether commits must be signed, and so whether their
// detached metadata is needed.
func (t *Trust) CommitsVerified() bool { return t.gpgCommit || t.commit != nil }

// SummaryVerified tells whether the summary must be signed.
func (t *Trust) SummaryVerified() bool { return t.gpgSummary || t.summary != nil }

// VerifyCommit checks a commit object's bytes against its detached metadata. With
// CommitsVerified false it accepts anything. Errors wrap ErrSignature and the
// reason, among them those of package sign.
func (t *Trust) VerifyCommit(commit []byte, meta gvariant.Dict) (v Verified, err error) {
	if t.gpgCommit {
		if v.GPG, err = t.verifyGPG(commit, meta); err != nil {
			return Verified{}, err
		}
	}
	if t.commit != nil {
		if v.Sign, err = t.verifySign(commit, meta); err != nil {
			return Verified{}, err
		}
	}
	return v, nil
}

func (t *Trust) verifyGPG(data []byte, d gvariant.Dict) (sign.GPGResult, error) {
	res, err := t.gpg.VerifyDict(data, d, t.now)
	if err != nil {
		return res, signatureError("", err)
	}
	return res, nil
}

func (t *Trust) verifySign(commit []byte, meta gvariant.Dict) (sign.Match, error) {
	if meta.Len() == 0 {
		return sign.Match{}, sayf(errors.Join(ErrSignature, sign.ErrNoSignature), "Can't verify commit without detached metadata")
	}
	m, err := anyVerifier(t.commit, commit, meta)
	if err != nil {
		return m, signatureError("Can't verify commit: ", err)
	}
	return m, nil
}

// VerifySummary checks a summary against the bytes of summary.sig; both nil where
// the remote has no such file. With SummaryVerified false it accepts anything.
// Errors wrap ErrSignature and the reason.
func (t *Trust) VerifySummary(summary, sig []byte) (Verified, error) {
	var v Verified
	if !t.SummaryVerified() {
		return v, nil
	}
	if err := t.summaryPresent(summary, sig); err != nil {
		return v, err
	}
	d, err := gvariant.ParseDict(sig)
	if err != nil {
		d = gvariant.Dict{} // no signature can be found in there
	}
	if t.gpgSummary {
		if v.GPG, err = t.verifyGPG(summary, d); err != nil {
			return Verified{}, err
		}
	}
	if t.summary != nil {
		if v.Sign, err = anyVerifier(t.summary, summary, d); err != nil {
			return Verified{}, signatureError("", err)
		}
	}
	return v, nil
}

func (t *Trust) summaryPresent(summary, sig []byte) error {
	engine, key := "GPG", "gpg-verify-summary"
	if !t.gpgSummary {
		engine, key = "Signatures", "sign-verify-summary"
	}
	missing := "summary"
	if summary != nil {
		missing = "summary.sig"
	}
	if summary != nil && sig != nil {
		return nil
	}
	return sayf(errors.Join(ErrSignature, sign.ErrNoSignature),
		"%s verification enabled, but no %s found (use %s=false in remote config to disable)", engine, missing, key)
}

// VerifyDelta checks a signed delta: the bytes of its superblock and the
// dictionary beside it. Where the repository has core.sign-verify-deltas a key that
// may sign the remote's commits must have signed it.
func (t *Trust) VerifyDelta(superblock []byte, signatures gvariant.Dict) error {
	if !t.deltas {
		return nil
	}
	if t.commit == nil {
		return sayf(errors.Join(ErrSignature, sign.ErrNoKeys), "Key is mandatory to check delta signature")
	}
	if _, err := anyVerifier(t.commit, superblock, signatures); err != nil {
		return signatureError("Delta signature verification failed: ", err)
	}
	return nil
}

// anyVerifier accepts when one of the types does. A type of which there is no
// signature does not count.
func anyVerifier(verifiers []*sign.Verifier, data []byte, d gvariant.Dict) (sign.Match, error) {
	var first error
	bad := 0
	for _, v := range verifiers {
		if _, ok := d.ByteSlices(sign.MetadataKey(v.Type())); !ok {
			continue
		}
		m, err := v.VerifyDict(data, d)
		if err == nil {
			return m, nil
		}
		if bad++; first == nil {
			first = err
		}
	}
	switch {
	case bad == 0:
		return sign.Match{}, sayf(sign.ErrNoSignature, "No signatures found")
	case bad > 1:
		return sign.Match{}, sayf(first, "(%d other invalid signatures): %s", bad-1, first)
	}
	return sign.Match{}, first
}

// signatureError keeps libostree's text and adds the condition.
func signatureError(prefix string, err error) error {
	return &condition{prefix + err.Error(), errors.Join(ErrSignature, err)}
}

// Apply makes a pull with remote and req verify as t says.
func (t *Trust) Apply(remote *Remote, req *Request) {
	remote.NoGPGVerify, remote.GPGVerifySummary = !t.gpgCommit, t.gpgSummary
	remote.SignVerify, remote.SignVerifySummary = t.commit != nil, t.summary != nil
	req.GPG = commitFunc(func(commit []byte, meta gvariant.Dict) error {
		res, err := t.verifyGPG(commit, meta)
		t.report(commit, Verified{GPG: res}, err)
		return err
	})
	req.Sign = commitFunc(func(commit []byte, meta gvariant.Dict) error {
		m, err := t.verifySign(commit, meta)
		t.report(commit, Verified{Sign: m}, err)
		return err
	})
	gpg, other := *t, *t
	gpg.summary, other.gpgSummary = nil, false
	req.GPGSummary, req.SignSummary = summaryFunc(gpg.VerifySummary), summaryFunc(other.VerifySummary)
	req.SignDelta = t
}

func (t *Trust) report(commit []byte, v Verified, err error) {
	if err == nil && t.accepted != nil {
		t.accepted(sha256.Sum256(commit), v)
	}
}

type commitFunc func(commit []byte, meta gvariant.Dict) error

func (f commitFunc) VerifyCommit(commit []byte, meta gvariant.Dict) error { return f(commit, meta) }

type summaryFunc func(summary, sig []byte) (Verified, error)

func (f summaryFunc) VerifySummary(summary, sig []byte) error {
	_, err := f(summary, sig)
	return err
}

// Finding is what Inspect says of one signature, or of the lack of one.
type Finding struct {
	Type    string // gpg, or one of package sign's
	Valid   bool
	Key     string // fingerprint of a GPG key, or a public key in hexadecimal; may be ""
	Problem string // why it is not valid, in one line
}

// Inspect reports on the signatures of a stored commit, good and bad, as far as
// the configuration asks for any. The error is about reading the commit.
func (t *Trust) Inspect(repo *ostree.Repo, c ostree.Checksum) ([]Finding, error) {
	raw, err := repo.LoadRaw(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
	if err != nil {
		return nil, err
	}
	meta, err := repo.CommitMeta(c)
	if err != nil {
		return nil, err
	}
	var out []Finding
	if t.gpgCommit {
		out = append(out, t.inspectGPG(raw, meta)...)
	}
	if t.commit == nil {
		return out, nil
	}
	m, err := anyVerifier(t.commit, raw, meta)
	if err != nil {
		return append(out, Finding{Type: "sign", Problem: err.Error()}), nil
	}
	return append(out, Finding{Type: m.Type, Valid: true, Key: hex.EncodeToString(m.Key)}), nil
}

func (t *Trust) inspectGPG(raw []byte, meta gvariant.Dict) []Finding {
	res, _ := t.gpg.VerifyDict(raw, meta, t.now)
	var out []Finding
	for _, s := range res {
		f := Finding{Type: "gpg", Valid: s.Valid, Key: s.Fingerprint}
		if s.PrimaryFingerprint != "" {
			f.Key = s.PrimaryFingerprint
		}
		if s.Err != nil {
			f.Problem = s.Problem()
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		out = append(out, Finding{Type: "gpg", Problem: "Unsigned"})
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// own keeps the machine's keys out of the tests.
func own() pull.TrustOptions {
	return pull.TrustOptions{GPGHome: "/nonexistent", KeyDirs: []fs.FS{fstest.MapFS{}}}
}

func ed25519Key(t testing.TB) (sign.Signer, string) {
	t.Helper()
	secret, public, err := sign.GenerateEd25519()
	testutil.Must(t, err)
	s, err := sign.NewSigner(sign.TypeEd25519, secret, sign.Options{})
	testutil.Must(t, err)
	return s, public
}

// pgpSigner signs without any program.
type pgpSigner struct{ e *openpgp.Entity }

func (s pgpSigner) Key() string { return sign.GPGKey }

func (s pgpSigner) Sign(_ context.Context, data []byte) ([]byte, error) {
	var out bytes.Buffer
	err := openpgp.DetachSign(&out, []*openpgp.Entity{s.e}, bytes.NewReader(data), nil)
	return out.Bytes(), err
}

func pgpKey(t testing.TB) (pgpSigner, []byte) {
	t.Helper()
	e, err := openpgp.NewEntity("Test", "", "test@example.org", nil)
	testutil.Must(t, err)
	var public bytes.Buffer
	testutil.Must(t, e.Serialize(&public))
	return pgpSigner{e}, public.Bytes()
}

// TestSignedUpgrade follows a remote whose commits must be signed by GPG and by an
// ed25519 key.
func TestSignedUpgrade(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	key, public := ed25519Key(t)
	stranger, _ := ed25519Key(t)
	pgp, pgpPublic := pgpKey(t)
	strangerPGP, _ := pgpKey(t)
	testutil.Must(t, srv.repo.SignCommit(t.Context(), srv.commit(ref, "1", 1), key, pgp))
	h := newHostWith(t, InstallRequest{Remote: pull.Remote{Name: "r", URL: srv.url}, GPGKeys: [][]byte{pgpPublic},
		SignKeys: map[string]string{sign.TypeEd25519: public}, Trust: own()})
	o := Options{Trust: own()}

	c2 := srv.commit(ref, "2", 2)
	refused := func(name, text string) {
		t.Helper()
		_, err := Upgrade(t.Context(), h.s, o)
		if !errors.Is(err, pull.ErrSignature) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: several lines: %v", name, err)
		}
		if h.versions() != "1" {
			t.Errorf("%s: deployed %s", name, h.versions())
		}
	}
	refused("unsigned", "no signatures found")
	testutil.Must(t, srv.repo.SignCommit(t.Context(), c2, stranger, strangerPGP))
	refused("wrong GPG key", "; Can't check signature: public key not found")
	testutil.Must(t, srv.repo.SignCommit(t.Context(), c2, pgp))
	refused("wrong ed25519 key", "ed25519: Signature couldn't be verified")
	testutil.Must(t, srv.repo.SignCommit(t.Context(), c2, key))
	res, err := Upgrade(t.Context(), h.s, o)
	if err != nil || res.New.Checksum != c2 {
		t.Fatalf("%v %+v", err, res)
	}
	st, err := h.s.Load(t.Context())
	testutil.Must(t, err)
	report, err := Signatures(h.s.Repo(), st.Deployments[0], own())
	testutil.Must(t, err)
	raw, err := base64.StdEncoding.DecodeString(public)
	testutil.Must(t, err)
	if !report.Verified || len(report.List) != 3 || report.List[0].Valid {
		t.Fatalf("%+v", report)
	}
	if got, want := report.List[1].String(), "Valid signature by "+strings.ToUpper(hex.EncodeToString(pgp.e.PrimaryKey.Fingerprint)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := report.List[2].String(), "Valid signature by "+hex.EncodeToString(raw); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	h.fsck()
}

// TestReportOfUntrusted says what status shows when the key is not there.
func TestReportOfUntrusted(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	pgp, pgpPublic := pgpKey(t)
	testutil.Must(t, srv.repo.SignCommit(t.Context(), srv.commit(ref, "1", 1), pgp))
	h := newHostWith(t, InstallRequest{Remote: pull.Remote{Name: "r", URL: srv.url}, GPGKeys: [][]byte{pgpPublic}, Trust: own()})
	testutil.Must(t, h.s.Repo().Dir().Remove("r.trustedkeys.gpg"))
	st, err := h.s.Load(t.Context())
	testutil.Must(t, err)
	report, err := Signatures(h.s.Repo(), st.Deployments[0], own())
	testutil.Must(t, err)
	if len(report.List) != 1 || report.List[0].Valid || !strings.HasPrefix(report.List[0].String(), "Can't check signature: public key not found (") {
		t.Errorf("%+v", report)
	}
}

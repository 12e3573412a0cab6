// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/etcmerge"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

func (h *host) first() deploy.Deployment {
	h.t.Helper()
	st, err := h.s.Load(h.t.Context())
	testutil.Must(h.t, err)
	return st.Deployments[0]
}

func (h *host) write(d deploy.Deployment, text string) {
	h.t.Helper()
	testutil.Must(h.t, os.WriteFile(filepath.Join(h.root, "sysroot", d.Dir(), "etc/conf"), []byte(text), 0o644))
}

// TestConflictSettledLater: who reads of a conflict says what to do with the next
// command; what was said holds until it is unsaid.
func TestConflictSettledLater(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.commit(ref, "1", 1)
	h := newHost(t, srv)
	h.write(h.first(), "mine")
	srv.commit(ref, "2", 2)
	replace := []string{"conf"}
	res, err := Upgrade(t.Context(), h.s, Options{Stage: true})
	testutil.Must(t, err)
	if len(res.Etc.Clashes) != 1 || res.Etc.Clashes[0].Saved != "conf.rpmnew" || res.Disk == nil || !res.Disk.Fits() {
		t.Fatalf("%+v", res)
	}
	if res, err = Upgrade(t.Context(), h.s, Options{Stage: true, EtcConflicts: deploy.FailOnConflict}); !errors.Is(err, deploy.ErrEtcConflict) || len(res.Etc.Clashes) != 1 {
		t.Fatalf("%v %+v", err, res)
	}
	if res, err = Upgrade(t.Context(), h.s, Options{Stage: true, EtcReplace: replace}); err != nil || res.Unchanged || !res.Staged || !res.Etc.Clashes[0].Replaced {
		t.Fatalf("%v %+v", err, res)
	}
	want := &etcmerge.Policy{SaveNew: true, Replace: replace}
	if d := cmp.Diff(want, h.first().EtcPolicy); d != "" || h.versions() != "2+ 1" {
		t.Fatal(h.versions(), d)
	}
	// A timer that comes by, with nothing new and with something, leaves that.
	if res, err = Upgrade(t.Context(), h.s, Options{Stage: true}); err != nil || !res.Unchanged {
		t.Fatalf("%v %+v", err, res)
	}
	srv.commit(ref, "3", 3)
	if res, err = Upgrade(t.Context(), h.s, Options{Stage: true}); err != nil || res.Unchanged {
		t.Fatalf("%v %+v", err, res)
	}
	if d := cmp.Diff(want, h.first().EtcPolicy); d != "" {
		t.Fatal(d)
	}
	testutil.Must(t, h.s.WithLock(t.Context(), func(l *deploy.Locked) error {
		_, err := l.FinalizeStaged(t.Context(), deploy.Retention{})
		return err
	}))
	data, err := os.ReadFile(filepath.Join(h.root, "sysroot", h.first().Dir(), "etc/conf"))
	if err != nil || string(data) != "conf 3" {
		t.Errorf("%v %q", err, data)
	}
}

// TestSettingsCount: what the sysroot's config says holds where the options say nothing.
func TestSettingsCount(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.commit(ref, "1", 1)
	h := newHost(t, srv)
	set := func(key, value string) {
		cfg := h.s.Repo().Config()
		testutil.Must(t, cfg.Set("hostctl", key, value))
		testutil.Must(t, h.s.Repo().SetConfig(cfg))
	}
	set("etc-conflicts", "fail")
	set("keep", "3")
	h.write(h.first(), "mine")
	srv.commit(ref, "2", 2)
	if _, err := Upgrade(t.Context(), h.s, Options{}); !errors.Is(err, deploy.ErrEtcConflict) || h.versions() != "1" {
		t.Fatalf("%v %s", err, h.versions())
	}
	if _, err := Upgrade(t.Context(), h.s, Options{EtcConflicts: deploy.KeepLocal}); err != nil {
		t.Fatal(err)
	}
	set("etc-conflicts", "keep")
	for i, want := range []string{"3 2 1", "4 3 2"} {
		srv.commit(ref, fmt.Sprint(i+3), uint64(i+3))
		if _, err := Upgrade(t.Context(), h.s, Options{}); err != nil || h.versions() != want {
			t.Fatalf("%v %s, want %s", err, h.versions(), want)
		}
	}
	srv.commit(ref, "5", 5)
	if _, err := Upgrade(t.Context(), h.s, Options{Stage: true, Keep: 2}); err != nil {
		t.Fatal(err)
	}
	testutil.Must(t, h.s.WithLock(t.Context(), func(l *deploy.Locked) error {
		_, err := l.FinalizeStaged(t.Context(), deploy.Retention{Older: 5})
		return err
	}))
	if got := h.versions(); got != "5 4" {
		t.Error(got)
	}
	set("keep", "none")
	if _, err := Upgrade(t.Context(), h.s, Options{}); err == nil || !strings.Contains(err.Error(), "keep") {
		t.Error(err)
	}
}

func TestHint(t *testing.T) {
	t.Parallel()
	now := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	cert := fmt.Errorf("get: %w", x509.CertificateInvalidError{Reason: x509.Expired})
	for _, c := range []struct {
		err    error
		newest time.Time
		want   string // of what is added
	}{
		{errors.New("404"), now.AddDate(1, 0, 0), ""},
		{x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, now, ""},
		{cert, now.AddDate(-1, 0, 0), "if the clock of this machine is wrong, that is why: it says 2020-01-01T00:00:00Z"},
		{cert, now.AddDate(1, 0, 0), "it runs a system of 2021-01-01T00:00:00Z: set the clock"},
		{sign.ErrExpired, now, "clock"},
		{sign.ErrKeyExpired, time.Time{}, "clock"},
		{pull.ErrExpired, now, "clock"},
		{syscall.ENOSPC, now, "hostctl cleanup"},
		{ostree.ErrNoSpace, now, "hostctl cleanup"},
	} {
		got := hint(c.err, now, c.newest)
		if !errors.Is(got, c.err) || (got.Error() != c.err.Error()) != (c.want != "") || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.err, got, c.want)
		}
	}
	for _, c := range []time.Time{now.Add(time.Hour), now.AddDate(-11, 0, 0)} {
		if got := clockWarning(c, now); !strings.Contains(got, stamp(c)) {
			t.Errorf("%v: %q", c, got)
		}
	}
	for _, c := range []time.Time{{}, now, now.Add(5 * time.Minute), now.AddDate(-9, 0, 0)} {
		if got := clockWarning(c, now); got != "" {
			t.Error(got)
		}
	}
}

// TestWrongClock: a server whose certificate is not valid yet, and a commit from the
// future: the first is an error that names the clock, the second a warning.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.commit(ref, "1", 1)
	h := newHost(t, srv)
	srv.commit(ref, "2", uint64(time.Now().AddDate(1, 0, 0).Unix())-clock)
	res, err := Check(t.Context(), h.s, Options{})
	if err != nil || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "clock") {
		t.Fatalf("%v %+v", err, res.Warnings)
	}
	web, ca := futureServer(t)
	remote := pull.Remote{Name: "r", URL: web.URL, NoGPGVerify: true, TLSCAPath: ca}
	testutil.Must(t, pull.AddRemote(h.s.Repo(), remote, pull.AddOptions{Force: true}))
	_, err = Upgrade(t.Context(), h.s, Options{Network: pull.Network{Retries: -1}})
	if err == nil || !strings.Contains(err.Error(), "clock of this machine") || h.versions() != "1" {
		t.Errorf("%v %s", err, h.versions())
	}
}

// futureServer has a certificate that becomes valid tomorrow.
func futureServer(t *testing.T) (*httptest.Server, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testutil.Must(t, err)
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().AddDate(0, 0, 1), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	testutil.Must(t, err)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	testutil.Must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	web.StartTLS()
	t.Cleanup(web.Close)
	return web, ca
}

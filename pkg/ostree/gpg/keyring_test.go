// SPDX-License-Identifier: Apache-2.0

package gpg

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// TestImport compares with "ostree remote gpg-import" on the suite's keys.
func TestImport(t *testing.T) {
	t.Parallel()
	dir := testutil.Corpus(t, "ostree", "ostreedev-tests", "gpghome")
	repo, r, _ := newRepo(t)
	ctx := context.Background()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	keys := func() [][]byte { return [][]byte{read("key1.asc"), read("key2.asc"), read("key3.asc")} }
	const k1, k2, k3 = "7FCA23D8472CDAFA", "D8228CFECA950D41", "0D15FAE7DF444D67"
	for _, step := range []struct {
		source []byte
		ids    []string
		want   int
	}{
		{read("trusted/pubring.gpg"), []string{k1}, 1},
		{read("trusted/pubring.gpg"), []string{k1}, 0},
		{read("trusted/pubring.gpg"), []string{k2, "test3@test.com"}, 2},
		{bytes.Join(keys(), nil), nil, 0},
		{read("secring.gpg"), []string{k3}, 0},
	} {
		n, err := Import(ctx, r, "o", step.source, step.ids)
		if err != nil || n != step.want {
			t.Errorf("%q: %d imported, %v; want %d", step.ids, n, err, step.want)
		}
	}
	run(t, "ostree", "--repo="+repo, "remote", "add", "o", "http://localhost")
	ours := run(t, "ostree", "--repo="+repo, "remote", "gpg-list-keys", "o")
	run(t, "ostree", "--repo="+repo, "remote", "add", "p", "http://localhost")
	run(t, "ostree", "--repo="+repo, "remote", "gpg-import", "p", "--keyring="+filepath.Join(dir, "trusted", "pubring.gpg"))
	if want := run(t, "ostree", "--repo="+repo, "remote", "gpg-list-keys", "p"); ours != want {
		t.Errorf("listed\n%s\nwant\n%s", ours, want)
	}
	if _, err := Import(ctx, r, "o", read("key1.asc"), []string{k2}); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	if _, err := Import(ctx, r, "o", []byte("garbage"), nil); !errors.Is(err, sign.ErrKeyData) {
		t.Error(err)
	}
	if _, err := Import(ctx, r, "../o", read("key1.asc"), nil); !errors.Is(err, ostree.ErrInvalid) {
		t.Error(err)
	}
}

// TestImportRevocation checks that a newer state of a key completes the older.
func TestImportRevocation(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	repo, r, c := newRepo(t)
	ctx := context.Background()
	id := h.key("Key <k@example.org>", "never")
	if err := SignCommit(ctx, r, c, Signer{KeyID: id, Homedir: h.dir}); err != nil {
		t.Fatal(err)
	}
	importNow := func(want int) {
		t.Helper()
		if n, err := Import(ctx, r, "o", h.export(id), nil); err != nil || n != want {
			t.Fatalf("%d, %v", n, err)
		}
	}
	check := func(want error) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(repo, "o.trustedkeys.gpg"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verify(t, r, c, keyring(t, data)); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	importNow(1)
	check(nil)
	old := h.export(id)
	rev := filepath.Join(h.dir, "openpgp-revocs.d", id+".rev")
	data, err := os.ReadFile(rev)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rev, bytes.Replace(data, []byte(":-----BEGIN"), []byte("-----BEGIN"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	h.gpg("--import", rev)
	importNow(0)
	check(sign.ErrKeyRevoked)
	if n, err := Import(ctx, r, "o", old, nil); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	check(sign.ErrKeyRevoked)
	certs := keyring(t, h.export(id)).Certificates(time.Time{})
	if len(certs) != 1 || !certs[0].Keys[0].Revoked || !certs[0].UserIDs[0].Revoked {
		t.Errorf("%+v", certs)
	}
}

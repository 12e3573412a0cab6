// SPDX-License-Identifier: Apache-2.0

package openpgpx

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/hostctl/hostctl/internal/testutil"
)

func corpus(t testing.TB, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(testutil.Corpus(t, parts...))
	testutil.Must(t, err)
	return data
}

func newEntity(t testing.TB, name string, c *packet.Config) (e *openpgp.Entity, public []byte) {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.org", c)
	testutil.Must(t, err)
	var b bytes.Buffer
	testutil.Must(t, e.Serialize(&b))
	return e, b.Bytes()
}

func detach(t testing.TB, e *openpgp.Entity, data []byte, c *packet.Config) []byte {
	t.Helper()
	var b bytes.Buffer
	testutil.Must(t, openpgp.DetachSign(&b, []*openpgp.Entity{e}, bytes.NewReader(data), c))
	return b.Bytes()
}

func judge(t testing.TB, k *Keyring, data, sig []byte, p Policy) Verdict {
	t.Helper()
	sigs, err := Signatures(sig)
	testutil.Must(t, err)
	h, err := sigs[0].NewHash()
	testutil.Must(t, err)
	h.Write(data)
	return k.Judge(sigs[0], h, p)
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	made := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	config := &packet.Config{Time: func() time.Time { return made }, KeyLifetimeSecs: 86400 * 365, SigLifetimeSecs: 86400 * 30}
	e, public := newEntity(t, "a", config)
	_, other := newEntity(t, "b", config)
	data := []byte("data")
	sig := detach(t, e, data, config)
	testutil.Must(t, e.Revoke(packet.KeyCompromised, "stolen", config))
	var revoked bytes.Buffer
	testutil.Must(t, e.Serialize(&revoked))
	ring := func(files ...[]byte) *Keyring {
		k := &Keyring{}
		for _, f := range files {
			testutil.Must(t, k.Add(f))
		}
		return k
	}
	day := func(n int) Policy { return Policy{Time: made.AddDate(0, 0, n)} }
	for _, c := range []struct {
		name string
		k    *Keyring
		data string
		p    Policy
		want error
	}{
		{"good", ring(public), "data", day(1), nil},
		{"among others", ring(other, public), "data", day(1), nil},
		{"changed", ring(public), "Data", day(1), ErrBadSignature},
		{"missing", ring(other), "data", day(1), ErrNoKey},
		{"no keyring", nil, "data", day(1), ErrNoKey},
		{"signature expired", ring(public), "data", day(40), ErrSigTime},
		{"before the key was made", ring(public), "data", day(-1), ErrKeyExpired},
		{"revoked", ring(revoked.Bytes()), "data", day(1), ErrKeyRevoked},
		{"revoked in one copy", ring(public, revoked.Bytes(), public), "data", day(1), ErrKeyRevoked},
	} {
		v := judge(t, c.k, []byte(c.data), sig, c.p)
		if !errors.Is(v.Err, c.want) || (v.Err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, v.Err, c.want)
		}
		if (v.Certificate == nil) != errors.Is(c.want, ErrNoKey) {
			t.Errorf("%s: certificate %v", c.name, v.Certificate)
		}
	}
	slow := Policy{Time: made.Add(time.Hour)}
	config.Time = func() time.Time { return made.Add(2 * time.Hour) }
	fresh, freshPublic := newEntity(t, "d", &packet.Config{Time: func() time.Time { return made }})
	if v := judge(t, ring(freshPublic), data, detach(t, fresh, data, config), slow); v.Err != nil {
		t.Errorf("with a slow clock: %v", v.Err)
	}
	long := *config
	long.SigLifetimeSecs = 0
	lasting, public2 := newEntity(t, "c", &long)
	if v := judge(t, ring(public2), data, detach(t, lasting, data, &long), day(400)); !errors.Is(v.Err, ErrKeyExpired) {
		t.Errorf("expired key: %v", v.Err)
	}
}

// TestForeignSubkeys checks keys that were made to slip a foreign subkey in.
func TestForeignSubkeys(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"CVE-2021-3521-badbind.asc", "CVE-2021-3521-nosubsig.asc", "CVE-2021-3521-nosubsig-last.asc", "type-confusion.asc"} {
		k := &Keyring{}
		if err := k.Add(corpus(t, "rpms", "rpm-6.1-tests", "keys", name)); err != nil {
			continue
		}
		for _, c := range k.certs {
			for i := range c.entity.Subkeys {
				s := &c.entity.Subkeys[i]
				if err := k.usable(candidate{cert: c, subkey: s, key: s.PublicKey}, time.Now()); err == nil {
					t.Errorf("%s: subkey %x may sign", name, s.PublicKey.Fingerprint)
				}
			}
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	e, first := newEntity(t, "a", nil)
	testutil.Must(t, e.AddUserId("more", "", "more@example.org", nil))
	testutil.Must(t, e.AddSigningSubkey(nil))
	var second bytes.Buffer
	testutil.Must(t, e.Serialize(&second))
	read := func(data []byte) Block {
		list, err := ReadBlocks(data)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d blocks, %v", len(list), err)
		}
		return list[0]
	}
	b := read(first)
	if !bytes.Equal(b.Bytes(), first) {
		t.Error("the packets changed")
	}
	b.Merge(read(second.Bytes()))
	k := &Keyring{}
	testutil.Must(t, k.AddBlock(b))
	c := k.Certificates(time.Time{})[0]
	if len(c.Keys) != 3 || len(c.UserIDs) != 2 || c.UserIDs[0].Name != "a" && c.UserIDs[0].Name != "more" {
		t.Errorf("%+v", c)
	}
	for _, key := range c.Keys {
		if key.Invalid || key.Revoked || key.Expired {
			t.Errorf("%+v", key)
		}
	}
	again := b.Bytes()
	b.Merge(read(second.Bytes()))
	if !bytes.Equal(b.Bytes(), again) {
		t.Error("merging the same again changes something")
	}
	for _, id := range []string{b.Fingerprint, "0x" + b.Fingerprint[24:], "<more@example.org>", "MORE@", c.Keys[2].Fingerprint} {
		if len(k.Match(id)) != 1 {
			t.Errorf("%q names nothing", id)
		}
	}
	for _, id := range []string{"", "00000000", "nobody", b.Fingerprint[33:]} {
		if len(k.Match(id)) != 0 {
			t.Errorf("%q names something", id)
		}
	}
}

// TestSecretKeys reads the public half of secret keys, but does not trust a file
// of them.
func TestSecretKeys(t *testing.T) {
	t.Parallel()
	e, public := newEntity(t, "a", nil)
	var secret bytes.Buffer
	testutil.Must(t, e.SerializePrivate(&secret, nil))
	list, err := ReadBlocks(secret.Bytes())
	testutil.Must(t, err)
	want, err := ReadBlocks(public)
	testutil.Must(t, err)
	if len(list) != 1 || list[0].Fingerprint != want[0].Fingerprint {
		t.Fatalf("%+v", list)
	}
	testutil.Must(t, (&Keyring{}).AddBlock(list[0]))
	for _, part := range list[0].parts {
		if part.tag == tagSecretKey || part.tag == tagSecretSubkey {
			t.Errorf("packet of type %d", part.tag)
		}
	}
	if err := (&Keyring{}).Add(secret.Bytes()); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

func TestUserIDs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]UserID{
		"Name <a@b>":      {Name: "Name", Email: "a@b"},
		"A B (c d) <a@b>": {Name: "A B", Comment: "c d", Email: "a@b"},
		"a@b":             {Email: "a@b"},
		"Only Name":       {Name: "Only Name"},
		"<a@b>":           {Email: "a@b"},
		"":                {},
	} {
		want.Text = text
		got := ParseUserID(text)
		if got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func seeds(f *testing.F) (public, sig []byte) {
	f.Helper()
	e, public := newEntity(f, "seed", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	sig = detach(f, e, []byte("data"), nil)
	return public, sig
}

// FuzzSignatures: what parses is judged without harm, and the packets that were
// split are the input again.
func FuzzSignatures(f *testing.F) {
	public, sig := seeds(f)
	v3 := append([]byte{0x88, 0x17, 3, 5, 0, 1, 2, 3, 4}, bytes.Repeat([]byte{7}, 8)...)
	f.Add(sig)
	f.Add(append(v3, 1, 8, 0, 0, 0, 8, 0xff))
	f.Add([]byte{0xc2, 0xff, 0xff, 0xff, 0xff, 0xff})
	k := &Keyring{}
	testutil.Must(f, k.Add(public))
	f.Fuzz(func(t *testing.T, data []byte) {
		var all []byte
		for rest := data; len(rest) > 0; {
			p, next, err := nextPacket(rest, maxSignature)
			if err != nil {
				break
			}
			if !bytes.HasSuffix(p.raw, p.body) {
				t.Fatal("the body is not the end of the packet")
			}
			all, rest = append(all, p.raw...), next
		}
		if !bytes.HasPrefix(data, all) {
			t.Fatal("the packets are not the input")
		}
		sigs, _ := Signatures(data)
		for _, s := range sigs {
			h, err := s.NewHash()
			if err != nil {
				continue
			}
			h.Write([]byte("other"))
			if v := k.Judge(s, h, Policy{}); v.Err == nil {
				t.Fatal("a signature over other bytes is good")
			}
		}
	})
}

// FuzzBlocks: what parses re-encodes to bytes that parse to the same.
func FuzzBlocks(f *testing.F) {
	public, _ := seeds(f)
	f.Add(public)
	f.Add(append(bytes.Clone(public), public...))
	var text bytes.Buffer
	w, err := armor.Encode(&text, "PGP PUBLIC KEY BLOCK", nil)
	testutil.Must(f, err)
	_, err = w.Write(public)
	testutil.Must(f, err)
	testutil.Must(f, w.Close())
	f.Add(text.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		blocks, err := ReadBlocks(data)
		if err != nil {
			return
		}
		k := &Keyring{}
		for _, b := range blocks {
			again, err := ReadBlocks(b.Bytes())
			if err != nil || len(again) != 1 || !bytes.Equal(again[0].Bytes(), b.Bytes()) {
				t.Fatalf("%d blocks, %v", len(again), err)
			}
			_ = k.AddBlock(b)
		}
		k.Certificates(time.Unix(1700000000, 0))
	})
}

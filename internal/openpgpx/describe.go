// SPDX-License-Identifier: Apache-2.0

package openpgpx

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Certificate describes the keys and user IDs of one certificate.
type Certificate struct {
	Keys    []Key    // the primary key first
	UserIDs []UserID // the primary one first
}

// Key is a primary key or a subkey.
type Key struct {
	Fingerprint string // hexadecimal, lower case
	Created     time.Time
	Expires     time.Time // zero: never
	Revoked     bool
	Expired     bool
	Invalid     bool // no valid signature of the primary key binds it
}

// UserID is a user ID; its parts are unchecked text.
type UserID struct {
	Text                 string
	Name, Comment, Email string
	Revoked              bool
	Invalid              bool // no valid self-signature
}

// Certificates describes the keyring as of now; a zero time means the clock's.
func (k *Keyring) Certificates(now time.Time) []Certificate {
	if now.IsZero() {
		now = time.Now()
	}
	var out []Certificate
	for _, c := range k.certs {
		out = append(out, k.describe(c, now))
	}
	return out
}

func (k *Keyring) describe(c certificate, now time.Time) Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := c.entity
	primary := Key{Fingerprint: c.block.Fingerprint, Created: e.PrimaryKey.CreationTime.UTC(), Revoked: e.Revoked(now)}
	self, err := e.PrimarySelfSignature(time.Time{}, lenient())
	primary.Invalid = err != nil && !primary.Revoked
	primary.Expires = expiry(e.PrimaryKey, self)
	primary.Expired = !primary.Revoked && past(primary.Expires, now)
	out := Certificate{Keys: []Key{primary}, UserIDs: userIDs(c, primary.Revoked)}
	for i := range e.Subkeys {
		out.Keys = append(out.Keys, describeSubkey(&e.Subkeys[i], primary, now))
	}
	return out
}

// describeSubkey applies what holds for the primary key to its subkey, as GnuPG
// does.
func describeSubkey(s *openpgp.Subkey, primary Key, now time.Time) Key {
	out := Key{Fingerprint: hex.EncodeToString(s.PublicKey.Fingerprint), Created: s.PublicKey.CreationTime.UTC()}
	bind, err := s.LatestValidBindingSignature(time.Time{}, lenient())
	out.Invalid = err != nil
	out.Revoked = primary.Revoked || s.Revoked(bind, now)
	out.Expires = expiry(s.PublicKey, bind)
	out.Expired = !out.Revoked && (primary.Expired || past(out.Expires, now))
	return out
}

func past(t, now time.Time) bool { return !t.IsZero() && now.After(t) }

func expiry(key *packet.PublicKey, sig *packet.Signature) time.Time {
	if sig == nil || sig.KeyLifetimeSecs == nil || *sig.KeyLifetimeSecs == 0 {
		return time.Time{}
	}
	return key.CreationTime.UTC().Add(time.Duration(*sig.KeyLifetimeSecs) * time.Second)
}

// userIDs lists the user IDs in file order, the primary one in front.
func userIDs(c certificate, revoked bool) []UserID {
	_, primary := c.entity.PrimaryIdentity(time.Time{}, lenient())
	var out []UserID
	for _, p := range c.block.parts {
		id, ok := c.entity.Identities[string(p.body)]
		if p.tag != tagUserID || !ok {
			continue
		}
		self, err := id.LatestValidSelfCertification(time.Time{}, lenient())
		u := ParseUserID(id.Name)
		u.Invalid = err != nil
		u.Revoked = revoked || id.Revoked(self, time.Time{}, lenient())
		if id == primary {
			out = slices.Insert(out, 0, u)
		} else {
			out = append(out, u)
		}
	}
	return out
}

// ParseUserID splits "Name (Comment) <address>"; any part may be absent.
func ParseUserID(text string) UserID {
	u := UserID{Text: text}
	rest := strings.TrimSpace(text)
	if i := strings.LastIndexByte(rest, '<'); i >= 0 && strings.HasSuffix(rest, ">") {
		u.Email = rest[i+1 : len(rest)-1]
		rest = strings.TrimSpace(rest[:i])
	} else if strings.Contains(rest, "@") && !strings.ContainsAny(rest, " ()") {
		u.Email, rest = rest, ""
	}
	if i := strings.IndexByte(rest, '('); i >= 0 && strings.HasSuffix(rest, ")") {
		u.Comment = rest[i+1 : len(rest)-1]
		rest = strings.TrimSpace(rest[:i])
	}
	u.Name = rest
	return u
}

// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"errors"
	"strings"

	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// Signature is one signature on a deployment's commit, for people.
type Signature struct {
	Type  string `json:"type"` // gpg, or one of package sign's
	Valid bool   `json:"valid"`
	// Key is the fingerprint of a GPG key, or a public key in hexadecimal.
	Key string `json:"key,omitempty"`
	// Problem tells why it is not valid.
	Problem string `json:"problem,omitempty"`
}

// String gives the words that "status" prints.
func (s Signature) String() string {
	if s.Valid {
		return "Valid signature by " + s.Key
	}
	if s.Key == "" {
		return s.Problem
	}
	return s.Problem + " (" + s.Key + ")"
}

// SignatureReport is what is known of a deployment's signatures.
type SignatureReport struct {
	// Verified tells whether the remote wants commits signed.
	Verified bool
	List     []Signature
}

// Signatures verifies the commit of a deployment again, with the keys that are
// trusted now for the remote it came from. Without a remote there is no report.
func Signatures(repo *ostree.Repo, d deploy.Deployment, o pull.TrustOptions) (SignatureReport, error) {
	name, _, ok := strings.Cut(d.Origin.Refspec(), ":")
	if !ok {
		return SignatureReport{}, nil
	}
	remote, err := pull.LoadRemote(repo, name)
	if errors.Is(err, pull.ErrNoRemote) {
		return SignatureReport{}, nil
	}
	if err != nil {
		return SignatureReport{}, err
	}
	trust, err := pull.LoadTrust(repo, remote, o)
	if err != nil {
		return SignatureReport{}, err
	}
	if !trust.CommitsVerified() {
		return SignatureReport{}, nil
	}
	r := SignatureReport{Verified: true}
	found, err := trust.Inspect(repo, d.Checksum)
	if err != nil {
		return r, err
	}
	for _, s := range found {
		r.List = append(r.List, Signature(s))
	}
	return r, nil
}

// lineError is an error in one line that libostree words in several.
type lineError struct {
	text string
	err  error
}

func (e *lineError) Error() string { return e.text }

func (e *lineError) Unwrap() error { return e.err }

// oneLine puts the description of refused signatures into one line.
func oneLine(err error) error {
	var g *sign.GPGError
	if !errors.As(err, &g) {
		return err
	}
	return &lineError{strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "), err}
}

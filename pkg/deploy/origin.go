// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// Origin says where a deployment came from and how it is to be treated: the key
// file beside its directory. An Origin is a value: the With methods return a
// changed copy. Groups and keys of other tools are kept.
type Origin struct{ file *keyfile.File }

const (
	originGroup    = "origin"
	transientGroup = "libostree-transient" // not carried to the next deployment
)

// NewOrigin makes an origin that follows refspec, [REMOTE:]REF.
func NewOrigin(refspec string) Origin {
	return Origin{}.with(originGroup, "refspec", refspec)
}

// ParseOrigin reads an origin file.
func ParseOrigin(data []byte) (Origin, error) {
	f, err := keyfile.Parse(data)
	if err != nil {
		return Origin{}, err
	}
	return Origin{file: f}, nil
}

// Bytes returns the origin as a file.
func (o Origin) Bytes() []byte {
	if o.file == nil {
		return keyfile.New().Bytes()
	}
	return o.file.Bytes()
}

func (o Origin) get(group, key string) string {
	if o.file == nil {
		return ""
	}
	s, err := o.file.GetString(group, key)
	if err != nil {
		return ""
	}
	return s
}

// with sets a key, or removes it for an empty value.
func (o Origin) with(group, key, value string) Origin {
	f := keyfile.New()
	if o.file != nil {
		f = o.file.Clone()
	}
	if value == "" {
		f.Remove(group, key)
		if len(f.Keys(group)) == 0 {
			f.RemoveGroup(group)
		}
		return Origin{file: f}
	}
	// The names are constants; a value that the format cannot hold (a NUL byte)
	// comes from no file and no refspec that was checked.
	if err := f.SetString(group, key, value); err != nil {
		return o
	}
	return Origin{file: f}
}

// Refspec returns the ref to follow, [REMOTE:]REF.
func (o Origin) Refspec() string { return o.get(originGroup, "refspec") }

// WithRefspec returns the origin following another ref, and nothing else instead.
func (o Origin) WithRefspec(refspec string) Origin {
	for _, key := range []string{"container-image-reference", "baserefspec", "unconfigured-state"} {
		o = o.with(originGroup, key, "")
	}
	return o.with(originGroup, "refspec", refspec)
}

// Foreign says what another program follows where there is no refspec; "" for nothing.
func (o Origin) Foreign() string {
	if image := o.get(originGroup, "container-image-reference"); image != "" {
		return "the container image " + image
	}
	if base := o.get(originGroup, "baserefspec"); base != "" {
		return "rpm-ostree's " + base + " with changes of its own"
	}
	return ""
}

// OverrideCommit returns the commit that the deployment is held at, if any.
func (o Origin) OverrideCommit() (ostree.Checksum, bool) {
	c, err := ostree.ParseChecksum(o.get(originGroup, "override-commit"))
	return c, err == nil
}

// WithOverrideCommit holds the deployment at a commit; zero lets it follow its ref again.
func (o Origin) WithOverrideCommit(c ostree.Checksum) Origin {
	if c.IsZero() {
		return o.with(originGroup, "override-commit", "")
	}
	return o.with(originGroup, "override-commit", c.String())
}

// Unlocked returns "", "development", "hotfix" or "transient".
func (o Origin) Unlocked() string { return o.get(originGroup, "unlocked") }

// UnconfiguredState is what has to be done before the host can follow its ref, in
// the words of whoever made it; "" for nothing.
func (o Origin) UnconfiguredState() string { return o.get(originGroup, "unconfigured-state") }

// Pinned reports that the deployment is never dropped automatically.
func (o Origin) Pinned() bool { return o.get(transientGroup, "pinned") == "true" }

// WithPinned sets or clears the pin.
func (o Origin) WithPinned(pinned bool) Origin {
	if !pinned {
		return o.with(transientGroup, "pinned", "")
	}
	return o.with(transientGroup, "pinned", "true")
}

// Successor returns the origin for the next deployment: without what holds for
// one deployment only.
func (o Origin) Successor() Origin {
	f := keyfile.New()
	if o.file != nil {
		f = o.file.Clone()
	}
	f.RemoveGroup(transientGroup)
	f.Remove(originGroup, "unlocked")
	return Origin{file: f}
}

// MarshalJSON gives the keys that a status report shows.
func (o Origin) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Refspec        string `json:"refspec,omitempty"`
		OverrideCommit string `json:"overrideCommit,omitempty"`
		Unlocked       string `json:"unlocked,omitempty"`
	}{o.Refspec(), o.get(originGroup, "override-commit"), o.Unlocked()})
}

func originPath(d Deployment) string { return d.Dir() + ".origin" }

// readOrigin reads a deployment's origin; a missing file is an empty origin.
func readOrigin(sysroot *fsx.Dir, d Deployment) (Origin, error) {
	data, err := sysroot.ReadFile(originPath(d), keyfile.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return Origin{}, nil
	}
	if err != nil {
		return Origin{}, err
	}
	o, err := ParseOrigin(data)
	if err != nil {
		return Origin{}, fmt.Errorf("parse %s: %w", originPath(d), err)
	}
	return o, nil
}

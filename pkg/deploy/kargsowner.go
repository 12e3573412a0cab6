// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// ownerKey begins the keys of a boot entry that note which program set which kernel
// arguments. The name and the meaning are bootc's; libostree carries such keys along.
const ownerKey = "x-options-source-"

// OwnerKargs are the kernel arguments that a program set, beside those of everybody else
// in the same command line.
type OwnerKargs struct {
	Name  string    `json:"name"`
	Kargs bls.Kargs `json:"kargs"`
	// Forget, in a Request, drops the owner with its arguments.
	Forget bool `json:"-"`
}

// Owners lists who set kernel arguments of d under a name, by name: libostree
// keeps no order of keys.
func (d Deployment) Owners() []OwnerKargs {
	var out []OwnerKargs
	for _, f := range d.extra {
		if name, ok := strings.CutPrefix(f.Key, ownerKey); ok {
			out = append(out, OwnerKargs{Name: name, Kargs: append(bls.Kargs{}, bls.ParseKargs(f.Value)...)})
		}
	}
	slices.SortFunc(out, func(a, b OwnerKargs) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (o OwnerKargs) check() error {
	if len(o.Name) > 64 || !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(o.Name) {
		return fmt.Errorf("%w: an owner's name has letters, digits, - and _, not %q", ErrInvalidKargs, o.Name)
	}
	return checkKargs(o.Kargs)
}

// replace takes what the owner had out of a command line and puts what it has now at the
// end, and says so in the keys.
func (o OwnerKargs) replace(k bls.Kargs, keys []bls.Field) (bls.Kargs, []bls.Field) {
	k, keys = slices.Clone(k), slices.Clone(keys)
	at := slices.IndexFunc(keys, func(f bls.Field) bool { return f.Key == ownerKey+o.Name })
	if at >= 0 {
		for _, a := range bls.ParseKargs(keys[at].Value) {
			if i := slices.Index(k, a); i >= 0 {
				k = slices.Delete(k, i, i+1)
			}
		}
	}
	field := bls.Field{Key: ownerKey + o.Name, Value: o.Kargs.String()}
	switch {
	case o.Forget && at >= 0:
		return k, slices.Delete(keys, at, at+1)
	case o.Forget:
		return k, keys
	case at >= 0:
		keys[at] = field
	default:
		keys = append(keys, field)
	}
	return k.Append(o.Kargs...), keys
}

// Changes reports whether setting the owner's arguments in d would change anything.
func (o OwnerKargs) Changes(d Deployment) bool {
	_, keys := o.replace(d.Kargs, d.extra)
	missing := func(a string) bool { return !slices.Contains(d.Kargs, a) }
	return !slices.Equal(keys, d.extra) || slices.ContainsFunc(o.Kargs, missing)
}

// applyOwner gives a request the keys of the deployment whose arguments it continues,
// and sets what Owner asks for, once.
func (req *Request) applyOwner() error {
	if req.keys != nil {
		return nil
	}
	req.keys = []bls.Field{}
	base := req.KargsFrom
	if base == nil {
		base = req.Merge
	}
	if base != nil {
		req.keys = append(req.keys, base.extra...)
	}
	if req.Owner == nil {
		return nil
	}
	if err := req.Owner.check(); err != nil {
		return err
	}
	req.Kargs, req.keys = req.Owner.replace(req.Kargs, req.keys)
	return nil
}

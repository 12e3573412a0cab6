// SPDX-License-Identifier: Apache-2.0

package pkglist

import (
	"errors"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func show(d Diff) string {
	var out []string
	for _, p := range d.Upgraded {
		out = append(out, "up "+p.Old.String()+">"+p.New.String())
	}
	for _, p := range d.Downgraded {
		out = append(out, "down "+p.Old.String()+">"+p.New.String())
	}
	for _, p := range d.Removed {
		out = append(out, "del "+p.String())
	}
	for _, p := range d.Added {
		out = append(out, "add "+p.String())
	}
	return strings.Join(out, " ")
}

func parse(t *testing.T, list string) []Package {
	t.Helper()
	var rows []gvariant.Value
	for p := range strings.SplitSeq(list, ",") {
		if f := strings.Fields(p); len(f) == 5 {
			rows = append(rows, gvariant.Tuple(gvariant.String(f[0]), gvariant.String(f[1]), gvariant.String(f[2]), gvariant.String(f[3]), gvariant.String(f[4])))
		}
	}
	var c ostree.Commit
	c.Metadata.Set(metadataKey, gvariant.Array("(sssss)", rows...))
	out, ok, err := Read(c)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	return out
}

func TestCompare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, to, want string }{
		{"a 0 1 1 n", "a 0 1 1 n", ""},
		{"a 0 1.9 1 n", "a 0 1.10 1 n", "up a-1.9-1.n>a-1.10-1.n"},
		{"a 0 1~rc1 1 n", "a 0 1 1 n", "up a-1~rc1-1.n>a-1-1.n"},
		{"a 1 1 1 n", "a 0 2 1 n", "down a-1:1-1.n>a-2-1.n"},
		{"l 0 1 1 x86_64,l 0 1 1 i686", "l 0 2 1 x86_64,l 0 2 1 i686", "up l-1-1.i686>l-2-1.i686 up l-1-1.x86_64>l-2-1.x86_64"},
		{"l 0 1 1 x86_64,l 0 1 1 i686", "l 0 2 1 x86_64", "up l-1-1.x86_64>l-2-1.x86_64 del l-1-1.i686"},
		{"a 0 1 1 noarch", "a 0 2 1 x86_64", "up a-1-1.noarch>a-2-1.x86_64"},
		{"a 0 1 1 noarch", "a 0 1 1 x86_64", "del a-1-1.noarch add a-1-1.x86_64"},
		{"k 0 1 1 n,k 0 2 1 n", "k 0 2 1 n,k 0 3 1 n", "up k-1-1.n>k-3-1.n"},
		{"k 0 1 1 n,k 0 2 1 n", "k 0 3 1 n", "del k-1-1.n del k-2-1.n add k-3-1.n"},
		{"", "b 0 1 1 n,a 0 1 1 n", "add a-1-1.n add b-1-1.n"},
	} {
		d := Compare(parse(t, c.from), parse(t, c.to))
		if got := show(d); got != c.want {
			t.Errorf("%s → %s: %s, want %s", c.from, c.to, got, c.want)
		}
		back := Compare(parse(t, c.to), parse(t, c.from))
		if len(back.Upgraded) != len(d.Downgraded) || len(back.Added) != len(d.Removed) {
			t.Errorf("%s → %s: not symmetric: %s", c.from, c.to, show(back))
		}
	}
	var bad ostree.Commit
	bad.Metadata.Set(metadataKey, gvariant.String("x"))
	if _, _, err := Read(bad); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

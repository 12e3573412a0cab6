// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// fuzzDir gives a directory with the file name made of the input.
func fuzzDir(t *testing.T, name string, data []byte) *fsx.Dir {
	t.Helper()
	d := testutil.OpenDir(t, t.TempDir())
	if err := errors.Join(d.MkdirAll(filepath.Dir(name), 0o755), d.WriteFile(name, data, 0o644)); err != nil {
		t.Fatal(err)
	}
	return d
}

// FuzzRefFile reads ref files: what is accepted is a checksum and white space.
func FuzzRefFile(f *testing.F) {
	sum := strings.Repeat("0123456789abcdef", 4)
	for _, s := range []string{sum + "\n", sum, " " + sum + "\r\n", sum + "0", strings.ToUpper(sum), "", "\n", sum + "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		c, err := readRefFile(fuzzDir(t, "refs/heads/a", data), "refs/heads/a")
		if err == nil && c.String() != strings.TrimSpace(string(data)) {
			t.Errorf("%q read as %s", data, c)
		}
	})
}

// FuzzCommitPartial reads marks: whatever is in the file, the commit is partial.
func FuzzCommitPartial(f *testing.F) {
	for _, s := range []string{"", "f", "f\n", "x", "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		r := &Repo{dir: fuzzDir(t, partialName(Checksum{1}), data)}
		state, err := r.partialState(Checksum{1})
		want := partialPull
		if bytes.HasPrefix(data, []byte{fsckMark}) {
			want = partialFsck
		}
		if state != want || err != nil {
			t.Errorf("mark %q is state %d, %v", data, state, err)
		}
	})
}

// FuzzRefspec: what parses is made of its parts again, and is a path that stays
// below refs/.
func FuzzRefspec(f *testing.F) {
	for _, s := range []string{"a", "origin:a/b", "a.b-c_d", "../x", "a//b", ":a", "a:", "a:b:c", "-a", ".a", "a/", "/a", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		defer testutil.Bounded(t)()
		remote, ref, err := SplitRefspec(spec)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v", spec, err)
			}
			return
		}
		again, want := ref, "refs/heads/"+ref
		if remote != "" {
			again, want = remote+":"+ref, "refs/remotes/"+remote+"/"+ref
		}
		p, err := refPath(spec)
		if again != spec || err != nil || p != want || filepath.Clean(p) != p || refspecOf(p) != spec {
			t.Errorf("%q: parts %q %q, path %q, %v", spec, remote, ref, p, err)
		}
	})
}

// FuzzHashOrder: the order of a hash table loses nothing, whatever the keys.
func FuzzHashOrder(f *testing.F) {
	f.Add("a b c d e f g h i j")
	f.Add("ostree.summary.mode ostree.summary.expires")
	f.Fuzz(func(t *testing.T, keys string) {
		defer testutil.Bounded(t)()
		var d gvariant.Dict
		for i, k := range strings.Fields(strings.ToValidUTF8(keys, "")) {
			d.Set(k, gvariant.Uint32(uint32(i)))
		}
		got := asHashed(d)
		a, b := d, got
		a.Sort()
		b.Sort()
		want, err := a.Marshal()
		if err != nil {
			return
		}
		if have, err := b.Marshal(); err != nil || !bytes.Equal(want, have) {
			t.Errorf("keys %q became %q, %v", d.Keys(), got.Keys(), err)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

func TestParseFragment(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"kargs = [\"a=b\", \"quiet\"]\n": "a=b quiet",
		"kargs = [\"a b\"]":              "a b",
		"kargs = [\"x\"]\nmatch-architectures = [\"x86_64\", \"aarch64\"]": "x",
		"kargs = [\"x\"]\nmatch-architectures = [\"s390x\"]":               "",
		"kargs = []": "",
	} {
		if got, err := parseFragment(in, "x86_64"); err != nil || got.String() != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"kargs = \"a\"", "karg = [\"a\"]", "kargs = [\"ostree=/x\"]", "kargs = [\"a\\nb\"]\nx"} {
		if got, err := parseFragment(in, "x86_64"); !errors.Is(err, ErrInvalidKargs) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func FuzzParseFragment(f *testing.F) {
	f.Add("kargs = [\"a=b\", \"quiet\"]\nmatch-architectures = [\"x86_64\"]\n")
	f.Fuzz(func(t *testing.T, in string) {
		k, err := parseFragment(in, "x86_64")
		if err != nil {
			return
		}
		if err := checkKargs(k); err != nil {
			t.Fatalf("%q gives %q: %v", in, k, err)
		}
	})
}

func TestMergeImageKargs(t *testing.T) {
	t.Parallel()
	k := func(s string) bls.Kargs { return bls.ParseKargs(s) }
	for _, c := range []struct{ now, from, next, want string }{
		{"root=x", "", "a b", "root=x a b"},
		{"root=x a b", "a b", "b c", "root=x b c"},
		{"root=x", "a", "a", "root=x"},    // deleted by hand, stays deleted
		{"root=x a", "", "a", "root=x a"}, // there already
		{"root=x a c", "a c", "", "root=x"},
	} {
		got := mergeImageKargs(k(c.now), k(c.from), k(c.next))
		if got.String() != c.want {
			t.Errorf("%+v: %q", c, got)
		}
		if again := mergeImageKargs(got, k(c.from), k(c.next)); again.String() != c.want {
			t.Errorf("%+v again: %q", c, again)
		}
	}
}

// TestImageKargs: what a tree brings arrives with it and goes with it; what the
// administrator did stays.
func TestImageKargs(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{})
	v1 := release("1", "1").with(kargsDir+"/10-a.toml", "kargs = [\"console=ttyS0\", \"quiet\"]\n").
		with(kargsDir+"/readme", "no fragment")
	b.deploy(b.commit("testos/main", "1", v1), Retention{})
	if got := b.load().Deployments[0].Kargs.String(); got != "root=LABEL=x rw console=ttyS0 quiet" {
		t.Fatal(got)
	}
	b.locked(func(l *Locked) {
		st := b.load()
		_, err := l.Write(t.Context(), WithKargs(st.Deployments, 0, bls.Kargs{"root=LABEL=x", "rw", "console=ttyS0", "mine"}))
		testutil.Must(t, err)
	})
	v2 := release("2", "1").with(kargsDir+"/10-a.toml", "kargs = [\"quiet\"]\n").with(kargsDir+"/20-b.toml", "kargs = [\"new=1\"]\n")
	b.deploy(b.commit("testos/main", "2", v2), Retention{})
	if got := b.load().Deployments[0].Kargs.String(); got != "root=LABEL=x rw mine new=1" {
		t.Error(got)
	}
	bad := b.commit("testos/main", "3", v2.with(kargsDir+"/30-c.toml", "kargs = 1\n"))
	b.locked(func(l *Locked) {
		if _, _, err := l.Deploy(t.Context(), Request{Stateroot: "testos", Commit: bad}); !errors.Is(err, ErrInvalidKargs) {
			t.Error(err)
		}
	})
}

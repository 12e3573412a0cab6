// SPDX-License-Identifier: Apache-2.0

package selinux

import (
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hostctl/hostctl/internal/testutil"
)

func TestErrorsNameFileAndLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/a\n":                      "fc:1: bad file contexts: a line needs a path and a context",
		"# c\n\n/a -x l\n":          "fc:3: bad file contexts: unknown file type -x",
		"/\xc3\xa4 l\n":             "fc:1: bad file contexts: a character outside of ASCII",
		"/a(?=b) l\n":               "fc:1: bad file contexts: pattern /a(?=b): group (?=: not supported",
		"/a(?<!b)c l\n":             "fc:1: bad file contexts: pattern /a(?<!b)c: group (?<: not supported",
		"/(a)\\1 l\n":               `fc:1: bad file contexts: pattern /(a)\1: \1: not supported`,
		"/a\\h l\n":                 `fc:1: bad file contexts: pattern /a\h: \h: not supported`,
		"/a\\ l\n":                  `fc:1: bad file contexts: pattern /a\: ends with a backslash`,
		"/a*+ l\n":                  "fc:1: bad file contexts: pattern /a*+: error parsing regexp: invalid nested repetition operator: `*+`",
		"/a[b l\n":                  "fc:1: bad file contexts: pattern /a[b: error parsing regexp: missing closing ]: `[b$`",
		"/a)b l\n":                  "fc:1: bad file contexts: pattern /a)b: error parsing regexp: unexpected ): `(?s)^/a)b$`",
		"/[[.a.]] l\n":              "fc:1: bad file contexts: pattern /[[.a.]]: class [[.a.]: not supported",
		"/a[\\b] l\n":               `fc:1: bad file contexts: pattern /a[\b]: \b: not supported`,
		"/" + rep("a", 4095) + " l": "fc:1: bad file contexts: the pattern is too long",
		"/x(abcdefghij){1000}y? l":  "too complex",
	} {
		_, err := Parse(Files{Name: "fc", Base: []byte(text)})
		if !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %.200v, want %s", text, err, want)
		}
	}
	_, err := Parse(Files{Name: "fc", Base: []byte(rep("/x(abcdefghij){500}y?	l\n", 200))})
	if !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), "more patterns than a policy has") {
		t.Errorf("many patterns: %v", err)
	}
	_, err = Parse(Files{Name: "fc", Base: []byte(rep("/a l\n", 110000))})
	if !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), "fc:104858: bad file contexts: more patterns") {
		t.Errorf("many lines: %v", err)
	}
	_, err = Parse(Files{Name: "fc", SubsDist: []byte("/a /b\n/c " + rep("d", 1100))})
	if !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), "fc.subs_dist:2: ") {
		t.Errorf("long line: %v", err)
	}
}

func rep(s string, n int) string { return strings.Repeat(s, n) }

// tree is a system in memory.
type tree fstest.MapFS

func (t tree) ReadFileInRoot(name string, _ int64) ([]byte, error) {
	return fs.ReadFile(fstest.MapFS(t), name)
}

func (t tree) Exists(name string) (bool, error) {
	_, err := fs.Stat(fstest.MapFS(t), name)
	return err == nil, nil
}

func files(pairs ...string) tree {
	t := tree{}
	for p := range slices.Chunk(pairs, 2) {
		t[p[0]] = &fstest.MapFile{Data: []byte(p[1])}
	}
	return t
}

func TestOpen(t *testing.T) {
	t.Parallel()
	const config, contexts, policy = "usr/etc/selinux/config", "usr/etc/selinux/x/contexts/files/file_contexts", "usr/etc/selinux/x/policy/policy.33"
	const on = "# c\nSELINUX=Permissive\nSELINUXTYPE= x \n"
	for _, c := range []struct {
		name string
		tree tree
		want error
	}{
		{"empty", files(), ErrNoPolicy},
		{"no config", files(contexts, "/.* a\n"), ErrNoPolicy},
		{"disabled", files(config, "SELINUX=disabled\nSELINUXTYPE=x\n", contexts, "/.* a\n", policy, ""), ErrNoPolicy},
		{"no type", files(config, "SELINUX=enforcing\n"), ErrPolicy},
		{"type leads out", files(config, "SELINUX=enforcing\nSELINUXTYPE=../x\n"), ErrPolicy},
		{"no contexts", files(config, on, policy, ""), ErrPolicy},
		{"no root", files(config, on, contexts, "/x a\n", policy, ""), ErrPolicy},
		{"bad contexts", files(config, on, contexts, "/x\n", policy, ""), ErrSyntax},
		{"no binary", files(config, on, contexts, "/.* a\n", policy+"x", ""), ErrPolicy},
		{"etc goes first", files("etc/selinux/config", "", config, on, contexts, "/.* a\n", policy, ""), ErrNoPolicy},
		{"good", files(config, on, contexts, "/.* a\n/etc/x -l b\n/proc <<none>>\n/mnt c\n", contexts+".subs", "/y /etc\n", policy, ""), nil},
	} {
		p, err := Open(c.tree)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.want != nil || err != nil {
			continue
		}
		if p.Name != "x" || p.Dir != "usr/etc/selinux/x" {
			t.Errorf("%s: %+v", c.name, p)
		}
		for path, want := range map[string]string{"/": "a", "/etc/x": "b", "/y/x": "b", "/proc": "c", EtcPath("/usr/etc/x"): "b", EtcPath("/usr/etcx"): "a"} {
			if got := p.Label(path, 0o120777); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
		if got := p.Label("/etc/x", 0o100644); got != "a" {
			t.Errorf("/etc/x as a file: %s", got)
		}
	}
}

// FuzzParse: no text breaks the reader, and a look-up gives a label of the text.
func FuzzParse(f *testing.F) {
	f.Add("/.*\ta\n/usr/(bin|sbin)/[^/]+	--	b\n/x	<<none>>\n", "/y /usr\n", "/usr/bin/x")
	f.Add("/a|b{2,3}[]x]	-d	a\n", "/ /\n", "//a//")
	f.Add("/(?:a)\\s\\.$	c", "", "/a\n")
	f.Fuzz(func(t *testing.T, text, subs, path string) {
		c, err := Parse(Files{Name: "fc", Base: []byte(text), Subs: []byte(subs)})
		if err != nil {
			if !errors.Is(err, ErrSyntax) {
				t.Fatal(err)
			}
			return
		}
		for _, mode := range []uint32{0, 0o100644, 0o040755} {
			label, ok := c.Lookup(path, mode)
			if ok == (label == "") || !strings.Contains(text, label) {
				t.Fatalf("%q: %q %v", path, label, ok)
			}
			// The index must not hide a spec that a plain walk finds.
			key := c.substitute(clean(path))
			var want string
			for _, s := range slices.Backward(c.specs) {
				if key != "" && (mode == 0 || s.typ == 0 || s.typ == mode&typeMask) && strings.HasPrefix(key, s.literal) && s.matches(newSubject(key)) {
					want = s.context
					break
				}
			}
			if ok != (want != "" && want != none) || ok && label != want {
				t.Fatalf("%q: %q, a walk finds %q", path, label, want)
			}
		}
	})
}

// TestShortcuts compares literal prefixes, tails and required texts with the bare expressions.
func TestShortcuts(t *testing.T) {
	t.Parallel()
	text := "/.* a\n/usr/.*\\.so(\\.[^/]*)* b\n/usr/(.*/)?lib(64)?/x?y[^/]+\\.conf c\n/us?r/x+ d\n/usr/bin/[^/]* e\n/usr/bin/[^/]+/z f\n/var(/.*)? g\n/v.r/(a|bc)d h\n"
	f := Files{Name: "fc", Base: []byte(text)}
	c, err := Parse(f)
	testutil.Must(t, err)
	for _, p := range patternPaths(t, f, 200) {
		if p == "" {
			continue
		}
		s := newSubject(clean(p))
		for _, spec := range c.specs {
			expr, err := translate(spec.pattern)
			testutil.Must(t, err)
			want := regexp.MustCompile(expr).MatchString(s.text) && (spec.stem == "" || spec.stem == s.stem)
			got := strings.HasPrefix(s.path, spec.literal) && spec.matches(s)
			if got != want {
				t.Fatalf("%s on %q: %v, the expression says %v", spec.pattern, p, got, want)
			}
		}
	}
}

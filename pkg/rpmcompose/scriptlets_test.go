// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// add builds packages into the repository.
func (b *bench) add(specs ...rpmtest.Spec) {
	b.t.Helper()
	rpms := filepath.Join(b.dir, "rpms")
	for _, s := range specs {
		s.Tags = "Provides: /bin/sh" // the base package has it and does not say so
		file := rpmtest.BuildFile(b.t, s)
		testutil.Must(b.t, os.Rename(file, filepath.Join(rpms, filepath.Base(file))))
	}
	testutil.Run(b.t, "createrepo_c", "--quiet", rpms)
}

// with composes the usual packages and more.
func (b *bench) with(ref string, env Env, more ...string) (Result, error) {
	b.t.Helper()
	dir := b.t.TempDir()
	text := "ref = '" + ref + "'\nrepos = ['main']\npackages = ['" + strings.Join(append(more, "base", "demo"), "', '") + "']\ncontainer = true\nselinux = false\n" +
		"preserve-passwd = true\ncheck-passwd = { type = 'previous' }\n"
	testutil.Must(b.t, os.WriteFile(filepath.Join(dir, "t.toml"), []byte(text), 0o644))
	m, err := treefile.Load(os.DirFS(dir), "t.toml", treefile.Options{Basearch: "x86_64"})
	testutil.Must(b.t, err)
	plan, err := Resolve(b.t.Context(), m, b.src)
	testutil.Must(b.t, err)
	env.Sources, env.Repo = b.src, b.repo
	return Execute(b.t.Context(), plan, env)
}

// TestHostilePackages: what a scriptlet of a real package does to its tree never
// reaches the repository or the cache, and the error and the logs name it.
func TestHostilePackages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(rpmtest.Spec{Name: "deletes", Extra: "%post\necho I delete\nrm -rf --no-preserve-root / 2>/dev/null\nexit 0"},
		rpmtest.Spec{Name: "loops", Extra: "%post\necho I loop\nwhile :; do :; done"},
		rpmtest.Spec{Name: "fails", Extra: "%pre\necho I fail\nexit 3"},
		rpmtest.Spec{Name: "moves", Extra: "%post\nf=demod:x:778:777::/:/bin/sh\ncat /etc/passwd > /etc/p\necho root:x:0:0:root:/root:/bin/sh > /etc/passwd\necho $f >> /etc/passwd\nrm /etc/p"})
	first, err := b.with("good", Env{})
	if err != nil {
		t.Fatal(err)
	}
	var failed *scripts.Error
	for _, tc := range []struct {
		name, said string
		want       error
	}{{"deletes", "I delete", scripts.ErrTreeDamaged}, {"loops", "I loop", scripts.ErrTimeout}, {"fails", "I fail", nil}} {
		res, err := b.with("bad", Env{ScriptTimeout: 3 * time.Second}, tc.name)
		if !errors.As(err, &failed) || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
			continue
		}
		if !strings.Contains(err.Error(), tc.name+"-1.0-1.noarch") || !strings.Contains(err.Error(), b.src.Cache.Path()+"/scriptlets") {
			t.Errorf("%s: message %v", tc.name, err)
		}
		log, err := b.src.Cache.ReadFile("scriptlets/"+tc.name+".log", 1<<16)
		if err != nil || !strings.Contains(string(log), tc.said) {
			t.Errorf("%s: log %q, %v", tc.name, log, err)
		}
		if _, err := b.repo.Resolve("bad"); !errors.Is(err, ostree.ErrNotFound) {
			t.Errorf("%s: ref: %v (%v)", tc.name, err, res.Commit)
		}
	}
	if _, err := b.with("good", Env{Force: true}, "moves"); !errors.Is(err, assemble.ErrDrift) || !strings.Contains(err.Error(), "user demod: uid was 777 and is 778") {
		t.Errorf("drift: %v", err)
	}
	// The cache is as it was: the same tree comes out of it.
	again, err := b.with("good", Env{Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if again.ContentChecksum != first.ContentChecksum {
		t.Errorf("content %s, before %s", again.ContentChecksum, first.ContentChecksum)
	}
}

// TestScriptRules: rules of the user come before the built-in ones and make
// another tree.
func TestScriptRules(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add(rpmtest.Spec{Name: "fails", Extra: "%pre\necho some output\nexit 3"},
		rpmtest.Spec{Name: "glibc", Extra: "%pre\ncat /dev/null > /usr/share/pre-ran"})
	rules, err := scripts.ParseRules("rules.toml", []byte(`
[[rule]]
package = "fail*"
kind = "pre"
action = "tolerate"
reason = "we know"
[[rule]]
package = "glibc"
action = "run"
reason = "this one is harmless"
`))
	testutil.Must(t, err)
	res, err := b.with("r", Env{ScriptRules: rules}, "fails", "glibc")
	if err != nil {
		t.Fatal(err)
	}
	b.file(res.Commit, "/usr/share/pre-ran")
	for _, d := range res.Scriptlets {
		if d.Package == "fails" && (!strings.Contains(d.Failed, "exit status 3") || !strings.Contains(d.Output, "some output")) {
			t.Errorf("tolerated: %+v", d)
		}
	}
	if _, err := b.with("r", Env{ScriptRules: rules}, "fails", "glibc"); !errors.Is(err, ErrUnchanged) {
		t.Errorf("the same again: %v", err)
	}
	if _, err := b.with("r", Env{}, "fails", "glibc"); errors.Is(err, ErrUnchanged) || err == nil {
		t.Errorf("without rules: %v", err)
	}
	plain, err := b.with("r", Env{NoScriptlets: true}, "fails", "glibc")
	if err != nil || plain.InputHash == res.InputHash || len(plain.Scriptlets) != 0 {
		t.Errorf("without scriptlets: %v, %d run, input hash %s", err, len(plain.Scriptlets), plain.InputHash)
	}
}

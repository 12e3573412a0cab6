// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// TestRemotesLikeTheRealTool adds and deletes the same remotes with the real
// tool and compares the configuration files byte for byte.
func TestRemotesLikeTheRealTool(t *testing.T) {
	t.Parallel()
	ostreeTool := testutil.Tool(t, "ostree")
	ours := newRepo(t, ostree.ModeBareUser)
	theirs := filepath.Join(t.TempDir(), "repo")
	testutil.Run(t, ostreeTool, "init", "--repo="+theirs, "--mode=bare-user")
	same := func(step string) {
		t.Helper()
		a, err := os.ReadFile(filepath.Join(theirs, "config"))
		testutil.Must(t, err)
		b, err := os.ReadFile(filepath.Join(ours.Dir().Path(), "config"))
		testutil.Must(t, err)
		if diff := cmp.Diff(string(a), string(b)); diff != "" {
			t.Errorf("%s (-theirs +ours):\n%s", step, diff)
		}
	}
	first := Remote{Name: "first", URL: "http://example.com/repo/", Branches: []string{"a/b", "c"}, NoGPGVerify: true}
	testutil.Must(t, AddRemote(ours, first, AddOptions{}))
	testutil.Run(t, ostreeTool, "remote", "--repo="+theirs, "add", "--no-gpg-verify", "first", first.URL, "a/b", "c")
	same("add")
	second := Remote{Name: "second", URL: "https://example.com/x?a=b"}
	testutil.Must(t, AddRemote(ours, second, AddOptions{Set: [][2]string{{"tls-permissive", "true"}}}))
	testutil.Run(t, ostreeTool, "remote", "--repo="+theirs, "add", "--set=tls-permissive=true", "second", second.URL)
	same("add with a further key")
	if err := AddRemote(ours, first, AddOptions{}); !errors.Is(err, ErrRemoteExists) {
		t.Errorf("name taken: %v", err)
	}
	testutil.Must(t, AddRemote(ours, first, AddOptions{IfNotExists: true}))
	same("add that changes nothing")
	names, err := Remotes{Repo: ours}.List()
	testutil.Must(t, err)
	if diff := cmp.Diff([]string{"first", "second"}, names); diff != "" {
		t.Error(diff)
	}
	for _, repo := range []*ostree.Repo{ours, openRepo(t, theirs, ostree.ModeBareUser)} {
		got, err := LoadRemote(repo, "first")
		testutil.Must(t, err)
		if diff := cmp.Diff(first, got, cmpopts.IgnoreUnexported(Remote{})); diff != "" {
			t.Error(diff)
		}
	}
	testutil.Must(t, os.WriteFile(filepath.Join(ours.Dir().Path(), "first.trustedkeys.gpg"), nil, 0o644))
	testutil.Must(t, Remotes{Repo: ours}.Delete("first"))
	testutil.Run(t, ostreeTool, "remote", "--repo="+theirs, "delete", "first")
	same("delete")
	if ok, _ := ours.Dir().Exists("first.trustedkeys.gpg"); ok {
		t.Error("the keys of a deleted remote are still there")
	}
	if err := (Remotes{Repo: ours}).Delete("first"); !errors.Is(err, ErrNoRemote) {
		t.Errorf("delete again: %v", err)
	}
	if _, err := LoadRemote(ours, "first"); !errors.Is(err, ErrNoRemote) {
		t.Errorf("load deleted: %v", err)
	}
}

func TestRemoteDefaultsAreSafe(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeBareUser)
	testutil.Must(t, AddRemote(r, Remote{Name: "o", URL: "https://example.com"}, AddOptions{}))
	got, err := LoadRemote(r, "o")
	testutil.Must(t, err)
	if got.NoGPGVerify || got.TLSPermissive || got.SignVerify {
		t.Errorf("defaults: %+v", got)
	}
	for key, value := range map[string]string{"gpg-verify": "maybe", "branches": `\q`} {
		testutil.Must(t, AddRemote(r, Remote{Name: "bad", URL: "https://example.com"}, AddOptions{Force: true, Set: [][2]string{{key, value}}}))
		if _, err := LoadRemote(r, "bad"); err == nil {
			t.Errorf("%s=%s was accepted", key, value)
		}
	}
	for value, want := range map[string]bool{"false": false, "true": true, "ed25519;": true} {
		testutil.Must(t, AddRemote(r, Remote{Name: "s", URL: "https://example.com"}, AddOptions{Force: true, Set: [][2]string{{"sign-verify", value}}}))
		got, err := LoadRemote(r, "s")
		testutil.Must(t, err)
		if got.SignVerify != want {
			t.Errorf("sign-verify=%s read as %v", value, got.SignVerify)
		}
	}
	for _, bad := range []Remote{
		{Name: "a/b", URL: "http://x"}, {Name: `a"`, URL: "http://x"}, {Name: "..", URL: "http://x"}, {Name: "o"},
		{Name: "x", URL: "http://x", Branches: []string{"../y"}},
	} {
		if err := AddRemote(r, bad, AddOptions{}); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
	// As with the real tool these can be written down; a pull refuses them.
	for _, bad := range []Remote{
		{Name: "x", URL: "ftp://x"}, {Name: "x", URL: "relative"}, {Name: "x", URL: "file://host/x"},
		{Name: "x", URL: "https://x", TLSClientKeyPath: "/k"}, {Name: "x", CustomBackend: "other"},
	} {
		bad.NoGPGVerify = true
		testutil.Must(t, AddRemote(r, bad, AddOptions{Force: true}))
		loaded, err := LoadRemote(r, "x")
		testutil.Must(t, err)
		if _, err := Pull(t.Context(), r, loaded, Request{Refs: []string{"y"}}); err == nil {
			t.Errorf("pulled from %+v", bad)
		}
	}
	testutil.Must(t, AddRemote(r, Remote{Name: "u", URL: "https://example.com"}, AddOptions{Set: [][2]string{{"unconfigured-state", "register first"}}}))
	u, err := LoadRemote(r, "u")
	testutil.Must(t, err)
	if _, err := Pull(t.Context(), r, u, Request{Refs: []string{"x"}}); err == nil || !errors.Is(u.check(), err) && err.Error() == "" {
		t.Errorf("unconfigured remote: %v", err)
	}
}

func FuzzSummary(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte("t/v1\x00\x00\x00\x00\x6e\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		s, err := parseSummary(data, nil)
		if err != nil {
			return
		}
		for _, w := range s.all() {
			if err := ostree.CheckRef(w.ref); err != nil {
				t.Fatalf("accepted ref %q", w.ref)
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// TestDropInRemotes keeps the system's remotes in files of their own.
func TestDropInRemotes(t *testing.T) {
	t.Parallel()
	repo := newRepo(t, ostree.ModeBareUser)
	where := t.TempDir()
	dir := testutil.OpenDir(t, where)
	s := Remotes{Repo: repo, Dir: dir}
	testutil.Must(t, AddRemote(repo, Remote{Name: "old", URL: "http://old"}, AddOptions{}))
	testutil.Must(t, s.Add(Remote{Name: "new", URL: "http://new"}, AddOptions{}))
	testutil.Must(t, os.WriteFile(filepath.Join(where, "two.conf"), []byte("[remote \"a\"]\nurl=http://a\n[remote \"b\"]\nurl=http://b\ngpg-verify=false\n"), 0o644))
	testutil.Must(t, os.WriteFile(filepath.Join(where, "README"), []byte("no configuration"), 0o644))
	names, err := s.List()
	testutil.Must(t, err)
	if diff := cmp.Diff([]string{"a", "b", "new", "old"}, names); diff != "" {
		t.Error(diff)
	}
	b, err := s.Load("b")
	testutil.Must(t, err)
	if v, ok := b.Option("gpg-verify"); b.URL != "http://b" || !b.NoGPGVerify || !ok || v != "false" {
		t.Errorf("b = %+v", b)
	}
	if _, err := LoadRemote(repo, "b"); !errors.Is(err, ErrNoRemote) {
		t.Errorf("without the folder: %v", err)
	}
	if err := s.Add(Remote{Name: "a", URL: "http://c"}, AddOptions{}); !errors.Is(err, ErrRemoteExists) {
		t.Errorf("name taken: %v", err)
	}
	testutil.Must(t, s.Add(Remote{Name: "a", URL: "http://c"}, AddOptions{Force: true}))
	testutil.Must(t, s.Delete("b"))
	a, err := s.Load("a")
	testutil.Must(t, err)
	if a.URL != "http://c" {
		t.Errorf("replaced remote: %+v", a)
	}
	testutil.Must(t, s.Delete("a"))
	testutil.Must(t, s.Delete("old"))
	if ok, _ := dir.Exists("two.conf"); ok {
		t.Error("a file without remotes is left")
	}
	if ok, _ := dir.Exists("new.conf"); !ok {
		t.Error("the remote has no file of its own")
	}
	// The same name in two places has no meaning.
	testutil.Must(t, AddRemote(repo, Remote{Name: "new", URL: "http://other"}, AddOptions{}))
	if _, err := s.Load("new"); !errors.Is(err, ostree.ErrInvalid) {
		t.Errorf("ambiguous remote: %v", err)
	}
	testutil.Must(t, Remotes{Repo: repo}.Delete("new"))
	cfg := repo.Config()
	testutil.Must(t, cfg.SetBool("core", "add-remotes-config-dir", false))
	testutil.Must(t, repo.SetConfig(cfg))
	testutil.Must(t, s.Add(Remote{Name: "inside", URL: "http://in"}, AddOptions{}))
	if _, err := LoadRemote(repo, "inside"); err != nil {
		t.Errorf("add-remotes-config-dir=false: %v", err)
	}
}

// TestParentRemotes pulls through a remote that only the parent has configured.
func TestParentRemotes(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 5})
	s := serve(t, src)
	parent := newRepo(t, ostree.ModeBareUser)
	testutil.Must(t, AddRemote(parent, s.remote(), AddOptions{Set: [][2]string{{"branches", ref + ";"}}}))
	where := filepath.Join(t.TempDir(), "repo")
	testutil.Must(t, os.MkdirAll(where, 0o755))
	d := testutil.OpenDir(t, where)
	child, err := ostree.Create(d, ostree.ModeBareUser, ostree.Options{DisableFsync: true, Parent: parent})
	testutil.Must(t, err)
	t.Cleanup(func() { child.Close() })
	names, err := Remotes{Repo: child}.List()
	testutil.Must(t, err)
	if diff := cmp.Diff([]string{"o"}, names); diff != "" {
		t.Error(diff)
	}
	// What the child says goes before what the parent says.
	testutil.Must(t, AddRemote(child, Remote{Name: "o", URL: s.URL + "/"}, AddOptions{}))
	r, err := LoadRemote(child, "o")
	testutil.Must(t, err)
	if r.URL != s.URL+"/" || !r.NoGPGVerify || len(r.Branches) != 1 {
		t.Errorf("remote = %+v", r)
	}
	_, err = Pull(t.Context(), parent, r, Request{})
	testutil.Must(t, err)
	s.forget()
	res, err := Pull(t.Context(), child, r, Request{})
	testutil.Must(t, err)
	if res.Content != 0 || res.Refs["o:"+ref] != c {
		t.Errorf("objects of the parent were requested: %+v", res)
	}
	if err := (Remotes{Repo: child}).Delete("o"); err != nil {
		t.Error(err)
	}
	if err := (Remotes{Repo: child}).Delete("o"); !errors.Is(err, ErrNoRemote) {
		t.Errorf("delete the parent's remote: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// TestDropInRemotes keeps the system's remotes in files of their own.
func TestDropInRemotes(t *testing.T) {
	t.Parallel()
	repo := newRepo(t, ostree.ModeBareUser)
	where := t.TempDir()
	dir, err := fsx.OpenDir(where)
	must(t, err)
	t.Cleanup(func() { dir.Close() })
	s := Remotes{Repo: repo, Dir: dir}
	must(t, AddRemote(repo, Remote{Name: "old", URL: "http://old"}, AddOptions{}))
	must(t, s.Add(Remote{Name: "new", URL: "http://new"}, AddOptions{}))
	must(t, os.WriteFile(filepath.Join(where, "two.conf"), []byte("[remote \"a\"]\nurl=http://a\n[remote \"b\"]\nurl=http://b\ngpg-verify=false\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(where, "README"), []byte("no configuration"), 0o644))
	names, err := s.List()
	must(t, err)
	if diff := cmp.Diff([]string{"a", "b", "new", "old"}, names); diff != "" {
		t.Error(diff)
	}
	b, err := s.Load("b")
	must(t, err)
	if v, ok := b.Option("gpg-verify"); b.URL != "http://b" || !b.NoGPGVerify || !ok || v != "false" {
		t.Errorf("b = %+v", b)
	}
	if _, err := LoadRemote(repo, "b"); !errors.Is(err, ErrNoRemote) {
		t.Errorf("without the folder: %v", err)
	}
	if err := s.Add(Remote{Name: "a", URL: "http://c"}, AddOptions{}); !errors.Is(err, ErrRemoteExists) {
		t.Errorf("name taken: %v", err)
	}
	must(t, s.Add(Remote{Name: "a", URL: "http://c"}, AddOptions{Force: true}))
	must(t, s.Delete("b"))
	a, err := s.Load("a")
	must(t, err)
	if a.URL != "http://c" {
		t.Errorf("replaced remote: %+v", a)
	}
	must(t, s.Delete("a"))
	must(t, s.Delete("old"))
	if ok, _ := dir.Exists("two.conf"); ok {
		t.Error("a file without remotes is left")
	}
	if ok, _ := dir.Exists("new.conf"); !ok {
		t.Error("the remote has no file of its own")
	}
	// The same name in two places has no meaning.
	must(t, AddRemote(repo, Remote{Name: "new", URL: "http://other"}, AddOptions{}))
	if _, err := s.Load("new"); !errors.Is(err, ostree.ErrInvalid) {
		t.Errorf("ambiguous remote: %v", err)
	}
	must(t, DeleteRemote(repo, "new"))
	cfg := repo.Config()
	must(t, cfg.SetBool("core", "add-remotes-config-dir", false))
	must(t, repo.SetConfig(cfg))
	must(t, s.Add(Remote{Name: "inside", URL: "http://in"}, AddOptions{}))
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
	must(t, AddRemote(parent, s.remote(), AddOptions{Set: [][2]string{{"branches", ref + ";"}}}))
	where := filepath.Join(t.TempDir(), "repo")
	must(t, os.MkdirAll(where, 0o755))
	d, err := fsx.OpenDir(where)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	child, err := ostree.Create(d, ostree.ModeBareUser, ostree.Options{DisableFsync: true, Parent: parent})
	must(t, err)
	t.Cleanup(func() { child.Close() })
	names, err := ListRemotes(child)
	must(t, err)
	if diff := cmp.Diff([]string{"o"}, names); diff != "" {
		t.Error(diff)
	}
	// What the child says goes before what the parent says.
	must(t, AddRemote(child, Remote{Name: "o", URL: s.URL + "/"}, AddOptions{}))
	r, err := LoadRemote(child, "o")
	must(t, err)
	if r.URL != s.URL+"/" || !r.NoGPGVerify || len(r.Branches) != 1 {
		t.Errorf("remote = %+v", r)
	}
	_, err = Pull(t.Context(), parent, r, Request{})
	must(t, err)
	s.forget()
	res, err := Pull(t.Context(), child, r, Request{})
	must(t, err)
	if res.Content != 0 || res.Refs["o:"+ref] != c {
		t.Errorf("objects of the parent were requested: %+v", res)
	}
	if err := DeleteRemote(child, "o"); err != nil {
		t.Error(err)
	}
	if err := DeleteRemote(child, "o"); !errors.Is(err, ErrNoRemote) {
		t.Errorf("delete the parent's remote: %v", err)
	}
}

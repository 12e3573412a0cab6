// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func openRepo(t testing.TB, path string, mode ostree.Mode) *ostree.Repo {
	t.Helper()
	testutil.Must(t, os.MkdirAll(path, 0o755))
	d := testutil.OpenDir(t, path)
	// Syncing would only slow these tests down: none of them cuts the power.
	r, err := ostree.Create(d, mode, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func newRepo(t testing.TB, mode ostree.Mode) *ostree.Repo {
	t.Helper()
	return openRepo(t, filepath.Join(t.TempDir(), "repo"), mode)
}

// bareMode is bare where the tests may change owners.
func bareMode() ostree.Mode {
	if os.Geteuid() == 0 {
		return ostree.ModeBare
	}
	return ostree.ModeBareUser
}

// spec describes a commit to make.
type spec struct {
	ref    string
	files  int // in several directories, of growing size
	salt   string
	parent ostree.Checksum
	time   uint64
	meta   gvariant.Dict
	sigs   gvariant.Dict
}

// content is what file i of a spec holds: some compress well, some are large.
func (s spec) content(i int) []byte {
	line := fmt.Sprintf("%s file %d\n", s.salt, i)
	return bytes.Repeat([]byte(line), 1+i*i*7%4000)
}

func commit(t testing.TB, r *ostree.Repo, s spec) ostree.Checksum {
	t.Helper()
	var sum ostree.Checksum
	_, err := r.Update(t.Context(), func(ctx context.Context, x *ostree.Txn) error {
		c, err := buildTree(ctx, x, s)
		if err != nil {
			return err
		}
		c.Parent, c.Timestamp, c.Metadata, c.Subject = s.parent, s.time, s.meta, "test"
		if sum, err = x.WriteCommit(ctx, c); err != nil {
			return err
		}
		if s.sigs.Len() > 0 {
			if err := x.SetCommitMeta(ctx, sum, s.sigs); err != nil {
				return err
			}
		}
		return x.SetRef(s.ref, sum)
	})
	testutil.Must(t, err)
	return sum
}

// buildTree writes two levels of directories, regular files and a link each.
func buildTree(ctx context.Context, x *ostree.Txn, s spec) (ostree.Commit, error) {
	var c ostree.Commit
	metaRaw, err := ostree.DirMeta{Mode: 0o40755}.Marshal()
	if err != nil {
		return c, err
	}
	meta, err := x.WriteMetadata(ctx, ostree.TypeDirMeta, metaRaw)
	if err != nil {
		return c, err
	}
	var root ostree.DirTree
	for dir := range 3 {
		var tree ostree.DirTree
		for i := dir; i < s.files; i += 3 {
			data := s.content(i)
			h := ostree.FileHeader{Mode: 0o100644}
			f, err := x.WriteContent(ctx, h, int64(len(data)), bytes.NewReader(data))
			if err != nil {
				return c, err
			}
			tree.Files = append(tree.Files, ostree.TreeFile{Name: fmt.Sprintf("f%04d", i), Checksum: f})
		}
		link := ostree.FileHeader{Mode: 0o120777, Target: fmt.Sprintf("f%04d", dir)}
		f, err := x.WriteContent(ctx, link, 0, bytes.NewReader(nil))
		if err != nil {
			return c, err
		}
		tree.Files = append(tree.Files, ostree.TreeFile{Name: "link", Checksum: f})
		raw, err := tree.Marshal()
		if err != nil {
			return c, err
		}
		sum, err := x.WriteMetadata(ctx, ostree.TypeDirTree, raw)
		if err != nil {
			return c, err
		}
		root.Dirs = append(root.Dirs, ostree.TreeDir{Name: fmt.Sprintf("d%d", dir), Tree: sum, Meta: meta})
	}
	raw, err := root.Marshal()
	if err != nil {
		return c, err
	}
	c.RootMeta = meta
	c.RootTree, err = x.WriteMetadata(ctx, ostree.TypeDirTree, raw)
	return c, err
}

// site is a static web server that counts requests and can misbehave.
type site struct {
	*httptest.Server
	// fault may answer instead of the server; n counts requests of this path from 1.
	fault func(w http.ResponseWriter, r *http.Request, n int) bool

	mu       sync.Mutex
	requests map[string]int
	only     string // count this user agent alone; "" counts all
}

func serve(t testing.TB, r *ostree.Repo) *site {
	t.Helper()
	s := &site{requests: map[string]int{}}
	root := r.Dir().Path()
	files := http.FileServer(http.Dir(root))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		if s.only == "" || s.only == req.UserAgent() {
			s.requests[req.URL.Path]++
		}
		n := s.requests[req.URL.Path]
		fault := s.fault
		s.mu.Unlock()
		if fault != nil && fault(w, req, n) {
			return
		}
		w.Header().Set("ETag", `"`+filepath.Base(req.URL.Path)+`"`)
		files.ServeHTTP(w, req)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) misbehave(f func(w http.ResponseWriter, r *http.Request, n int) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// forget starts the counting anew and gives what was counted.
func (s *site) forget() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.requests
	s.requests = map[string]int{}
	return old
}

// countOnly restricts the counting, from an empty start, to one user agent:
// requests of a killed client can still arrive after its death.
func (s *site) countOnly(agent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.only, s.requests = agent, map[string]int{}
}

func (s *site) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[path]
}

func (s *site) remote() Remote { return Remote{Name: "o", URL: s.URL, NoGPGVerify: true} }

// quick retries without the pauses that real networks need.
func quick() Network { return Network{RetryDelay: time.Millisecond} }

// objects lists what a repository stores, as paths of an archive.
func objects(t testing.TB, r *ostree.Repo) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	root := r.Dir().Path()
	err := filepath.WalkDir(filepath.Join(root, "objects"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(p, root)
		if strings.HasSuffix(name, ".file") {
			name += "z"
		}
		out[name] = true
		return nil
	})
	testutil.Must(t, err)
	return out
}

// pathOf is where a server has an object.
func pathOf(n ostree.ObjectName) string { return "/" + ostree.LoosePath(n) }

// fileOf finds the content object of one file of a commit.
func fileOf(t testing.TB, r *ostree.Repo, c ostree.Checksum, dir, name string) ostree.ObjectName {
	t.Helper()
	com, err := r.LoadCommit(c)
	testutil.Must(t, err)
	root, err := r.LoadDirTree(com.RootTree)
	testutil.Must(t, err)
	d, ok := root.Dir(dir)
	if !ok {
		t.Fatalf("no directory %s", dir)
	}
	tree, err := r.LoadDirTree(d.Tree)
	testutil.Must(t, err)
	f, ok := tree.File(name)
	if !ok {
		t.Fatalf("no file %s", name)
	}
	return ostree.ObjectName{Checksum: f.Checksum, Type: ostree.TypeFile}
}

// wantUntouched checks that a failed pull left no ref and no complete commit.
func wantUntouched(t testing.TB, r *ostree.Repo, c ostree.Checksum) {
	t.Helper()
	refs, err := r.Refs("")
	testutil.Must(t, err)
	if len(refs) != 0 {
		t.Errorf("refs after a failed pull: %v", refs)
	}
	has, err := r.Has(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
	testutil.Must(t, err)
	partial, err := r.CommitPartial(c)
	testutil.Must(t, err)
	if has && !partial {
		t.Error("an incomplete commit is not marked as partial")
	}
}

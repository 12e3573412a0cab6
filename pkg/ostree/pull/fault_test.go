// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// TestResumeAfterCancel interrupts a pull in the middle and proves from the
// server's own count that the next one asks for nothing that had arrived.
func TestResumeAfterCancel(t *testing.T) {
	t.Parallel()
	for _, mode := range []ostree.Mode{bareMode(), ostree.ModeArchive} {
		src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, mode)
		c := commit(t, src, spec{ref: ref, files: 120, time: 1})
		s := serve(t, src)
		ctx, cancel := context.WithCancel(t.Context())
		var files atomic.Int64
		s.misbehave(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if strings.HasSuffix(r.URL.Path, ".filez") && files.Add(1) == 60 {
				cancel()
			}
			return false
		})
		res, err := Pull(ctx, dst, s.remote(), Request{Refs: []string{ref}})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled pull: %v", err)
		}
		wantUntouched(t, dst, c)
		landed := objects(t, dst)
		// Requests for detached metadata and, where deltas apply, a superblock count too.
		extra := res.Metadata + res.Content - len(landed)
		if len(landed) < 40 || extra < 1 || extra > 2 {
			t.Fatalf("%d objects landed of %d+%d received", len(landed), res.Metadata, res.Content)
		}
		s.forget()
		s.misbehave(nil)
		again, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}})
		testutil.Must(t, err)
		for path := range s.forget() {
			if landed[path] {
				t.Errorf("%s was requested again", path)
			}
		}
		all := objects(t, dst)
		if len(all) != len(objects(t, src)) || again.Metadata+again.Content != len(all)-len(landed)+extra {
			t.Errorf("%d objects after the second pull, which received %d+%d", len(all), again.Metadata, again.Content)
		}
		if partial, _ := dst.CommitPartial(c); partial {
			t.Error("still marked as partial")
		}
	}
}

// TestResumeAfterKill is the same with a process that dies without a chance to
// clean up: the next one of the same boot takes over what was written.
func TestResumeAfterKill(t *testing.T) {
	t.Parallel()
	const dirVar, urlVar = "HOSTCTL_TEST_PULL_DIR", "HOSTCTL_TEST_PULL_URL"
	if dir := os.Getenv(dirVar); dir != "" {
		remote := Remote{Name: "o", URL: os.Getenv(urlVar), NoGPGVerify: true}
		_, err := Pull(t.Context(), openRepo(t, dir, ostree.ModeArchive), remote, Request{Refs: []string{ref}})
		t.Fatalf("the pull ended instead of being killed: %v", err)
	}
	src := newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 120, time: 1})
	s := serve(t, src)
	dir := filepath.Join(t.TempDir(), "repo")
	dst := openRepo(t, dir, ostree.ModeArchive)
	cmd := exec.Command(os.Args[0], "-test.run=^TestResumeAfterKill$")
	cmd.Env = append(os.Environ(), dirVar+"="+dir, urlVar+"="+s.URL, "HOSTCTL_FAILPOINTS=ostree.txn.write=skip:60:kill")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ProcessState.ExitCode() != -1 {
		t.Fatalf("child: %v\n%s", err, out)
	}
	wantUntouched(t, dst, c)
	left := stagedPaths(t, dst)
	if len(left) < 50 {
		t.Fatalf("the killed pull left %d objects of 60", len(left))
	}
	const second = "second"
	s.countOnly(second)
	res, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: Network{UserAgent: second}})
	testutil.Must(t, err)
	all := len(objects(t, src))
	if len(objects(t, dst)) != all {
		t.Errorf("%d objects, want %d", len(objects(t, dst)), all)
	}
	commitPath := pathOf(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
	sent := 0
	for path, n := range s.forget() {
		sent += n
		if n > 1 {
			t.Errorf("%s was requested %d times", path, n)
		}
		// The commit is looked up before the transaction that takes over.
		if left[path] && path != commitPath {
			t.Errorf("%s was requested although the killed pull had written it", path)
		}
	}
	if sent != res.Requests {
		t.Errorf("the server counted %d requests, the client %d", sent, res.Requests)
	}
}

// stagedPaths lists what a dead transaction left, as paths of an archive.
func stagedPaths(t *testing.T, r *ostree.Repo) map[string]bool {
	t.Helper()
	staging, err := filepath.Glob(filepath.Join(r.Dir().Path(), "tmp/staging-*"))
	testutil.Must(t, err)
	out := map[string]bool{}
	for _, top := range staging {
		testutil.Must(t, filepath.WalkDir(top, func(p string, e fs.DirEntry, err error) error {
			base := strings.ReplaceAll(strings.TrimPrefix(p, top+"/"), ".new/", "")
			if len(base) > 64 && err == nil && !e.IsDir() {
				if strings.HasSuffix(base, ".file") {
					base += "z"
				}
				out["/objects/"+base[:2]+"/"+base[2:]] = true
			}
			return err
		}))
	}
	return out
}

// big commits one file that does not fit into any buffer and finds its object.
func big(t *testing.T) (src *ostree.Repo, path string, size int64) {
	t.Helper()
	src = newRepo(t, ostree.ModeArchive)
	noise := make([]byte, 3<<20)
	seed := uint32(1)
	for i := range noise {
		seed = seed*1664525 + 1013904223
		noise[i] = byte(seed >> 24)
	}
	_, err := src.Update(t.Context(), func(ctx context.Context, x *ostree.Txn) error {
		c, err := buildTree(ctx, x, spec{files: 2})
		if err != nil {
			return err
		}
		f, err := x.WriteContent(ctx, ostree.FileHeader{Mode: 0o100644}, int64(len(noise)), bytes.NewReader(noise))
		if err != nil {
			return err
		}
		raw, err := ostree.DirTree{Files: []ostree.TreeFile{{Name: "big", Checksum: f}}}.Marshal()
		if err != nil {
			return err
		}
		if c.RootTree, err = x.WriteMetadata(ctx, ostree.TypeDirTree, raw); err != nil {
			return err
		}
		path = pathOf(ostree.ObjectName{Checksum: f, Type: ostree.TypeFile})
		sum, err := x.WriteCommit(ctx, c)
		if err != nil {
			return err
		}
		return x.SetRef(ref, sum)
	})
	testutil.Must(t, err)
	st, err := os.Stat(src.Dir().Path() + path)
	testutil.Must(t, err)
	return src, path, st.Size()
}

// cut answers with the first part of a file and then breaks the connection.
func cut(w http.ResponseWriter, file string, size int64, part int) {
	data, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	w.Header().Set("ETag", `"`+filepath.Base(file)+`"`)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, _ = w.Write(data[:part])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// TestRangeResume breaks a transfer twice; the rest is asked for as a range.
func TestRangeResume(t *testing.T) {
	t.Parallel()
	for _, ranges := range []bool{true, false} {
		src, path, size := big(t)
		s := serve(t, src)
		var asked []string
		s.misbehave(func(w http.ResponseWriter, r *http.Request, n int) bool {
			if r.URL.Path != path {
				return false
			}
			asked = append(asked, r.Header.Get("Range"))
			if n == 1 {
				cut(w, src.Dir().Path()+path, size, 1<<20)
			}
			if !ranges {
				r.Header.Del("Range")
			}
			return false
		})
		dst := newRepo(t, bareMode())
		res, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: quick()})
		testutil.Must(t, err)
		if len(asked) != 2 || asked[0] != "" || asked[1] != "bytes=1048576-" {
			t.Errorf("ranges asked for: %q", asked)
		}
		if twice := res.Bytes > size+1<<19; twice == ranges {
			t.Errorf("ranges %v: %d bytes received for a file of %d", ranges, res.Bytes, size)
		}
		if !objects(t, dst)[path] {
			t.Error("the object is missing")
		}
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 10})
	s := serve(t, src)
	s.misbehave(func(w http.ResponseWriter, r *http.Request, n int) bool {
		if !strings.HasPrefix(r.URL.Path, "/objects/") || n > 2 {
			return false
		}
		if n == 1 {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return true
		}
		panic(http.ErrAbortHandler) // closes the connection without an answer
	})
	dst := newRepo(t, ostree.ModeArchive)
	_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: quick()})
	testutil.Must(t, err)
	if len(objects(t, dst)) != len(objects(t, src)) {
		t.Error("objects are missing")
	}

	// A server that never recovers ends the pull after the allowed tries.
	bad := fileOf(t, src, c, "d1", "f0004")
	s.forget()
	s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path != pathOf(bad) {
			return false
		}
		http.Error(w, "no", http.StatusInternalServerError)
		return true
	})
	dst = newRepo(t, ostree.ModeArchive)
	net := quick()
	net.Retries = 2
	_, err = Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: net})
	var status *StatusError
	if !errors.As(err, &status) || status.Status != 500 || status.URL != s.URL+pathOf(bad) {
		t.Errorf("permanent failure: %v", err)
	}
	if got := s.count(pathOf(bad)); got != 3 {
		t.Errorf("%d requests, want 3", got)
	}
	wantUntouched(t, dst, c)
}

func TestDamagedObjects(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 10})
	com, err := src.LoadCommit(c)
	testutil.Must(t, err)
	file := fileOf(t, src, c, "d2", "f0005")
	for _, name := range []ostree.ObjectName{
		file, {Checksum: com.RootTree, Type: ostree.TypeDirTree}, {Checksum: com.RootMeta, Type: ostree.TypeDirMeta},
		{Checksum: c, Type: ostree.TypeCommit},
	} {
		data, err := os.ReadFile(src.Dir().Path() + pathOf(name))
		testutil.Must(t, err)
		flipped := bytes.Clone(data)
		flipped[len(flipped)-1] ^= 1
		for what, body := range map[string][]byte{
			"flipped": flipped, "longer": append(bytes.Clone(data), 0), "shorter": data[:len(data)-1], "empty": {},
		} {
			s := serve(t, src)
			s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.URL.Path != pathOf(name) {
					return false
				}
				_, _ = w.Write(body)
				return true
			})
			dst := newRepo(t, ostree.ModeArchive)
			_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: quick()})
			if !errors.Is(err, ostree.ErrCorrupt) || !strings.Contains(err.Error(), name.Checksum.String()) {
				t.Errorf("%s %s: %v", what, name, err)
			}
			if has, _ := dst.Has(name); has {
				t.Errorf("%s %s became visible", what, name)
			}
			wantUntouched(t, dst, c)
		}
	}
}

func TestMissingObject(t *testing.T) {
	t.Parallel()
	src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 10})
	gone := fileOf(t, src, c, "d0", "f0003")
	testutil.Must(t, os.Remove(src.Dir().Path()+pathOf(gone)))
	s := serve(t, src)
	_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: quick()})
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), s.URL+pathOf(gone)) {
		t.Errorf("missing object: %v", err)
	}
	if got := s.count(pathOf(gone)); got != 1 {
		t.Errorf("a missing file was asked for %d times", got)
	}
	wantUntouched(t, dst, c)
	_, err = Pull(t.Context(), dst, s.remote(), Request{Refs: []string{"no/such"}, Network: quick()})
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "/refs/heads/no/such") {
		t.Errorf("missing ref: %v", err)
	}
}

func TestUnreachableServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	testutil.Must(t, err)
	url := "http://user:secret@" + l.Addr().String() + "/repo"
	testutil.Must(t, l.Close())
	remote := Remote{Name: "o", URL: url, NoGPGVerify: true}
	_, err = Pull(t.Context(), newRepo(t, ostree.ModeArchive), remote, Request{Refs: []string{ref}, Network: quick()})
	if err == nil {
		t.Fatal("no error")
	}
	msg := err.Error()
	if !strings.Contains(msg, l.Addr().String()+"/repo/summary.sig: dial tcp") || strings.Contains(msg, "\n") || strings.Contains(msg, "secret") {
		t.Errorf("message: %s", msg)
	}
}

func TestStalledServer(t *testing.T) {
	t.Parallel()
	src, path, size := big(t)
	data, err := os.ReadFile(src.Dir().Path() + path)
	testutil.Must(t, err)
	for _, trickle := range []bool{false, true} {
		s := serve(t, src)
		stop := make(chan struct{})
		s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.URL.Path != path {
				return false
			}
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
			for i := range 1000 {
				if trickle {
					_, _ = w.Write(data[i : i+1])
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(10 * time.Millisecond):
				case <-stop:
					return true
				}
			}
			return true
		})
		network := Network{Retries: -1, LowSpeedTime: 150 * time.Millisecond}
		_, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), s.remote(), Request{Refs: []string{ref}, Network: network})
		close(stop)
		if !errors.Is(err, errStalled) || !strings.Contains(err.Error(), s.URL+path) {
			t.Errorf("trickle %v: %v", trickle, err)
		}
	}
}

// TestHugeMetadata refuses by the announced and by the real size.
func TestHugeMetadata(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 1})
	for _, announce := range []bool{true, false} {
		s := serve(t, src)
		s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.URL.Path != "/refs/heads/"+ref {
				return false
			}
			if announce {
				w.Header().Set("Content-Length", "1099511627776")
			}
			for range 1 << 10 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return true
				}
			}
			return true
		})
		_, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), s.remote(), Request{Refs: []string{ref}, Network: quick()})
		if err == nil || !strings.Contains(err.Error(), "exceeded maximum") {
			t.Errorf("announced %v: %v", announce, err)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 10})
	var major atomic.Int64
	files := http.FileServer(http.Dir(src.Dir().Path()))
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		major.Store(int64(r.ProtoMajor))
		files.ServeHTTP(w, r)
	}))
	srv.EnableHTTP2 = true
	var conns atomic.Int64
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	testutil.Must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600))
	req := Request{Refs: []string{ref}, Network: quick()}
	remote := Remote{Name: "o", URL: srv.URL, NoGPGVerify: true}
	_, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), remote, req)
	if !isCertificate(err) {
		t.Errorf("unknown certificate: %v", err)
	}
	if n := conns.Load(); n > 8 {
		t.Errorf("a bad certificate was tried %d times", n)
	}
	for _, tc := range []struct {
		change func(*Remote)
		major  int64
	}{
		{func(r *Remote) { r.TLSCAPath = ca }, 2},
		{func(r *Remote) { r.TLSPermissive = true }, 2},
		{func(r *Remote) { r.TLSCAPath, r.NoHTTP2 = ca, true }, 1},
	} {
		remote := remote
		tc.change(&remote)
		_, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), remote, req)
		testutil.Must(t, err)
		if major.Load() != tc.major {
			t.Errorf("HTTP/%d, want %d", major.Load(), tc.major)
		}
	}
}

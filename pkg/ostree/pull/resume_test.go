// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// partOf lists the kept transfers of a repository.
func partOf(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "tmp", partPrefix+"*"+partSuffix))
	testutil.Must(t, err)
	return names
}

// halfway serves the first half of a file and then hangs until release is closed.
func halfway(s *site, src *ostree.Repo, path string, size int64) (reached, release chan struct{}) {
	reached, release = make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path != path || r.Header.Get("Range") != "" {
			return false
		}
		data, err := os.ReadFile(src.Dir().Path() + path)
		if err != nil {
			panic(err)
		}
		w.Header().Set("ETag", `"`+filepath.Base(path)+`"`)
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		_, _ = w.Write(data[:size/2])
		w.(http.Flusher).Flush()
		once.Do(func() { close(reached) })
		<-release
		panic(http.ErrAbortHandler)
	})
	return reached, release
}

// TestResumeInsideAFileAfterKill kills a process in the middle of a big object;
// the next one asks for the rest only.
func TestResumeInsideAFileAfterKill(t *testing.T) {
	t.Parallel()
	const dirVar, urlVar = "HOSTCTL_TEST_HALF_DIR", "HOSTCTL_TEST_HALF_URL"
	if dir := os.Getenv(dirVar); dir != "" {
		remote := Remote{Name: "o", URL: os.Getenv(urlVar), NoGPGVerify: true}
		_, err := Pull(t.Context(), openRepo(t, dir, ostree.ModeBareUser), remote, Request{Refs: []string{ref}})
		t.Fatalf("the pull ended instead of being killed: %v", err)
	}
	src, path, size := big(t)
	s := serve(t, src)
	reached, release := halfway(s, src, path, size)
	dir := filepath.Join(t.TempDir(), "repo")
	dst := openRepo(t, dir, ostree.ModeBareUser)
	cmd := exec.Command(os.Args[0], "-test.run=^TestResumeInsideAFileAfterKill$")
	cmd.Env = append(os.Environ(), dirVar+"="+dir, urlVar+"="+s.URL)
	testutil.Must(t, cmd.Start())
	<-reached
	waitFor(t, func() bool {
		parts := partOf(t, dir)
		if len(parts) == 0 {
			return false
		}
		st, err := os.Stat(parts[0])
		return err == nil && st.Size() >= size/2
	})
	testutil.Must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	close(release)

	var asked []string
	s.misbehave(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path == path {
			asked = append(asked, r.Header.Get("Range")+" "+r.Header.Get("If-Range"))
		}
		return false
	})
	res, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: quick()})
	testutil.Must(t, err)
	want := fmt.Sprintf(`bytes=%d- "%s"`, size/2, filepath.Base(path))
	if len(asked) != 1 || asked[0] != want {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	if res.Bytes > size/2+1<<20 {
		t.Errorf("%d bytes received of a file of %d", res.Bytes, size)
	}
	if !objects(t, dst)[path] {
		t.Error("the object is missing")
	}
	if left := partOf(t, dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	testutil.Run(t, testutil.Tool(t, "ostree"), "fsck", "--repo="+dir)
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("waited in vain")
}

// interrupt leaves a kept half of the big object in a new repository.
func interrupt(t *testing.T, s *site, src *ostree.Repo, path string, size int64) *ostree.Repo {
	t.Helper()
	dst := newRepo(t, ostree.ModeArchive)
	s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path == path {
			cut(w, src.Dir().Path()+path, size, int(size/2))
		}
		return r.URL.Path == path
	})
	net := quick()
	net.Retries = -1
	_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: net})
	if err == nil || !strings.Contains(err.Error(), "Download incomplete") {
		t.Fatalf("cut transfer: %v", err)
	}
	if left := partOf(t, dst.Dir().Path()); len(left) != 1 {
		t.Fatalf("kept: %v", left)
	}
	return dst
}

// TestResumeMeetsAnotherServer tries everything that a server may do when it is
// asked for the rest of a file.
func TestResumeMeetsAnotherServer(t *testing.T) {
	t.Parallel()
	src, path, size := big(t)
	file := src.Dir().Path() + path
	for name, fault := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"ignores ranges": func(_ http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Range")
			return false
		},
		"has another version": func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Set("If-Range", `"other"`)
			return false
		},
		"knows no such range": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		},
		"gives another range": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", size-1, size))
			w.WriteHeader(http.StatusPartialContent)
			data, _ := os.ReadFile(file)
			_, _ = w.Write(data)
			return true
		},
		"fails once": func() func(w http.ResponseWriter, r *http.Request) bool {
			n := 0
			return func(w http.ResponseWriter, _ *http.Request) bool {
				if n++; n > 1 {
					return false
				}
				http.Error(w, "no", http.StatusBadGateway)
				return true
			}
		}(),
		"redirects": func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.RawQuery != "" {
				return false
			}
			http.Redirect(w, r, r.URL.Path+"?moved", http.StatusFound)
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, src)
			dst := interrupt(t, s, src, path, size)
			s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
				return r.URL.Path == path && fault(w, r)
			})
			_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: quick()})
			testutil.Must(t, err)
			if left := partOf(t, dst.Dir().Path()); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
			got, err := os.ReadFile(dst.Dir().Path() + path)
			testutil.Must(t, err)
			want, err := os.ReadFile(file)
			testutil.Must(t, err)
			if !bytes.Equal(got, want) {
				t.Error("the stored object differs")
			}
		})
	}
}

// TestKeptTransfersAreNotTrusted damages, ages and replaces what was kept.
func TestKeptTransfersAreNotTrusted(t *testing.T) {
	t.Parallel()
	src, path, size := big(t)
	for name, harm := range map[string]func(t *testing.T, part string){
		"flipped byte": func(t *testing.T, part string) {
			f, err := os.OpenFile(part, os.O_RDWR, 0)
			testutil.Must(t, err)
			_, err = f.WriteAt([]byte("damage"), partHeader+100)
			testutil.Must(t, err)
			testutil.Must(t, f.Close())
		},
		"another boot": func(t *testing.T, part string) {
			data, err := os.ReadFile(part)
			testutil.Must(t, err)
			copy(data[len(partMagic)+1:], "00000000")
			testutil.Must(t, os.WriteFile(part, data, 0o600))
		},
		"cut header": func(t *testing.T, part string) { testutil.Must(t, os.Truncate(part, 100)) },
		"empty":      func(t *testing.T, part string) { testutil.Must(t, os.Truncate(part, 0)) },
		"old": func(t *testing.T, part string) {
			long := time.Now().Add(-48 * time.Hour)
			testutil.Must(t, os.Chtimes(part, long, long))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, src)
			dst := interrupt(t, s, src, path, size)
			harm(t, partOf(t, dst.Dir().Path())[0])
			s.misbehave(nil)
			s.forget()
			_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: quick()})
			testutil.Must(t, err)
			if !objects(t, dst)[path] {
				t.Error("the object is missing")
			}
			if left := partOf(t, dst.Dir().Path()); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

// TestFullDiskKeepsNoTransfer: half a file must not stand in the way of the next try.
func TestFullDiskKeepsNoTransfer(t *testing.T) {
	t.Parallel()
	src, path, size := big(t)
	s := serve(t, src)
	dst := interrupt(t, s, src, path, size)
	dir := dst.Dir().Path()
	if len(partOf(t, dir)) == 0 {
		t.Fatal("nothing was kept")
	}
	testutil.Must(t, dst.SetConfigValue("core", "min-free-space-size", "900TB"))
	dst = openRepo(t, dir, ostree.ModeArchive)
	s.misbehave(nil)
	if _, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: quick()}); !errors.Is(err, ostree.ErrNoSpace) {
		t.Fatalf("error %v", err)
	}
	if left := partOf(t, dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestDamagedTransferIsNotKept: what does not match its checksum must not be the
// start of the next try.
func TestDamagedTransferIsNotKept(t *testing.T) {
	t.Parallel()
	src, path, _ := big(t)
	s := serve(t, src)
	s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path != path {
			return false
		}
		data, _ := os.ReadFile(src.Dir().Path() + path)
		data[len(data)/2] ^= 1
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data)
		return true
	})
	dst := newRepo(t, ostree.ModeBareUser)
	_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Network: quick()})
	if !errors.Is(err, ostree.ErrCorrupt) {
		t.Errorf("damaged object: %v", err)
	}
	if left := partOf(t, dst.Dir().Path()); len(left) > 0 {
		t.Errorf("kept: %v", left)
	}
}

// SPDX-License-Identifier: Apache-2.0

// Package composed is the HTTP side of the compose server. So far it serves an
// archive repository read-only, the way OSTree clients expect a static web
// server to.
package composed

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
)

// kind is a class of public files with its own caching rule.
type kind uint8

const (
	kindNone      kind = iota // not public
	kindImmutable             // name is the checksum of the content
	kindMutable               // replaced in place: clients must revalidate
	kindRef                   // mutable, and may be a link to another ref
)

// minRate is the slowest client, in bytes per second, that gets a whole body.
const minRate = 4 << 10

// bodyGrace is granted on top of what minRate allows.
const bodyGrace = time.Minute

type static struct {
	dir     *fsx.Dir
	log     *slog.Logger
	objects *regexp.Regexp
	refs    *regexp.Regexp
	plain   *regexp.Regexp
}

// Handler serves the archive repository in dir: its objects, deltas, delta
// indexes, refs (heads and mirrors), summary, signature, config and
// extensions; never a listing, a hidden file, a bare object or anything else.
// GET and HEAD work, with ranges, entity tags and conditional requests.
// Requests go to log as one line each (nil: no log). The handler does not
// close dir.
func Handler(dir *fsx.Dir, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &static{
		dir: dir,
		log: log,
		// Detached metadata and tombstones are named after a commit but can
		// change; only the other types are named after their own content.
		objects: regexp.MustCompile(`^objects/[0-9a-f]{2}/[0-9a-f]{62}\.(filez|dirtree|dirmeta|commit|commitmeta|tombstone-commit)$`),
		refs:    regexp.MustCompile(`^refs/(heads|mirrors)(/[A-Za-z0-9_][-._A-Za-z0-9_]*)+$`),
		plain:   regexp.MustCompile(`^(deltas|delta-indexes|extensions)(/[^./\\\x00-\x1f][^/\\\x00-\x1f]*)+$`),
	}
	return s
}

// classify maps a path without its leading slash to the kind of file.
func (s *static) classify(name string) kind {
	switch {
	case name == "summary" || name == "summary.sig" || name == "config":
		return kindMutable
	case s.objects.MatchString(name):
		if strings.HasSuffix(name, ".commitmeta") || strings.HasSuffix(name, ".tombstone-commit") {
			return kindMutable
		}
		return kindImmutable
	case s.refs.MatchString(name):
		return kindRef
	case s.plain.MatchString(name):
		// A delta can be generated anew under its old name, so unlike objects
		// its files are not immutable.
		return kindMutable
	}
	return kindNone
}

func (s *static) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rec := &recorder{ResponseWriter: w}
	s.serve(rec, r)
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "request",
		slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes),
		slog.Duration("took", time.Since(start)), slog.String("remote", r.RemoteAddr),
		slog.String("agent", r.UserAgent()))
}

func (s *static) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if r.ContentLength != 0 {
		// Nobody needs a body here; closing spares waiting for one.
		w.Header().Set("Connection", "close")
	}
	// "//config" is what a client makes of a base URL that ends in a slash.
	name := strings.TrimLeft(r.URL.Path, "/")
	k := s.classify(name)
	if k == kindNone {
		notFound(w)
		return
	}
	f, err := s.open(name, k)
	if err != nil {
		s.openError(w, name, err)
		return
	}
	defer f.Close()
	st, err := fsx.FStat(f)
	if err != nil || !st.IsRegular() {
		s.openError(w, name, err)
		return
	}
	s.send(w, r, f, st, name, k)
}

func (s *static) open(name string, k kind) (*os.File, error) {
	const flags = os.O_RDONLY | syscall.O_NONBLOCK | syscall.O_CLOEXEC
	if k != kindRef {
		return s.dir.OpenFile(name, flags, 0)
	}
	// Aliases are symbolic links; resolving them with refs as the root keeps
	// them among the refs.
	refs, err := s.dir.OpenDir("refs")
	if err != nil {
		return nil, err
	}
	defer refs.Close()
	return refs.OpenInRoot(strings.TrimPrefix(name, "refs/"), flags, 0)
}

func (s *static) openError(w http.ResponseWriter, name string, err error) {
	absent := err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) ||
		errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.ENAMETOOLONG)
	if absent {
		notFound(w)
		return
	}
	s.log.Error("open repository file", "name", name, "error", err)
	http.Error(w, "internal error", http.StatusInternalServerError)
}

func notFound(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-cache")
	http.Error(w, "not found", http.StatusNotFound)
}

func (s *static) send(w http.ResponseWriter, r *http.Request, f *os.File, st fsx.Stat, name string, k kind) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	if k == kindRef || name == "config" {
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	if k == kindImmutable {
		// The size tells apart two encodings of one object, whose name is the
		// checksum of the uncompressed content.
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("ETag", fmt.Sprintf(`"%s-%x"`, strings.ReplaceAll(name[len("objects/"):], "/", ""), st.Size))
	} else {
		// Every writer replaces these files by rename: a new inode, so a new tag.
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", fmt.Sprintf(`"%x-%x-%x"`, st.Mtime.UnixNano(), st.Ino, st.Size))
	}
	deadline := time.Now().Add(bodyGrace + time.Duration(st.Size/minRate)*time.Second)
	// A recorder in a test has no deadline to set: nothing to bound there.
	_ = http.NewResponseController(w).SetWriteDeadline(deadline)
	http.ServeContent(w, r, "", st.Mtime, f)
}

// recorder notes status and size for the access log and keeps sendfile working.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// ReadFrom hands the file to the connection, which can use sendfile.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := io.Copy(r.ResponseWriter, src)
	r.bytes += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// httpHandler serves files below root. It follows symbolic links wherever they
// lead, as tests want it, but serves only what everyone may read.
type httpHandler struct {
	o    *httpdOptions
	root string

	mu           sync.Mutex
	log          io.Writer
	n500s, n408s int
}

func (h *httpHandler) logf(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Fprintf(h.log, time.Now().Format("2006-01-02 15:04:05.000000")+" - "+format, args...)
}

func (h *httpHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	defer func() { h.logf("  status: %s (%d)\n", http.StatusText(s.status), s.status) }()
	w.Header().Set("Server", "ostree-httpd")
	if user, pass, _ := r.BasicAuth(); h.o.auth && (user != "foouser" || pass != "barpw") {
		w.Header().Set("WWW-Authenticate", `Basic realm="auth-test"`)
		s.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.WriteHeader(http.StatusNotImplemented)
		return
	}
	h.logf("serving %s\n", r.URL.Path)
	if status := h.refuse(r); status != 0 {
		s.WriteHeader(status)
		return
	}
	h.get(s, r, strings.TrimLeft(r.URL.Path, "/"))
}

// statusWriter remembers the status for the log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// refuse gives the status of an error that the options ask for, else 0.
func (h *httpHandler) refuse(r *http.Request) int {
	for _, kv := range h.o.cookies {
		name, value, _ := strings.Cut(kv, "=")
		if k, err := r.Cookie(name); err != nil || k.Value != value {
			h.logf("Expected cookie not found %s\n", kv)
			return http.StatusForbidden
		}
	}
	for _, kv := range h.o.headers {
		name, value, _ := strings.Cut(kv, "=")
		if got := r.Header.Get(name); got != value {
			h.logf("Expected header %s: %s but found %s\n", name, value, got)
			return http.StatusForbidden
		}
	}
	if strings.Contains(r.URL.Path, "../") {
		return http.StatusForbidden
	}
	return h.randomError()
}

func (h *httpHandler) randomError() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.n500s < h.o.random500Max && rand.IntN(100) < h.o.random500:
		h.n500s++
		return http.StatusInternalServerError
	case h.n408s < h.o.random408Max && rand.IntN(100) < h.o.random408:
		h.n408s++
		return http.StatusRequestTimeout
	}
	return 0
}

func (h *httpHandler) get(w http.ResponseWriter, r *http.Request, path string) {
	full := h.root + "/" + path
	st, err := os.Stat(full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.WriteHeader(http.StatusNotFound)
	case err != nil:
		w.WriteHeader(http.StatusInternalServerError)
	case !safeToServe(st):
		w.WriteHeader(http.StatusForbidden)
	case st.IsDir() && path != "" && !strings.HasSuffix(path, "/"):
		w.Header().Set("Location", "/"+path+"/")
		w.WriteHeader(http.StatusMovedPermanently)
	case st.IsDir():
		h.getDir(w, r, path)
	default:
		h.getFile(w, r, full)
	}
}

func safeToServe(st fs.FileInfo) bool {
	if st.IsDir() {
		return st.Mode().Perm()&0o005 == 0o005
	}
	return st.Mode().IsRegular() && st.Mode().Perm()&0o004 != 0
}

func (h *httpHandler) getDir(w http.ResponseWriter, r *http.Request, path string) {
	index := filepath.Join(path, "index.html")
	if _, err := os.Stat(h.root + "/" + index); err == nil {
		h.get(w, r, index)
		return
	}
	entries, err := os.ReadDir(h.root + "/" + path)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	title := html.EscapeString("/" + path)
	w.Header().Set("Content-Type", "text/html")
	fmt.Fprintf(w, "<html>\r\n<head><title>Index of %s</title></head>\r\n<body><h1>Index of %s</h1>\r\n<p>\r\n", title, title)
	for _, e := range entries {
		name := html.EscapeString(e.Name())
		fmt.Fprintf(w, "<a href=\"%s\">%s</a><br>\r\n", name, name)
	}
	fmt.Fprint(w, "</body>\r\n</html>\r\n")
}

func (h *httpHandler) getFile(w http.ResponseWriter, r *http.Request, full string) {
	f, err := os.Open(full)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	st, serr := f.Stat()
	if err != nil || serr != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf("\"%x\"", sum.Sum(nil)))
	w.Header().Set("Content-Type", "application/octet-stream")
	if h.o.forceRanges && r.Method == http.MethodGet && r.Header.Get("Range") == "" && strings.Contains(full, "/objects") {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.CopyN(w, f, size/2)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // closes the connection in the middle of the file
	}
	http.ServeContent(w, r, "", st.ModTime(), f)
}

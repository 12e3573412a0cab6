// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// sealed accepts a summary whose signature file is its own bytes behind a word.
type sealed struct{}

func seal(summary []byte) []byte { return append([]byte("sealed:"), summary...) }

func (sealed) VerifySummary(summary, sig []byte) error {
	if !bytes.Equal(sig, seal(summary)) {
		return errors.New("the seal is broken")
	}
	return nil
}

// sealedSite serves a repository whose summaries are sealed.
type sealedSite struct {
	*site
	t   *testing.T
	src *ostree.Repo
}

func newSealedSite(t *testing.T) sealedSite {
	src := newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 2})
	s := sealedSite{serve(t, src), t, src}
	// An ETag per version, as a real server has.
	s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		data, err := os.ReadFile(s.path(r.URL.Path))
		if err != nil || filepath.Dir(r.URL.Path) != "/" {
			return false
		}
		tag := fmt.Sprintf(`"%x"`, sha256.Sum256(data))
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
		} else {
			_, _ = w.Write(data)
		}
		return true
	})
	return s
}

func (s sealedSite) path(name string) string { return filepath.Join(s.src.Dir().Path(), name) }

// publish writes a summary of the given age and seals it.
func (s sealedSite) publish(modified, expires time.Time) (summary []byte) {
	s.t.Helper()
	testutil.Must(s.t, s.src.WriteSummary(s.t.Context(), ostree.SummaryOptions{Expires: expires}))
	summary, err := os.ReadFile(s.path("summary"))
	testutil.Must(s.t, err)
	parsed, err := ostree.ParseSummary(summary)
	testutil.Must(s.t, err)
	is, _ := parsed.Metadata.Uint64BE("ostree.summary.last-modified")
	be := binary.BigEndian
	summary = bytes.Replace(summary, be.AppendUint64(nil, is), be.AppendUint64(nil, uint64(modified.Unix())), 1)
	testutil.Must(s.t, os.WriteFile(s.path("summary"), summary, 0o644))
	testutil.Must(s.t, os.WriteFile(s.path("summary.sig"), seal(summary), 0o644))
	return summary
}

func (s sealedSite) pull(dst *ostree.Repo, change func(*Request)) (Result, error) {
	remote := s.remote()
	remote.SignVerifySummary = true
	req := Request{Refs: []string{ref}, SignSummary: sealed{}, Network: quick()}
	if change != nil {
		change(&req)
	}
	return Pull(s.t.Context(), dst, remote, req)
}

func TestSummaryCache(t *testing.T) {
	t.Parallel()
	s := newSealedSite(t)
	now := time.Now()
	s.publish(now, time.Time{})
	dst := newRepo(t, ostree.ModeArchive)
	_, err := s.pull(dst, nil)
	testutil.Must(t, err)
	cached := filepath.Join(dst.Dir().Path(), "tmp/cache/summaries/o")
	before, err := os.Stat(cached)
	testutil.Must(t, err)
	s.forget()
	_, err = s.pull(dst, nil)
	testutil.Must(t, err)
	if s.count("/summary") != 0 || s.count("/summary.sig") != 1 {
		t.Errorf("requests: %v", s.forget())
	}
	after, err := os.Stat(cached)
	testutil.Must(t, err)
	if !os.SameFile(before, after) {
		t.Error("the cached summary was written again")
	}

	// A damaged cache is noticed and replaced.
	testutil.Must(t, os.WriteFile(cached, []byte("damaged"), 0o644))
	if _, err := s.pull(dst, func(r *Request) { r.FailInvalidCache = true }); err == nil {
		t.Error("damaged cache was accepted")
	}
	_, err = s.pull(dst, nil)
	testutil.Must(t, err)
	// So is one that holds the summary of another signature.
	s.publish(now.Add(time.Minute), time.Time{})
	_, err = s.pull(dst, nil)
	testutil.Must(t, err)

	other := testutil.OpenDir(t, t.TempDir())
	plain := newRepo(t, ostree.ModeArchive)
	_, err = s.pull(plain, func(r *Request) { r.Cache = other })
	testutil.Must(t, err)
	if ok, _ := other.Exists("summaries/o.sig"); !ok {
		t.Error("the given cache is empty")
	}
	_, err = s.pull(plain, func(r *Request) { r.NoCache = true })
	testutil.Must(t, err)
	if ok, _ := plain.Dir().Exists("tmp/cache/summaries"); ok {
		t.Error("the repository's cache was used")
	}
}

func TestSummaryMustBeSigned(t *testing.T) {
	t.Parallel()
	s := newSealedSite(t)
	if _, err := s.pull(newRepo(t, ostree.ModeArchive), nil); !errors.Is(err, ErrSignature) {
		t.Errorf("no summary: %v", err)
	}
	testutil.Must(t, s.src.WriteSummary(t.Context(), ostree.SummaryOptions{}))
	if _, err := s.pull(newRepo(t, ostree.ModeArchive), nil); !errors.Is(err, ErrSignature) {
		t.Errorf("no signature: %v", err)
	}
	testutil.Must(t, os.WriteFile(s.path("summary.sig"), []byte("x"), 0o644))
	if _, err := s.pull(newRepo(t, ostree.ModeArchive), nil); !errors.Is(err, ErrSignature) {
		t.Errorf("bad signature: %v", err)
	}
	if _, err := s.pull(newRepo(t, ostree.ModeArchive), func(r *Request) { r.SignSummary = nil }); !errors.Is(err, ErrNoVerifier) {
		t.Errorf("no verifier: %v", err)
	}
	// Also where the pull needs no summary.
	all, err := s.src.Refs("")
	testutil.Must(t, err)
	pinned := func(r *Request) { r.Refs = []string{ref + "@" + all[ref].String()} }
	if _, err := s.pull(newRepo(t, ostree.ModeArchive), pinned); !errors.Is(err, ErrSignature) {
		t.Errorf("pinned commit and a bad signature: %v", err)
	}
}

func TestSummaryReplay(t *testing.T) {
	t.Parallel()
	s := newSealedSite(t)
	now := time.Now()
	dst := newRepo(t, ostree.ModeArchive)
	s.publish(now, now.Add(-time.Minute))
	if _, err := s.pull(dst, nil); !errors.Is(err, ErrExpired) {
		t.Errorf("expired summary: %v", err)
	}
	s.publish(now, now.Add(time.Hour))
	_, err := s.pull(dst, nil)
	testutil.Must(t, err)
	s.publish(now.Add(-time.Hour), time.Time{})
	if _, err := s.pull(dst, nil); !errors.Is(err, ErrRollback) {
		t.Errorf("older summary: %v", err)
	}
	_, err = s.pull(newRepo(t, ostree.ModeArchive), nil)
	testutil.Must(t, err)
}

func TestFetchSummary(t *testing.T) {
	t.Parallel()
	s := newSealedSite(t)
	remote := s.remote()
	remote.NoGPGVerify = false
	repo := newRepo(t, ostree.ModeArchive)
	if _, err := FetchSummary(t.Context(), repo, remote, Request{Network: quick()}); !errors.Is(err, ErrNotFound) {
		t.Errorf("no summary: %v", err)
	}
	want := s.publish(time.Now(), time.Time{})
	got, err := FetchSummary(t.Context(), repo, remote, Request{Network: quick()})
	testutil.Must(t, err)
	if !bytes.Equal(got.Data, want) || !bytes.Equal(got.Sig, seal(want)) || len(got.Summary.Refs) != 1 {
		t.Errorf("fetched %d and %d bytes, %d refs", len(got.Data), len(got.Sig), len(got.Summary.Refs))
	}
	// What was fetched spares the requests of a pull.
	s.forget()
	_, err = s.pull(repo, func(r *Request) { r.Summary, r.SummarySig = got.Data, got.Sig })
	testutil.Must(t, err)
	if s.count("/summary")+s.count("/summary.sig") != 0 {
		t.Error("the summary was requested again")
	}
}

// TestProgressKnowsTheEnd: with the sizes in the commit every event has the final
// totals.
func TestProgressKnowsTheEnd(t *testing.T) {
	t.Parallel()
	real := testutil.Tool(t, "ostree")
	base := t.TempDir()
	tree, src := filepath.Join(base, "tree"), filepath.Join(base, "src")
	testutil.Must(t, os.MkdirAll(tree, 0o755))
	for i := range 40 {
		testutil.Must(t, os.WriteFile(filepath.Join(tree, fmt.Sprint(i)), spec{}.content(i), 0o644))
	}
	testutil.Run(t, real, "init", "--repo="+src, "--mode=archive")
	testutil.Run(t, real, "commit", "--repo="+src, "-b", ref, "--tree=dir="+tree, "--generate-sizes")
	s := serve(t, openRepo(t, src, ostree.ModeArchive))
	dry, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), s.remote(), Request{Refs: []string{ref}, DryRun: true})
	testutil.Must(t, err)
	var mu sync.Mutex
	var events []progress.Event
	_, err = Pull(context.Background(), newRepo(t, ostree.ModeArchive), s.remote(), Request{Refs: []string{ref}, UpdateFrequency: time.Nanosecond, Progress: func(e progress.Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	}})
	testutil.Must(t, err)
	last := events[len(events)-1]
	if last.Done != last.Total || last.Bytes != last.TotalBytes {
		t.Errorf("last event: %+v", last)
	}
	// The commit came before, and is not in the list.
	if dry.Content != 0 || !dry.Transfer.Known || int64(dry.Transfer.Objects) != last.Total-1 || dry.Transfer.Bytes == 0 || int64(dry.Transfer.Bytes) > last.TotalBytes {
		t.Errorf("foretold %+v, at the end %+v", dry.Transfer, last)
	}
	known := 0
	for _, e := range events {
		if e.TotalBytes == 0 {
			continue // before the commit has arrived
		}
		known++
		if e.Total != last.Total || e.TotalBytes != last.TotalBytes {
			t.Fatalf("event %+v, at the end %d objects and %d bytes", e, last.Total, last.TotalBytes)
		}
	}
	if known < 40 {
		t.Errorf("%d events with totals", known)
	}
}

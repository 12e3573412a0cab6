// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

const ref = "os/stable"

func TestPullIntoEveryMode(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 40, time: 100})
	s := serve(t, src)
	modes := []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser, ostree.ModeBareUserOnly}
	if os.Geteuid() == 0 {
		modes = append(modes, ostree.ModeBare)
	}
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			dst := newRepo(t, mode)
			res, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}})
			testutil.Must(t, err)
			if diff := cmp.Diff(map[string]ostree.Checksum{"o:" + ref: c}, res.Refs); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(objects(t, src), objects(t, dst)); diff != "" {
				t.Errorf("objects differ:\n%s", diff)
			}
			if partial, _ := dst.CommitPartial(c); partial {
				t.Error("complete commit is marked as partial")
			}
			if got, err := dst.Resolve("o:" + ref); err != nil || got != c {
				t.Errorf("ref = %v, %v", got, err)
			}
			// The second pull asks for the refs and nothing else.
			again, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}})
			testutil.Must(t, err)
			// The request for new signatures counts as metadata.
			if again.Metadata != 1 || again.Content != 0 || again.Requests > 5 {
				t.Errorf("second pull received %d+%d objects in %d requests", again.Metadata, again.Content, again.Requests)
			}
		})
	}
}

// TestUpdateFetchesOnlyTheDifference pulls a commit that shares most objects.
func TestUpdateFetchesOnlyTheDifference(t *testing.T) {
	t.Parallel()
	src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, bareMode())
	first := commit(t, src, spec{ref: ref, files: 30, time: 1})
	s := serve(t, src)
	_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}})
	testutil.Must(t, err)
	had := objects(t, dst)
	second := commit(t, src, spec{ref: ref, files: 33, time: 2, parent: first})
	s.forget()
	res, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}})
	testutil.Must(t, err)
	if res.Content != 3 || res.Refs["o:"+ref] != second {
		t.Errorf("received %d files, refs %v", res.Content, res.Refs)
	}
	for path := range s.forget() {
		if had[path] {
			t.Errorf("%s was requested again", path)
		}
	}
}

func TestPullByChecksumAndPin(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	first := commit(t, src, spec{ref: ref, files: 3})
	second := commit(t, src, spec{ref: ref, files: 4, parent: first})
	s := serve(t, src)
	dst := newRepo(t, ostree.ModeArchive)
	res, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{second.String()}})
	testutil.Must(t, err)
	if len(res.Refs) != 0 {
		t.Errorf("a checksum set refs %v", res.Refs)
	}
	res, err = Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref + "@" + first.String()}, Mirror: true})
	testutil.Must(t, err)
	if res.Refs[ref] != first {
		t.Errorf("pinned ref: %v", res.Refs)
	}
	if _, err = Pull(t.Context(), dst, s.remote(), Request{}); err == nil {
		t.Error("a pull without refs and branches succeeded")
	}
	remote := s.remote()
	remote.Branches = []string{ref}
	res, err = Pull(t.Context(), dst, remote, Request{})
	testutil.Must(t, err)
	if res.Refs["o:"+ref] != second {
		t.Errorf("configured branches: %v", res.Refs)
	}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	var chain []ostree.Checksum
	var parent ostree.Checksum
	for i := range 4 {
		parent = commit(t, src, spec{ref: ref, files: 2 + i, parent: parent})
		chain = append(chain, parent)
	}
	s := serve(t, src)
	for _, tc := range []struct{ depth, want int }{{0, 1}, {1, 2}, {DepthAll, 4}, {10, 4}} {
		dst := newRepo(t, ostree.ModeArchive)
		_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Depth: tc.depth})
		testutil.Must(t, err)
		got := 0
		for _, c := range chain {
			has, err := dst.Has(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
			testutil.Must(t, err)
			partial, err := dst.CommitPartial(c)
			testutil.Must(t, err)
			if has && !partial {
				got++
			}
		}
		if got != tc.want {
			t.Errorf("depth %d: %d commits, want %d", tc.depth, got, tc.want)
		}
	}
	// A remote that dropped its history is no error.
	testutil.Must(t, os.Remove(filepath.Join(src.Dir().Path(), pathOf(ostree.ObjectName{Checksum: chain[1], Type: ostree.TypeCommit}))))
	dst := newRepo(t, ostree.ModeArchive)
	_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Depth: DepthAll})
	testutil.Must(t, err)
}

func TestCommitMetadataOnlyStaysPartial(t *testing.T) {
	t.Parallel()
	src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 3})
	s := serve(t, src)
	res, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, CommitMetadataOnly: true})
	testutil.Must(t, err)
	if partial, _ := dst.CommitPartial(c); !partial || res.Metadata != 2 || res.Content != 0 {
		t.Errorf("partial %v, received %d+%d", partial, res.Metadata, res.Content)
	}
	_, err = Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}})
	testutil.Must(t, err)
	if partial, _ := dst.CommitPartial(c); partial || len(objects(t, dst)) != len(objects(t, src)) {
		t.Error("the full pull did not complete the commit")
	}
}

func TestBindings(t *testing.T) {
	t.Parallel()
	src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive)
	var meta gvariant.Dict
	meta.Set("ostree.ref-binding", gvariant.Strings([]string{"os/testing"}))
	c := commit(t, src, spec{ref: ref, files: 1, meta: meta})
	s := serve(t, src)
	_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}})
	if !errors.Is(err, ErrBinding) {
		t.Errorf("pull through an unlisted ref: %v", err)
	}
	wantUntouched(t, dst, c)
	_, err = Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, DisableVerifyBindings: true})
	testutil.Must(t, err)
	remote := s.remote()
	remote.CollectionID = "org.example.os"
	_, err = Pull(t.Context(), dst, remote, Request{Refs: []string{c.String()}})
	if !errors.Is(err, ErrBinding) {
		t.Errorf("commit of no collection from a remote of one: %v", err)
	}
	_, err = Pull(t.Context(), dst, s.remote(), Request{Refs: []string{c.String()}})
	testutil.Must(t, err)
}

func TestTimestampCheck(t *testing.T) {
	t.Parallel()
	src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive)
	newer := commit(t, src, spec{ref: ref, files: 1, time: 1000})
	s := serve(t, src)
	_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, TimestampCheck: true})
	testutil.Must(t, err)
	older := commit(t, src, spec{ref: ref, files: 1, time: 999})
	for _, req := range []Request{
		{Refs: []string{ref}, TimestampCheck: true},
		{Refs: []string{ref}, TimestampFrom: newer},
	} {
		if _, err = Pull(t.Context(), dst, s.remote(), req); !errors.Is(err, ErrDowngrade) {
			t.Errorf("downgrade: %v", err)
		}
	}
	if got, _ := dst.Resolve("o:" + ref); got != newer {
		t.Errorf("ref moved to %s", got)
	}
	res, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}})
	testutil.Must(t, err)
	if res.Refs["o:"+ref] != older {
		t.Error("a pull without the check refuses an older commit")
	}
}

// keyCheck accepts commits whose detached metadata holds the right key.
type keyCheck struct{ calls int }

func (k *keyCheck) VerifyCommit(commit []byte, meta gvariant.Dict) error {
	k.calls++
	if got, _ := meta.Str("key"); got != "right" || len(commit) == 0 {
		return errors.New("no good key")
	}
	return nil
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	var good, bad gvariant.Dict
	good.Set("key", gvariant.String("right"))
	bad.Set("key", gvariant.String("wrong"))
	commit(t, src, spec{ref: "good", files: 1, time: 1, sigs: good})
	wrong := commit(t, src, spec{ref: "bad", files: 1, time: 2, sigs: bad})
	commit(t, src, spec{ref: "none", files: 1, time: 3})
	s := serve(t, src)
	signed := s.remote()
	signed.NoGPGVerify = false
	if _, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), signed, Request{Refs: []string{"good"}}); !errors.Is(err, ErrNoVerifier) {
		t.Errorf("without a verifier: %v", err)
	}
	other := s.remote()
	other.SignVerify = true
	if _, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), other, Request{Refs: []string{"good"}, GPG: &keyCheck{}}); !errors.Is(err, ErrNoVerifier) {
		t.Errorf("sign-verify without its verifier: %v", err)
	}
	dst := newRepo(t, ostree.ModeArchive)
	res, err := Pull(t.Context(), dst, signed, Request{Refs: []string{"good"}, GPG: &keyCheck{}})
	testutil.Must(t, err)
	kept, err := dst.CommitMeta(res.Refs["o:good"])
	testutil.Must(t, err)
	if got, _ := kept.Str("key"); got != "right" {
		t.Error("signatures were not stored")
	}
	for _, name := range []string{"bad", "none"} {
		_, err := Pull(t.Context(), dst, signed, Request{Refs: []string{name}, GPG: &keyCheck{}})
		if !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if has, _ := dst.Has(ostree.ObjectName{Checksum: wrong, Type: ostree.TypeCommit}); has {
		t.Error("a commit with a bad signature was stored")
	}
	// A complete commit that came without verification must not pass either.
	_, err = Pull(t.Context(), dst, s.remote(), Request{Refs: []string{"bad"}})
	testutil.Must(t, err)
	if _, err = Pull(t.Context(), dst, signed, Request{Refs: []string{"bad"}, GPG: &keyCheck{}}); !errors.Is(err, ErrSignature) {
		t.Errorf("stored commit with a bad signature: %v", err)
	}
}

func TestProgressIsExact(t *testing.T) {
	t.Parallel()
	src, dst := newRepo(t, ostree.ModeArchive), newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 25})
	s := serve(t, src)
	var mu sync.Mutex
	var events []progress.Event
	res, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}, Progress: func(e progress.Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	}})
	testutil.Must(t, err)
	last := events[len(events)-1]
	all := int64(len(objects(t, src)))
	if events[0].Kind != progress.Begin || last.Kind != progress.End {
		t.Errorf("first and last event: %+v %+v", events[0], last)
	}
	if last.Done != all || last.Total != all || last.Bytes != res.Bytes || last.Task != "Receiving objects" {
		t.Errorf("last event %+v, want %d objects and %d bytes", last, all, res.Bytes)
	}
	for i, e := range events {
		if e.Done > e.Total || i > 0 && e.Done < events[i-1].Done {
			t.Errorf("event %d goes back or beyond: %+v", i, e)
		}
	}
}

func TestLocalPull(t *testing.T) {
	t.Parallel()
	for _, mode := range []ostree.Mode{ostree.ModeArchive, bareMode()} {
		src := newRepo(t, mode)
		c := commit(t, src, spec{ref: ref, files: 20})
		for _, url := range []string{src.Dir().Path(), "file://" + src.Dir().Path()} {
			dst := newRepo(t, bareMode())
			remote := Remote{Name: "o", URL: url, NoGPGVerify: true}
			res, err := Pull(t.Context(), dst, remote, Request{Refs: []string{ref}})
			testutil.Must(t, err)
			if res.Refs["o:"+ref] != c || len(objects(t, dst)) != len(objects(t, src)) {
				t.Errorf("%s from %s: refs %v", mode, url, res.Refs)
			}
			_, err = Pull(t.Context(), dst, remote, Request{Refs: []string{"nothing"}})
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("absent ref: %v", err)
			}
		}
	}
	_, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), Remote{URL: "/nonexistent/repo", NoGPGVerify: true}, Request{Refs: []string{ref}, Mirror: true})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/repo") {
		t.Errorf("absent repository: %v", err)
	}
}

// TestLocalPullLinks shares files between repositories of one mode, and only
// then.
func TestLocalPullLinks(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	for _, tc := range []struct {
		name      string
		mode      ostree.Mode
		untrusted bool
		linked    bool
	}{
		{"same", bareMode(), false, true}, {"untrusted", bareMode(), true, true}, {"archive", ostree.ModeArchive, false, false},
	} {
		src := openRepo(t, filepath.Join(base, tc.name+"-src"), bareMode())
		dst := openRepo(t, filepath.Join(base, tc.name+"-dst"), tc.mode)
		c := commit(t, src, spec{ref: ref, files: 10})
		remote := Remote{Name: "o", URL: src.Dir().Path(), NoGPGVerify: true}
		res, err := Pull(t.Context(), dst, remote, Request{Refs: []string{ref}, Untrusted: tc.untrusted})
		testutil.Must(t, err)
		name := strings.TrimSuffix(pathOf(fileOf(t, src, c, "d1", "f0004")), "z")[1:]
		st, err := src.Dir().Lstat(name)
		testutil.Must(t, err)
		if linked := st.Nlink == 2; linked != tc.linked || res.ImportedContent != 13 || res.Content != 0 {
			t.Errorf("%s: linked %v, imported %d", tc.name, linked, res.ImportedContent)
		}
		if len(objects(t, dst)) != len(objects(t, src)) {
			t.Errorf("%s: objects are missing", tc.name)
		}
	}
}

// TestRealRepository pulls what the real tool committed, with a summary and
// with attributes, and has it checked by the real tool.
func TestRealRepository(t *testing.T) {
	t.Parallel()
	ostreeTool := testutil.Tool(t, "ostree")
	base := t.TempDir()
	tree, src := filepath.Join(base, "tree"), filepath.Join(base, "src")
	testutil.Must(t, os.MkdirAll(filepath.Join(tree, "usr/bin"), 0o755))
	testutil.Must(t, os.WriteFile(filepath.Join(tree, "usr/bin/a"), []byte(strings.Repeat("a", 1<<20)), 0o4755))
	testutil.Must(t, os.WriteFile(filepath.Join(tree, "usr/empty"), nil, 0o600))
	testutil.Must(t, os.Symlink("bin/a", filepath.Join(tree, "usr/link")))
	testutil.Run(t, ostreeTool, "init", "--repo="+src, "--mode=archive")
	rev := testutil.Run(t, ostreeTool, "commit", "--repo="+src, "-b", ref, "--tree=dir="+tree, "--owner-uid=0", "--owner-gid=0")
	testutil.Run(t, ostreeTool, "commit", "--repo="+src, "-b", "os/other", "--tree=dir="+tree)
	testutil.Run(t, ostreeTool, "summary", "--repo="+src, "-u")
	s := serve(t, openRepo(t, src, ostree.ModeArchive))
	for _, mode := range []ostree.Mode{ostree.ModeArchive, bareMode()} {
		dst := newRepo(t, mode)
		res, err := Pull(t.Context(), dst, s.remote(), Request{Mirror: true})
		testutil.Must(t, err)
		if len(res.Refs) != 2 || res.Refs[ref].String() != rev {
			t.Errorf("mirrored refs: %v", res.Refs)
		}
		testutil.Run(t, ostreeTool, "fsck", "--repo="+dst.Dir().Path())
		if got := testutil.Run(t, ostreeTool, "rev-parse", "--repo="+dst.Dir().Path(), ref); got != rev {
			t.Errorf("the real tool reads %s", got)
		}
		_, err = Pull(t.Context(), dst, s.remote(), Request{Refs: []string{"nothing"}})
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), s.URL) || !strings.Contains(err.Error(), "No such branch 'nothing'") {
			t.Errorf("ref that the summary lacks: %v", err)
		}
	}
	if got := s.count("/config"); got != 0 {
		t.Errorf("config was requested %d times although the summary tells the mode", got)
	}
}

func TestOnlyArchives(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeBareUser)
	commit(t, src, spec{ref: ref, files: 1})
	s := serve(t, src)
	_, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), s.remote(), Request{Refs: []string{ref}})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "bare-user") {
		t.Errorf("pull from a bare repository: %v", err)
	}
	s.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
		return true
	})
	if _, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), s.remote(), Request{Refs: []string{ref}, Network: quick()}); !errors.Is(err, errRedirect) {
		t.Errorf("redirect loop: %v", err)
	}
}

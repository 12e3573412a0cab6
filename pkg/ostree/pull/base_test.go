// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// mark marks a commit as partial, as a check does that finds it damaged.
func mark(t *testing.T, r *ostree.Repo, c ostree.Checksum) {
	t.Helper()
	testutil.Must(t, r.Dir().WriteFile("state/"+c.String()+".commitpartial", nil, 0o644))
}

// What a complete commit lists is taken for present; what one lists that is marked as
// partial is looked for.
func TestCompareWithCompleteCommit(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	first := commit(t, src, spec{ref: ref, files: 30, time: 1})
	s := serve(t, src)
	for _, partial := range []bool{false, true} {
		dst := newRepo(t, bareMode())
		_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{first.String()}})
		testutil.Must(t, err)
		second := commit(t, src, spec{ref: ref, files: 40, time: 2, parent: first})
		same := fileOf(t, src, second, "d0", "f0000")
		path := filepath.Join(dst.Dir().Path(), "objects", same.Checksum.String()[:2], same.Checksum.String()[2:]+".file")
		testutil.Must(t, os.Remove(path))
		if partial {
			mark(t, dst, first)
		}
		s.forget()
		_, err = Pull(t.Context(), dst, s.remote(), Request{Refs: []string{second.String()}})
		testutil.Must(t, err)
		if got := s.count(pathOf(same)) > 0; got != partial {
			t.Errorf("partial %t: requested the lost file: %t", partial, got)
		}
	}
}

// A commit that is no longer whole at the end has been compared with in vain.
func TestBaseGone(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	first := commit(t, src, spec{ref: ref, files: 30, time: 1})
	s := serve(t, src)
	dst := newRepo(t, bareMode())
	_, err := Pull(t.Context(), dst, s.remote(), Request{Refs: []string{first.String()}})
	testutil.Must(t, err)
	second := commit(t, src, spec{ref: ref, files: 40, time: 2, parent: first})
	last := pathOf(fileOf(t, src, second, "d0", "f0039"))
	s.misbehave(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path == last {
			mark(t, dst, first)
		}
		return false
	})
	_, err = Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}})
	if !errors.Is(err, errBaseGone) {
		t.Fatalf("the commit that was compared with is gone: %v", err)
	}
	wantUntouched(t, dst, second)
	_, err = Pull(t.Context(), dst, s.remote(), Request{Refs: []string{ref}})
	testutil.Must(t, err)
	if partial, err := dst.CommitPartial(second); partial || err != nil {
		t.Errorf("after another pull: partial %t, %v", partial, err)
	}
}

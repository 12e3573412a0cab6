// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// writeMany stores files and a commit, with text as the ref.
func writeMany(ctx context.Context, tx *Txn, text string, files int) error {
	c, err := writeFlatTree(ctx, tx, text, files)
	if err != nil {
		return err
	}
	return tx.SetRef(text, c)
}

func wantSound(t *testing.T, r *Repo, refs int) {
	t.Helper()
	all, err := r.Refs("")
	if err != nil || len(all) != refs {
		t.Errorf("refs: %v, %v", all, err)
	}
	res, err := r.Fsck(t.Context(), FsckOptions{})
	if err != nil || len(res.Findings) > 0 {
		t.Errorf("fsck: %+v, %v", res, err)
	}
	if left, err := filepath.Glob(filepath.Join(r.Dir().Path(), "tmp/staging-*")); len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Directories that the repository has not appear as a whole; where another process makes
// one meanwhile, or has made some, their objects are moved one by one.
func TestPublishDirectories(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{ModeArchive, ModeBareUser, ModeBareUserOnly} {
		r := newTestRepo(t, mode)
		testutil.Must(t, r.objects.Mkdir("00", objectDirMode))
		_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
			err := writeMany(ctx, tx, "one", 2000)
			if d := tx.stage.sub.dirs[0].Load(); d != nil {
				t.Errorf("%s: objects of 00 are in %s", mode, d.Path())
			}
			return errors.Join(err, r.objects.Mkdir("01", objectDirMode))
		})
		testutil.Must(t, err)
		_, err = r.Update(t.Context(), func(ctx context.Context, tx *Txn) error { return writeMany(ctx, tx, "two", 500) })
		testutil.Must(t, err)
		wantSound(t, r, 2)
		for _, xx := range []string{"00", "01", "02"} {
			st, err := r.objects.Lstat(xx)
			if err != nil || st.Mode&0o7777 != objectDirMode {
				t.Errorf("%s: objects/%s: mode %o, %v", mode, xx, st.Mode, err)
			}
		}
	}
}

// An object that could not be removed after its writer failed would become visible
// with its directory: nothing does.
func TestIncompleteObjectStays(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	failure := errors.New("source is gone")
	_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		const size = smallContent + 1
		n := ObjectName{sha([]byte("x")), TypeFile}
		// A directory under the name that the writer wants to remove.
		slow := &slowReader{asked: make(chan struct{}), wait: make(chan struct{}), err: failure, r: strings.NewReader("")}
		asked := slow.asked
		first := make(chan error)
		go func() { first <- tx.ImportContent(ctx, n.Checksum, FileHeader{Mode: 0o100644}, size, slow) }()
		<-asked
		d, name := tx.stagedAt(n)
		path := filepath.Join(d.Path(), name)
		testutil.Must(t, os.Remove(path))
		testutil.Must(t, os.MkdirAll(filepath.Join(path, "busy"), 0o755))
		close(slow.wait)
		if err := <-first; !errors.Is(err, failure) {
			t.Errorf("writer: %v", err)
		}
		return writeMany(ctx, tx, "one", 20)
	})
	if err == nil || !strings.Contains(err.Error(), "remove incomplete object") {
		t.Errorf("error: %v", err)
	}
	refs, err := r.Refs("")
	if err != nil || len(refs) > 0 {
		t.Errorf("refs: %v, %v", refs, err)
	}
	if entries, err := r.objects.ReadDir("."); err != nil || len(entries) > 0 {
		t.Errorf("objects: %v, %v", entries, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// vectorTree is the tree of libostree's tests/test-composefs.sh.
func vectorTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"firstfile": "first", "baz/cow": "moo", "baz/cowro": "mooro", "baz/saucer": "alien",
		"baz/deeper/ohyeah": "hi", "baz/deeper/ohyeahx": "hix", "baz/another/y": "x",
		"baz/sub1/duplicate_a": "SAME_CONTENT", "baz/sub1/duplicate_b": "SAME_CONTENT", "baz/sub2/duplicate_c": "SAME_CONTENT"} {
		p := filepath.Join(dir, name)
		testutil.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		testutil.Must(t, os.WriteFile(p, []byte(text+"\n"), 0o644))
	}
	testutil.Must(t, os.Chmod(filepath.Join(dir, "baz/cowro"), 0o600))
	testutil.Must(t, os.Chmod(filepath.Join(dir, "baz/deeper/ohyeahx"), 0o755))
	testutil.Must(t, os.Symlink("nosuchfile", filepath.Join(dir, "somelink")))
	testutil.Must(t, os.Symlink("nonexistent", filepath.Join(dir, "baz/alink")))
	testutil.Must(t, os.Chmod(dir, 0o755))
	return dir
}

// The digest in the metadata and the images are those that libostree's test expects.
func TestAddComposefs(t *testing.T) {
	t.Parallel()
	dir := vectorTree(t)
	for _, mode := range []Mode{ModeBareUser, ModeArchive} {
		r := newTestRepo(t, mode)
		var commit Checksum
		_, err := r.Update(t.Context(), func(ctx context.Context, txn *Txn) (err error) {
			m := NewMTree()
			if err = txn.WriteDir(ctx, testutil.OpenDir(t, dir), m, CommitOptions{CanonicalPermissions: true, SkipXattrs: true}); err != nil {
				return err
			}
			var c Commit
			if c.RootTree, c.RootMeta, err = txn.WriteTree(ctx, m); err != nil {
				return err
			}
			if err = txn.AddComposefs(ctx, &c.Metadata, c.RootTree, c.RootMeta); err != nil {
				return err
			}
			commit, err = txn.WriteCommit(ctx, c)
			return err
		})
		testutil.Must(t, err)
		got, _ := loadCommit(t, r, commit).Metadata.ByteSlice(keyComposefs)
		if want := mustSum(t, "be956966c70970ea23b1a8043bca58cfb0d011d490a35a7817b36d04c0210954"); !bytes.Equal(got, want[:]) {
			t.Errorf("%s: digest %x, want %s", mode, got, want)
		}
		for want, o := range map[string]ComposefsOptions{
			"031fab2c7f390b752a820146dc89f6880e5739cba7490f64024e0c7d11aad7c9": {},
			"78f873a76ccfea3ad7c86312ba0e06f8e0bca54ab4912b23871b31caafe59c24": {NoVerity: true},
		} {
			h := sha256.New()
			_, err := r.WriteComposefs(t.Context(), commit, h, o)
			testutil.Must(t, err)
			if got := Checksum(h.Sum(nil)); got.String() != want {
				t.Errorf("%s: image %s, want %s", mode, got, want)
			}
		}
	}
}

func TestAddComposefsFails(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	c := loadCommit(t, r, commitFiles(t, r, "b", Checksum{}, map[string]string{"f": "content"}))
	tree, err := r.LoadDirTree(c.RootTree)
	testutil.Must(t, err)
	removeObject(t, r, ObjectName{tree.Files[0].Checksum, TypeFile})
	_, err = r.Update(t.Context(), func(ctx context.Context, txn *Txn) error {
		return txn.AddComposefs(ctx, &c.Metadata, c.RootTree, c.RootMeta)
	})
	if !errors.Is(err, ErrNotFound) || c.Metadata.Len() > 0 {
		t.Errorf("file is missing: %v; metadata %v", err, c.Metadata)
	}
}

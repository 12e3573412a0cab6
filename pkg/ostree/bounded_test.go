// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

// saturate makes a filter pass everything, as one of far too many objects would.
func saturate(s *objectFilter) {
	s.add(ObjectName{})
	words := s.words.Load()
	for i := range words {
		words[i].Store(^uint64(0))
	}
}

// Where the filter of what is staged says yes, the staging directory decides: nothing
// counts as stored that is not.
func TestStagedIsAskedExactly(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeBareUser)
	before := []byte("before")
	h := FileHeader{Mode: 0o100644}
	write := func(tx *Txn, data []byte) ObjectName {
		t.Helper()
		c, err := tx.WriteContent(t.Context(), h, int64(len(data)), bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return ObjectName{c, TypeFile}
	}
	has := func(tx *Txn, n ObjectName, want bool) {
		t.Helper()
		if got, err := tx.Has(n); got != want || err != nil {
			t.Errorf("Has(%s) = %t, %v", n, got, err)
		}
	}
	meta, err := DirMeta{Mode: 0o40755}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var old, now ObjectName
	dir := ObjectName{sha(meta), TypeDirMeta}
	if _, err := r.Update(t.Context(), func(_ context.Context, tx *Txn) error { old = write(tx, before); return nil }); err != nil {
		t.Fatal(err)
	}
	_, err = r.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		saturate(&tx.staged)
		has(tx, old, true)
		has(tx, dir, false)
		if _, err := tx.LoadRaw(dir); !errors.Is(err, ErrNotFound) {
			t.Errorf("read of an absent object: %v", err)
		}
		if _, _, rc, err := tx.OpenFile(old.Checksum); err != nil {
			t.Errorf("open an object of the repository: %v", err)
		} else {
			rc.Close()
		}
		if _, err := tx.WriteMetadata(ctx, TypeDirMeta, meta); err != nil {
			return err
		}
		now = write(tx, []byte("now"))
		has(tx, now, true)
		has(tx, dir, true)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []ObjectName{old, now, dir} {
		if err := r.verifyStored(n); err != nil {
			t.Errorf("after the transaction: %v", err)
		}
	}
}

// What the filter of fsck passes by chance is neither reported nor does it end the
// check; and of files nothing but the filter is kept.
func TestFsckFilterIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, stop := range []bool{false, true} {
		r := newTestRepo(t, ModeArchive)
		commitFiles(t, r, "a", Checksum{}, map[string]string{"good": "1", "bad": "2"})
		gone := commitFiles(t, r, "", Checksum{}, map[string]string{"stranger": "3"})
		if err := r.dropCommits([]Checksum{gone}); err != nil {
			t.Fatal(err)
		}
		bad := ObjectName{contentSum(t, r, "2"), TypeFile}
		damage(t, r, bad)
		damage(t, r, ObjectName{contentSum(t, r, "3"), TypeFile})
		f := newFsck(r, FsckOptions{Reachable: true, StopAtFirst: stop, Workers: 1})
		w := newFsckWalk(f)
		ctx := t.Context()
		steps := []func() error{
			func() error { return f.list(ctx) },
			f.lookAtCommits,
			func() error { return w.run(ctx) },
			func() error { saturate(&w.files); return f.eachDir(ctx, w.verifyDir) },
			f.conclude,
			f.dirs.close,
		}
		for _, step := range steps {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		if list := f.res.Findings; len(list) != 1 || list[0].Object != bad {
			t.Errorf("stop at first %t: found %v, want %s alone", stop, list, bad)
		}
		for n := range w.seen {
			if n.Type == TypeFile {
				t.Errorf("remembers file %s", n)
			}
		}
	}
}

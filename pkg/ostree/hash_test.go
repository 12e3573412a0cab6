// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
)

// TestHashContent compares with what storing the same file gives.
func TestHashContent(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	files := []struct {
		h    FileHeader
		text string
	}{
		{FileHeader{Mode: syscall.S_IFREG | 0o644}, ""},
		{FileHeader{UID: 5, GID: 6, Mode: syscall.S_IFREG | 0o4755, Xattrs: []Xattr{{"user.b", []byte("2")}, {"user.a", []byte("1")}}}, "text\n"},
		{FileHeader{Mode: syscall.S_IFLNK | 0o777, Target: "to"}, ""},
	}
	for _, f := range files {
		var stored Checksum
		_, err := r.Update(t.Context(), func(ctx context.Context, txn *Txn) (err error) {
			stored, err = txn.WriteContent(ctx, f.h, int64(len(f.text)), strings.NewReader(f.text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := HashContent(f.h, int64(len(f.text)), strings.NewReader(f.text))
		if err != nil || got != stored {
			t.Errorf("HashContent(%+v) = %s, %v; want %s", f.h, got, err, stored)
		}
		if size, err := r.StorageSize(ObjectName{stored, TypeFile}); err != nil || size == 0 {
			t.Errorf("StorageSize(%s) = %d, %v", stored, size, err)
		}
	}
	if _, err := HashContent(files[0].h, 3, strings.NewReader("four")); !errors.Is(err, ErrCorrupt) {
		t.Errorf("content of another size: %v", err)
	}
	if _, err := r.StorageSize(ObjectName{Checksum{1}, TypeFile}); !errors.Is(err, ErrNotFound) {
		t.Errorf("size of an absent object: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

func dirTree(name string) []byte {
	raw, err := ostree.DirTree{Files: []ostree.TreeFile{{Name: name}}}.Marshal()
	if err != nil {
		panic(err)
	}
	return raw
}

// TestBatchesLandOnTheWay writes from several goroutines with batches of a few
// objects: the first ones must come into the repository before the end.
func TestBatchesLandOnTheWay(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	b := newBatches(t.Context(), r)
	b.maxBytes = 5
	const writers, each = 4, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				err := b.write(func(x *ostree.Txn) (int64, error) {
					_, err := x.WriteMetadata(t.Context(), ostree.TypeDirTree, dirTree(fmt.Sprintf("%d-%d", w, i)))
					return 1, err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for deadline := time.Now().Add(time.Minute); len(objects(t, r)) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing landed before the end")
		}
	}
	testutil.Must(t, b.finish())
	if n := len(objects(t, r)); n != writers*each {
		t.Errorf("%d objects, want %d", n, writers*each)
	}
	if s := b.stats(); s.MetadataWritten != writers*each {
		t.Errorf("stats: %+v", s)
	}
}

// TestBatchWaitsForLockOnlyUntilCancelled holds the lock that a prune takes.
func TestBatchWaitsForLockOnlyUntilCancelled(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	lock, err := r.Dir().Lock(t.Context(), ".lock", false, 0)
	testutil.Must(t, err)
	defer lock.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	b := newBatches(ctx, r)
	err = b.write(func(*ostree.Txn) (int64, error) {
		t.Error("a transaction opened although the repository is locked")
		return 0, nil
	})
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("locked repository: %v", err)
	}
	testutil.Must(t, b.finish())
}

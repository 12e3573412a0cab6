// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
	"testing"
)

// One sync runs at a time; the error of any is kept; none begins after the end.
func TestEarlySync(t *testing.T) {
	t.Parallel()
	var e earlySync
	var runs atomic.Int32
	hold := make(chan struct{})
	run := func() error {
		if runs.Add(1) > 1 {
			return nil
		}
		<-hold
		return io.ErrClosedPipe
	}
	for range 3 * earlySyncObjects {
		e.count(run)
	}
	first := e.running
	if n := runs.Load(); n > 1 {
		t.Errorf("%d at a time", n)
	}
	close(hold)
	<-first
	e.count(run)
	if err := e.finish(); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	for range 2 * earlySyncObjects {
		e.count(run)
	}
	if n := runs.Load(); n != 2 {
		t.Errorf("%d syncs instead of 2", n)
	}
}

// A transaction with many objects commits them all, and one of which an early sync
// failed commits nothing.
func TestEarlySyncOfTxn(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{nil, io.ErrClosedPipe} {
		r := newTestRepo(t, ModeBareUser)
		var last Checksum
		_, err := r.Update(t.Context(), func(ctx context.Context, tx *Txn) (err error) {
			for i := range earlySyncObjects + 1 {
				content := binary.LittleEndian.AppendUint32(nil, uint32(i))
				if last, err = tx.writeBuffered(ctx, FileHeader{Mode: 0o100644}, content); err != nil {
					return err
				}
			}
			if tx.early.running == nil {
				t.Error("no early sync")
			}
			if failure != nil {
				tx.early.fail(failure)
			}
			return nil
		})
		if !errors.Is(err, failure) {
			t.Errorf("%v instead of %v", err, failure)
		}
		visible, err := r.HasLocal(ObjectName{last, TypeFile})
		if err != nil || visible != (failure == nil) {
			t.Errorf("with %v: object visible: %v, %v", failure, visible, err)
		}
	}
}

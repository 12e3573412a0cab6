// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// bigFiles remembers what became of the big files of a source.
type bigFiles struct{ stored, fresh atomic.Int64 }

func (b *bigFiles) count(stored bool) {
	if stored {
		b.stored.Add(1)
	} else {
		b.fresh.Add(1)
	}
}

// mostlyFresh waits for a few files before it judges.
func (b *bigFiles) mostlyFresh() bool { return b.fresh.Load() > 4*(b.stored.Load()+1) }

// writeBig stores a file that is not held in memory. Most big files of an update are
// stored already, and hashing is far cheaper than compressing or writing: they are
// hashed first, and read again only if they are new. Where most are new, as in an empty
// repository, they are read once, which wastes the writing of those that are not.
// What is stored is the same either way.
func (w *dirWriter) writeBig(ctx context.Context, j fileJob, f *os.File, size int64) (Checksum, error) {
	if w.big.mostlyFresh() {
		return w.streamBig(ctx, j, f, size)
	}
	c, err := w.t.r.hashContent(j.header, size, &ctxReader{ctx, f})
	if err != nil {
		return c, err
	}
	stored, err := w.t.Has(ObjectName{c, TypeFile})
	if err != nil {
		return c, err
	}
	w.big.count(stored)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return c, err
	}
	return c, w.t.WriteContentExpected(ctx, c, j.header, size, &ctxReader{ctx, f})
}

func (w *dirWriter) streamBig(ctx context.Context, j fileJob, f *os.File, size int64) (Checksum, error) {
	w.t.count.contentTotal.Add(1)
	hs, err := w.t.startHash(j.header)
	if err != nil {
		return Checksum{}, fmt.Errorf("write content: %w", err)
	}
	c, stored, err := w.t.streamContent(nil, hs, j.header, size, &ctxReader{ctx, f})
	if err != nil {
		return c, fmt.Errorf("write content: %w", err)
	}
	w.big.count(stored)
	return c, nil
}

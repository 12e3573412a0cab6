// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// slowReader says that it was asked, waits, and gives what it has or an error.
type slowReader struct {
	asked chan struct{}
	wait  chan struct{}
	err   error
	r     io.Reader
}

func (s *slowReader) Read(p []byte) (int, error) {
	if s.asked != nil {
		close(s.asked)
		s.asked = nil
		<-s.wait
	}
	if s.err != nil {
		return 0, s.err
	}
	return s.r.Read(p)
}

// While an object is written under its name, another writer of the same object takes
// it for present only if it becomes complete.
func TestTwoWritersOfOneObject(t *testing.T) {
	t.Parallel()
	const text = "the same for both"
	h := FileHeader{Mode: 0o100644}
	sum, err := HashContent(h, int64(len(text)), strings.NewReader(text))
	testutil.Must(t, err)
	for _, mode := range []Mode{ModeArchive, ModeBareUserOnly} {
		for _, failure := range []error{nil, errors.New("source is gone")} {
			r := newTestRepo(t, mode)
			_, err := r.Update(t.Context(), func(ctx context.Context, txn *Txn) error {
				slow := &slowReader{asked: make(chan struct{}), wait: make(chan struct{}), err: failure, r: strings.NewReader(text)}
				asked := slow.asked
				first, second := make(chan error), make(chan error)
				go func() { first <- txn.ImportContent(ctx, sum, h, int64(len(text)), slow) }()
				<-asked
				if found, err := txn.Has(ObjectName{Checksum: sum, Type: TypeFile}); found || err != nil {
					t.Errorf("present while it is written: %t, %v", found, err)
				}
				go func() { second <- txn.ImportContent(ctx, sum, h, int64(len(text)), strings.NewReader(text)) }()
				close(slow.wait)
				if err := <-first; !errors.Is(err, failure) {
					t.Errorf("first writer: %v", err)
				}
				return <-second
			})
			testutil.Must(t, err)
			_, _, rc, err := r.OpenFile(sum)
			testutil.Must(t, err)
			if got, err := io.ReadAll(rc); string(got) != text || err != nil {
				t.Errorf("%s: the object holds %q, %v", mode, got, err)
			}
			testutil.Must(t, rc.Close())
		}
	}
}

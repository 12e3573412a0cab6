// SPDX-License-Identifier: Apache-2.0

package importer_test

import (
	"bytes"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
)

// A package of rpm's own tests whose files are signed: the signatures are kept
// only where they are asked for, and the cache knows the difference.
func TestIMASignatures(t *testing.T) {
	t.Parallel()
	src := rpmtest.Open(t, testutil.Corpus(t, "rpms", "rpm-4.18-tests", "imatest-1.0-1.fc34.noarch.rpm"))
	repo := rpmtest.Cache(t, t.TempDir())
	want := map[string][]byte{}
	for _, f := range src.Package.Files() {
		if f.IsRegular() && len(f.Signature) > 0 {
			want[f.Path] = f.Signature
		}
	}
	if len(want) == 0 {
		t.Fatal("the package has no signatures")
	}
	for _, keep := range []bool{false, true, false} {
		res, err := importer.All(t.Context(), repo, []importer.Source{src}, importer.AllOptions{Filter: importer.Filter{IMA: keep}})
		testutil.Must(t, err)
		for name, sig := range want {
			n, err := repo.Lookup(res[0].Commit, name)
			testutil.Must(t, err)
			h, _, r, err := repo.OpenFile(n.File)
			testutil.Must(t, err)
			r.Close()
			var got []byte
			for _, x := range h.Xattrs {
				if x.Name == importer.IMAXattr {
					got = x.Value
				}
			}
			if keep != bytes.Equal(got, sig) || !keep && got != nil {
				t.Errorf("%s, keep %t: %x", name, keep, got)
			}
		}
	}
}

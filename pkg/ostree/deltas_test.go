// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"path"
	"slices"
	"testing"
)

// The paths of deltas are base64: a checksum may begin with any of its
// characters, + and _ as well, which no ref begins with.
func TestListDeltasByEveryLetter(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	put := func(name string) {
		t.Helper()
		if err := r.Dir().MkdirAll(path.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := r.Dir().WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var want []Checksum
	for i := range 256 {
		c := Checksum{byte(i), byte(255 - i)}
		want = append(want, c)
		put(DeltaName{To: c}.Path() + "/superblock")
		put(DeltaIndexPath(c))
	}
	var deltas []Checksum
	names, err := r.Deltas()
	for _, n := range names {
		deltas = append(deltas, n.To)
	}
	check := func(what string, got []Checksum, err error) {
		t.Helper()
		slices.SortFunc(got, Checksum.Compare)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %d of %d listed, %v", what, len(got), len(want), err)
		}
	}
	check("deltas", deltas, err)
	indexes, err := r.DeltaIndexes()
	check("indexes", indexes, err)
}

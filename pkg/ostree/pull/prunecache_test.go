// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"slices"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

func TestPruneCache(t *testing.T) {
	t.Parallel()
	dir, err := fsx.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	repo, err := ostree.Create(dir, ostree.ModeArchive, ostree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	where := Remotes{Repo: repo}
	if err := where.PruneCache(); err != nil {
		t.Errorf("without a cache: %v", err)
	}
	for _, name := range []string{"kept", "dot.sig"} {
		if err := where.Add(Remote{Name: name, URL: "http://example.com"}, AddOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	const root = "tmp/cache/summaries"
	if err := dir.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kept", "kept.sig", "gone", "gone.sig", "dot", "dot.sig.sig"} {
		if err := dir.WriteFile(root+"/"+name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := where.PruneCache(); err != nil {
		t.Fatal(err)
	}
	entries, err := dir.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	if want := []string{"dot.sig.sig", "kept", "kept.sig"}; !slices.Equal(names, want) {
		t.Errorf("left %q, want %q", names, want)
	}
}

// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// An image in layers that ostree-ext 0.15.3 made of a commit by libostree: set-uid,
// capabilities, attributes of files and directories, empty files, long names, large
// owners, a file at two places.
func TestImageOfOstreeExt(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/ostree-ext-0.15.3.oci.tar")
	testutil.Must(t, err)
	defer f.Close()
	img, err := OpenArchive(f, "")
	testutil.Must(t, err)
	r := newRepo(t, ostree.ModeArchive)
	res, err := Import(t.Context(), r, img, ImportOptions{Ref: "t"})
	testutil.Must(t, err)
	if res.Commit.String() != "7fd2858fdb692c38dc90d5b9a4009d6892df6f397addb270f943e1ff7ad3fb3c" || res.Layers != 6 || res.Objects != 14 {
		t.Errorf("%+v", res)
	}
	testutil.Run(t, testutil.Tool(t, "ostree"), "--repo="+r.Dir().Path(), "fsck")
	if names := previousPackages(img.Manifest); !slices.EqualFunc(names, []string{"bin", "etc", "kernel", "share"}, func(a []string, b string) bool { return len(a) == 1 && a[0] == b }) {
		t.Errorf("components %q", names)
	}
}

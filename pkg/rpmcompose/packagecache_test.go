// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// A package that was imported is not read again but for its header; one that must be
// imported again is.
func TestImportedPackagesAreNotRead(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.mustCompose("one", "", nil)
	found, err := filepath.Glob(filepath.Join(b.dir, "rpms", "demo-*.rpm"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	data, err := os.ReadFile(found[0])
	testutil.Must(t, err)
	pkg, err := rpm.ReadPackage(bytes.NewReader(data))
	testutil.Must(t, err)
	damage := func(offset int) {
		t.Helper()
		data[offset] ^= 0xff
		testutil.Must(t, os.WriteFile(found[0], data, 0o644))
	}
	end := len(data) - 1
	damage(end)
	if text := b.file(b.mustCompose("two", "", nil).Commit, "usr/share/demo/same"); text != "same\n" {
		t.Errorf("the file holds %q", text)
	}
	if _, err := b.compose("three", "documentation = false\n", nil); !errors.Is(err, fetch.ErrChecksum) {
		t.Errorf("a damaged package is imported in another form: %v", err)
	}
	damage(end)
	damage(int(pkg.PayloadOffset) - 1)
	if _, err := b.compose("four", "", nil); !errors.Is(err, fetch.ErrChecksum) {
		t.Errorf("a header that is not that of the imported package: %v", err)
	}
}

// A package cache that may have lost writes is dropped, and only that.
func TestLostPackageCache(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.mustCompose("one", "", nil)
	cache := b.src.Cache
	if ok, err := cache.Exists(unsyncedName); ok || err != nil {
		t.Fatalf("the mark remains: %t, %v", ok, err)
	}
	boot, err := bootID()
	testutil.Must(t, err)
	for _, c := range []struct {
		mark string
		kept bool
	}{{boot, true}, {"00000000-0000-0000-0000-000000000000", false}, {lostCache, false}, {"", false}} {
		const witness = cacheRepoName + "/witness"
		testutil.Must(t, cache.WriteFile(witness, nil, 0o644))
		testutil.Must(t, cache.WriteFile(unsyncedName, []byte(c.mark), 0o644))
		b.mustCompose("two", "add-commit-metadata = { mark = '"+c.mark+"' }\n", nil)
		_, err := cache.Lstat(witness)
		if kept := err == nil; kept != c.kept || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("mark %q: kept %t, %v", c.mark, kept, err)
		}
	}
}

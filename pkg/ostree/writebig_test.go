// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Big files become the same objects whether they are hashed first or stored in one go,
// and none is stored twice.
func TestWriteBig(t *testing.T) {
	t.Parallel()
	const files = 12
	src := t.TempDir()
	want := map[string]Checksum{}
	for i := range files {
		name, data := fmt.Sprint(i), bytes.Repeat(fmt.Append(nil, "block ", i%(files-2)), smallContent/6)
		if err := os.WriteFile(filepath.Join(src, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		h := FileHeader{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mode: 0o100644}
		c, err := HashContent(h, int64(len(data)), bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		want[name] = c
	}
	r := newTestRepo(t, ModeArchive)
	for _, written := range []int{files - 2, 0} {
		c, stats := commitDirs(t, r, true, 1, src)
		if stats.ContentTotal != files || stats.ContentWritten != written {
			t.Errorf("counts %+v, want %d files of which %d written", stats, files, written)
		}
		tree, err := r.LoadDirTree(c.RootTree)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range tree.Files {
			if f.Checksum != want[f.Name] {
				t.Errorf("file %s is object %s, want %s", f.Name, f.Checksum, want[f.Name])
			}
		}
	}
	if res, err := r.Fsck(t.Context(), FsckOptions{}); err != nil || len(res.Findings) > 0 {
		t.Errorf("fsck: %+v, %v", res, err)
	}
}

func TestBigFilesJudge(t *testing.T) {
	t.Parallel()
	var b bigFiles
	for range 4 {
		b.count(false)
	}
	if b.mostlyFresh() {
		t.Error("judges after four files")
	}
	if b.count(false); !b.mostlyFresh() {
		t.Error("five new files are not mostly new")
	}
	if b.count(true); b.mostlyFresh() {
		t.Error("does not come back to hashing first")
	}
}

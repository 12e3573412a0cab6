// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// payloadTree makes a tree with a file that is held in memory while it is written, one
// that is not, an empty one and a link.
func payloadTree(t *testing.T, root string, mode os.FileMode) {
	t.Helper()
	testutil.Must(t, os.MkdirAll(root, 0o755))
	for name, size := range map[string]int{"small": 64 << 10, "big": 3<<20 + 17, "empty": 0, "tiny": 5} {
		data := bytes.Repeat([]byte(name+"\x00content"), size)[:size]
		path := filepath.Join(root, name)
		testutil.Must(t, errors.Join(os.WriteFile(path, data, 0o600), os.Chmod(path, mode)))
	}
	testutil.Must(t, os.Symlink("small", filepath.Join(root, "link")))
}

// payloadLinks lists the payload links of a repository. Which of the objects with its
// content a link leads to is free: libostree's is the last one, ours the first.
func payloadLinks(t *testing.T, repo string) (names []string) {
	t.Helper()
	root := filepath.Join(repo, "objects")
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(p, ".payload-link") {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		names = append(names, rel)
		target, err := os.Readlink(p)
		if _, ok := payloadTarget(target); !ok {
			t.Errorf("%s leads to %s", p, target)
		}
		return err
	})
	testutil.Must(t, err)
	return names
}

// checkShared compares where the objects of each size are stored: n of a size, all
// in the same place.
func checkShared(t *testing.T, repo string, n int) {
	t.Helper()
	places := map[int64]map[string]int{}
	err := filepath.WalkDir(filepath.Join(repo, "objects"), func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.HasSuffix(p, ".file") {
			return err
		}
		st, err := e.Info()
		if err != nil || st.Size() < 4096 {
			return err // may be stored in the inode
		}
		where, shared := testutil.Extents(t, p)
		if !shared {
			t.Errorf("%s shares nothing: %s", p, where)
		}
		if places[st.Size()] == nil {
			places[st.Size()] = map[string]int{}
		}
		places[st.Size()][where]++
		return nil
	})
	testutil.Must(t, err)
	if len(places) != 2 {
		t.Errorf("%s: %d sizes of files", repo, len(places))
	}
	for size, where := range places {
		if len(where) != 1 || where[slices.Collect(maps.Keys(where))[0]] != n {
			t.Errorf("%s: files of %d bytes are not one in %d places: %v", repo, size, n, where)
		}
	}
}

// Two commits of the same content under other modes: links and shared blocks are
// those of libostree, and each side goes on with what the other began.
func TestPayloadLinks(t *testing.T) {
	t.Parallel()
	ostree := testutil.Tool(t, "ostree")
	for _, fstype := range []string{"xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			t.Parallel()
			root := testutil.Filesystem(t, fstype)
			first, second, third := filepath.Join(root, "first"), filepath.Join(root, "second"), filepath.Join(root, "third")
			payloadTree(t, first, 0o644)
			payloadTree(t, second, 0o755)
			payloadTree(t, third, 0o700)
			for _, mode := range []Mode{ModeBare, ModeBareUser, ModeBareUserOnly} {
				theirs, ours := filepath.Join(root, mode.String()+"-theirs"), filepath.Join(root, mode.String()+"-ours")
				createRepo(t, ours, mode)
				for _, repo := range []string{theirs, ours} {
					run(t, ostree, "--repo="+repo, "init", "--mode="+mode.String())
					run(t, ostree, "--repo="+repo, "config", "set", "core."+keyPayloadThreshold, "16")
				}
				for _, src := range []string{first, second} {
					run(t, ostree, "--repo="+theirs, "commit", "-b", "b", src)
					commitDir(t, openRepo(t, ours), src, "b", CommitOptions{})
				}
				checkShared(t, ours, 2)
				// Of content without attributes, such as all in this mode, libostree keeps no links.
				if mode != ModeBareUserOnly {
					if diff := cmp.Diff(payloadLinks(t, theirs), payloadLinks(t, ours)); diff != "" {
						t.Errorf("%s: payload links (-libostree +ours)\n%s", mode, diff)
					}
					checkShared(t, theirs, 2)
					commitDir(t, openRepo(t, theirs), third, "c", CommitOptions{})
					run(t, ostree, "--repo="+ours, "commit", "-b", "c", third)
					checkShared(t, theirs, 3)
					checkShared(t, ours, 3)
				}
				if links := len(payloadLinks(t, ours)); links != 2 {
					t.Errorf("%s: %d payload links", mode, links)
				}
				for _, repo := range []string{theirs, ours} {
					run(t, ostree, "--repo="+repo, "fsck")
					if res, err := openRepo(t, repo).Fsck(t.Context(), FsckOptions{}); err != nil || len(res.Findings) > 0 {
						t.Errorf("%s: fsck: %v, %v", repo, res.Findings, err)
					}
				}
			}
		})
	}
}

func openRepo(t *testing.T, path string) *Repo {
	t.Helper()
	r, err := Open(testutil.OpenDir(t, path), Options{})
	testutil.Must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// reflinkRepo makes a repository with payload links.
func reflinkRepo(t *testing.T, path string, mode Mode) *Repo {
	t.Helper()
	r := createRepo(t, path, mode)
	testutil.Must(t, r.SetConfigValue("core", keyPayloadThreshold, "16"))
	return openRepo(t, path)
}

func onlyFile(t *testing.T, r *Repo, c Checksum, name string) ObjectName {
	t.Helper()
	tree, err := r.LoadDirTree(loadCommit(t, r, c).RootTree)
	testutil.Must(t, err)
	f, ok := tree.File(name)
	if !ok {
		t.Fatalf("no file %s in %s", name, c)
	}
	return ObjectName{f.Checksum, TypeFile}
}

func extents(t *testing.T, path string) string {
	t.Helper()
	where, shared := testutil.Extents(t, path)
	if !shared {
		t.Errorf("%s shares nothing", path)
	}
	return where
}

// Whatever is copied within a filesystem shares its blocks: a committed big file with
// the directory it came from, a checkout that may not link with the repository, an
// object taken over by a repository that cannot link it with where it was.
func TestReflinks(t *testing.T) {
	t.Parallel()
	for _, fstype := range []string{"xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			t.Parallel()
			root := testutil.Filesystem(t, fstype)
			src := filepath.Join(root, "src")
			payloadTree(t, src, 0o644)
			a := createRepo(t, filepath.Join(root, "a"), ModeBare)
			c := commitDir(t, a, src, "r", CommitOptions{})
			big := extents(t, objectFile(a, onlyFile(t, a, c, "big")))
			if from := extents(t, filepath.Join(src, "big")); from != big {
				t.Errorf("committed file: %s, its object: %s", from, big)
			}
			for _, o := range []CheckoutOptions{{ForceCopy: true}, {UserMode: true}} {
				to := filepath.Join(root, "out")
				testutil.Must(t, a.Checkout(t.Context(), c, testutil.OpenDir(t, root), "out", o))
				if got := extents(t, filepath.Join(to, "big")); got != big {
					t.Errorf("checked out: %s, object: %s", got, big)
				}
				testutil.Must(t, os.RemoveAll(to))
			}
			for _, mode := range []Mode{ModeBareUser, ModeBareUserOnly} {
				b := createRepo(t, filepath.Join(root, mode.String()), mode)
				for _, verify := range []bool{true, false} {
					n := onlyFile(t, a, c, map[bool]string{true: "big", false: "small"}[verify])
					done, err := cloneOne(t, b, a, n.Checksum, verify)
					if !done || err != nil {
						t.Fatalf("clone: %t, %v", done, err)
					}
					if got, want := extents(t, objectFile(b, n)), extents(t, objectFile(a, n)); got != want {
						t.Errorf("taken over: %s, object: %s", got, want)
					}
					testutil.Must(t, b.verifyStored(n))
				}
			}
		})
	}
}

func cloneOne(t *testing.T, to, from *Repo, c Checksum, verify bool) (done bool, err error) {
	t.Helper()
	_, uerr := to.Update(t.Context(), func(ctx context.Context, tx *Txn) error {
		done, err = tx.CloneObject(ctx, from, c, verify)
		return err
	})
	if err == nil {
		err = uerr
	}
	return done, err
}

// A clone of damaged bytes does not enter where it is verified, and where blocks
// cannot be shared nothing is done.
func TestCloneRefuses(t *testing.T) {
	t.Parallel()
	root := testutil.Filesystem(t, "xfs")
	src := filepath.Join(root, "src")
	payloadTree(t, src, 0o644)
	a := createRepo(t, filepath.Join(root, "a"), ModeBareUser)
	c := commitDir(t, a, src, "r", CommitOptions{})
	n := onlyFile(t, a, c, "big")
	elsewhere := newTestRepo(t, ModeBareUser)
	archive := createRepo(t, filepath.Join(root, "archive"), ModeArchive)
	for _, to := range []*Repo{elsewhere, archive} {
		if done, err := cloneOne(t, to, a, n.Checksum, true); done || err != nil {
			t.Errorf("clone into %s: %t, %v", to.Dir().Path(), done, err)
		}
	}
	b := createRepo(t, filepath.Join(root, "b"), ModeBareUser)
	if _, err := cloneOne(t, b, a, sha([]byte("none")), true); !errors.Is(err, ErrNotFound) {
		t.Errorf("clone of an absent object: %v", err)
	}
	damage(t, a, n)
	if _, err := cloneOne(t, b, a, n.Checksum, true); !errors.Is(err, ErrCorrupt) {
		t.Errorf("clone of a damaged object: %v", err)
	}
	if found, err := b.Has(n); found || err != nil {
		t.Errorf("damaged object: %t, %v", found, err)
	}
}

// A payload link that lies is found, gives no new object its content, and goes; one
// that leads nowhere is replaced. A parent's content is shared, too.
func TestWrongPayloadLinks(t *testing.T) {
	t.Parallel()
	root := testutil.Filesystem(t, "xfs")
	first, second := filepath.Join(root, "first"), filepath.Join(root, "second")
	payloadTree(t, first, 0o644)
	payloadTree(t, second, 0o755)
	r := reflinkRepo(t, filepath.Join(root, "repo"), ModeBareUser)
	c := commitDir(t, r, first, "a", CommitOptions{})
	data, err := os.ReadFile(filepath.Join(first, "small"))
	testutil.Must(t, err)
	link := ObjectName{sha(data), TypePayloadLink}
	relink := func(n ObjectName) {
		t.Helper()
		testutil.Must(t, os.Remove(objectFile(r, link)))
		testutil.Must(t, os.Symlink("../"+n.loosePath(r.mode), objectFile(r, link)))
	}
	relink(onlyFile(t, r, c, "big"))
	want := []Finding{{Kind: WrongPayloadLink, Object: link}}
	check := func(got []Finding) {
		t.Helper()
		for i := range got {
			got[i].Detail = ""
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(Finding{})); diff != "" {
			t.Errorf("findings (-want +got)\n%s", diff)
		}
	}
	res, err := r.Fsck(t.Context(), FsckOptions{})
	testutil.Must(t, err)
	check(res.Findings)

	// libostree would now give the content of "big" to the new object.
	n := onlyFile(t, r, commitDir(t, r, second, "b", CommitOptions{}), "small")
	if got, err := os.ReadFile(objectFile(r, n)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("object behind a wrong link: %v", err)
	}
	fixed, err := r.Repair(t.Context(), RepairOptions{})
	testutil.Must(t, err)
	check(fixed.Findings)
	if len(fixed.Remaining) > 0 {
		t.Errorf("remains: %v", fixed.Remaining)
	}
	want = nil
	res, err = r.Fsck(t.Context(), FsckOptions{})
	testutil.Must(t, err)
	check(res.Findings)

	payloadTree(t, filepath.Join(root, "third"), 0o700)
	commitDir(t, r, filepath.Join(root, "third"), "c", CommitOptions{})
	relink(ObjectName{sha([]byte("gone")), TypeFile})
	if _, err := os.Stat(objectFile(r, link)); err == nil {
		t.Fatal("the link leads somewhere")
	}
	payloadTree(t, filepath.Join(root, "fourth"), 0o750)
	commitDir(t, r, filepath.Join(root, "fourth"), "d", CommitOptions{})
	if _, err := os.Stat(objectFile(r, link)); err != nil {
		t.Errorf("link that led nowhere: %v", err)
	}

	child := reflinkRepo(t, filepath.Join(root, "child"), ModeBareUser)
	testutil.Must(t, child.SetConfigValue("core", "parent", r.Dir().Path()))
	child = openRepo(t, child.Dir().Path())
	payloadTree(t, filepath.Join(root, "fifth"), 0o640)
	own := onlyFile(t, child, commitDir(t, child, filepath.Join(root, "fifth"), "e", CommitOptions{}), "small")
	if here, err := child.HasLocal(own); !here || err != nil {
		t.Fatalf("object of its own: %t, %v", here, err)
	}
	extents(t, objectFile(child, own))
}

func TestPayloadThreshold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{"": 0, "-1": math.MaxUint64, "-7": math.MaxUint64, "0": 0, " 12 ": 12, "18446744073709551615": math.MaxUint64} {
		cfg := keyfile.New()
		testutil.Must(t, cfg.SetString("core", keyPayloadThreshold, text))
		got, err := payloadThreshold(cfg)
		if bad := text == ""; bad != errors.Is(err, ErrInvalid) || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	if got, err := payloadThreshold(keyfile.New()); got != noPayloadLinks || err != nil {
		t.Errorf("default: %d, %v", got, err)
	}
}

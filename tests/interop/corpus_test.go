// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// corpusCase says which test reads, or refuses, the files that a pattern of
// path.Match names; "/**" at the end is all below a folder.
type corpusCase struct{ files, file, test string }

const wild, suite = "ebassi-glarea-example/", "ostreedev-tests/"

var corpusCases = []corpusCase{
	{wild + "repo/**", "pkg/ostree/pull/corpus_test.go", "TestPullOldRepository"},
	{wild + "repo/**", "tests/interop/corpus_test.go", "TestCorpusRepository"},
	{wild + "repo/**", "pkg/ostree/gpg/gpg_test.go", "TestExpiredInTheWild"},
	{wild + "glarea-example.gpg", "pkg/ostree/gpg/gpg_test.go", "TestExpiredInTheWild"},
	{wild + "glarea-example.flatpakref", "tests/interop/corpus_test.go", "TestCorpusTexts"},
	{wild + "_config.yml", "tests/interop/corpus_test.go", "TestCorpusTexts"},
	{suite + "bare-split-xattrs-basic.tar.xz", "pkg/ostree/readside_test.go", "TestSplitXattrs"},
	{suite + "fah-deltadata-*.tar.xz", "pkg/ostree/delta/corpus_test.go", "TestRealPairs"},
	{suite + "pre-endian-deltas-repo-*.tar.xz", "pkg/ostree/delta/corpus_test.go", "TestUndeclaredEndianness"},
	{suite + "ostree-path-traverse.tar.gz", "pkg/ostree/pull/corpus_test.go", "TestPullPathTraversal"},
	{suite + "ostree-path-traverse.tar.gz", "pkg/ostree/readside_test.go", "TestHostileTree"},
	{suite + "pre-signed-pull-data.tar.gz", "pkg/ostree/pull/verify_test.go", "TestPreSigned"},
	{suite + "gpghome/key?.asc", "pkg/ostree/gpg/keyring_test.go", "TestImport"},
	{suite + "gpghome/trusted/pubring.gpg", "pkg/ostree/gpg/keyring_test.go", "TestImport"},
	{suite + "gpghome/secring.gpg", "pkg/ostree/gpg/keyring_test.go", "TestImport"},
	{suite + "gpghome/pubring.gpg", "tests/interop/corpus_test.go", "TestCorpusKeys"},
	{suite + "gpghome/trustdb.gpg", "tests/interop/corpus_test.go", "TestCorpusKeys"},
	{suite + "gpghome/revocations/key?.rev", "tests/interop/corpus_test.go", "TestCorpusRevocations"},
	{suite + "gpg-verify-data/lgpl2*", "pkg/ostree/gpg/gpg_test.go", "TestVerdictsOfGPG"},
	{suite + "gpg-verify-data/gpg.conf", "pkg/ostree/gpg/gpg_test.go", "TestVerdictsOfGPG"},
	{suite + "gpg-verify-data/pubring.gpg", "pkg/ostree/gpg/gpg_test.go", "TestVerdictsOfGPG"},
	{suite + "gpg-verify-data/secring.gpg", "tests/interop/corpus_test.go", "TestCorpusKeys"},
	{suite + "gpg-verify-data/trustdb.gpg", "tests/interop/corpus_test.go", "TestCorpusKeys"},
	{suite + "gpg-verify-data/README.md", "tests/interop/corpus_test.go", "TestCorpusTexts"},
	{suite + "rust-bindings/tests/data/test.tar", "tests/interop/corpus_test.go", "TestCorpusTar"},
}

func (c corpusCase) names(file string) bool {
	if dir, ok := strings.CutSuffix(c.files, "**"); ok {
		return strings.HasPrefix(file, dir)
	}
	ok, err := path.Match(c.files, file)
	return ok && err == nil
}

// Every file of the corpus is named by a case, every case names a file, and the test
// that it names exists.
func TestCorpusIsCovered(t *testing.T) {
	t.Parallel()
	root := testutil.Corpus(t, "ostree")
	used := make([]bool, len(corpusCases))
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		named := false
		for i, c := range corpusCases {
			if c.names(rel) {
				named, used[i] = true, true
			}
		}
		if !named {
			t.Errorf("no test reads %s", rel)
		}
		return err
	})
	testutil.Must(t, err)
	for i, c := range corpusCases {
		if !used[i] {
			t.Errorf("no file is %s", c.files)
		}
		if !slices.Contains(testsIn(t, c.file), c.test) {
			t.Errorf("%s: %s has no %s", c.files, c.file, c.test)
		}
	}
}

func testsIn(t *testing.T, file string) (names []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("../..", file), nil, parser.SkipObjectResolution)
	testutil.Must(t, err)
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			names = append(names, fn.Name.Name)
		}
	}
	return names
}

func corpusFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(testutil.Corpus(t, "ostree", name))
	testutil.Must(t, err)
	return data
}

// The published repository: every object is good, every file but those of the
// repository's own is an object, and summary, refs and signatures are read.
func TestCorpusRepository(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	testutil.Run(t, "cp", "-a", testutil.Corpus(t, "ostree", wild+"repo"), dir)
	objects := 0
	testutil.Must(t, filepath.WalkDir(filepath.Join(dir, "objects"), func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !strings.HasSuffix(p, ".commitmeta") {
			objects++
		}
		return err
	}))
	r, err := ostree.Open(testutil.OpenDir(t, dir), ostree.Options{})
	testutil.Must(t, err)
	defer r.Close()
	res, err := r.Fsck(t.Context(), ostree.FsckOptions{})
	testutil.Must(t, err)
	for _, f := range res.Findings {
		t.Errorf("%v", f)
	}
	if metas := res.Objects - objects; metas != 0 && metas != res.Commits {
		t.Errorf("%d of %d objects checked, %d commits", res.Objects, objects, res.Commits)
	}
	commits, err := r.Commits(t.Context())
	testutil.Must(t, err)
	for _, c := range commits {
		d, err := r.CommitMeta(c)
		if sigs, ok := d.ByteSlices("ostree.gpgsigs"); err != nil || !ok || len(sigs) == 0 {
			t.Errorf("commit %s: %d signatures, %v", c, len(sigs), err)
		}
	}
	refs, err := r.Refs("")
	if err != nil || len(refs) != 2 {
		t.Errorf("refs: %v, %v", refs, err)
	}
	s, err := ostree.ParseSummary(corpusFile(t, wild+"repo/summary"))
	if err != nil || len(s.Refs) == 0 {
		t.Errorf("summary: %d refs, %v", len(s.Refs), err)
	}
	if d, err := gvariant.ParseDict(corpusFile(t, wild+"repo/summary.sig")); err != nil || d.Len() == 0 {
		t.Errorf("summary.sig: %v", err)
	}
}

// A key file that is not ours is read as one, with the key that it carries; what is no
// key file is refused with its line.
func TestCorpusTexts(t *testing.T) {
	t.Parallel()
	cfg, err := keyfile.Parse(corpusFile(t, wild+"glarea-example.flatpakref"))
	testutil.Must(t, err)
	text, err := cfg.GetString("Flatpak Ref", "GPGKey")
	testutil.Must(t, err)
	key, err := base64.StdEncoding.DecodeString(text)
	testutil.Must(t, err)
	var embedded, file sign.Keyring
	testutil.Must(t, errors.Join(embedded.Add(key), file.Add(corpusFile(t, wild+"glarea-example.gpg"))))
	if a, b := embedded.Blocks(), file.Blocks(); len(a) != 1 || len(b) != 1 || !bytes.Equal(a[0].Bytes(), b[0].Bytes()) {
		t.Errorf("%d keys in the key file, %d beside it, or others", len(a), len(b))
	}
	for _, name := range []string{wild + "_config.yml", suite + "gpg-verify-data/README.md"} {
		data := corpusFile(t, name)
		if _, err := keyfile.Parse(data); err == nil {
			t.Errorf("%s is a key file", name)
		}
		if blocks, err := sign.ReadBlocks(data); err == nil && len(blocks) > 0 {
			t.Errorf("%s holds %d keys", name, len(blocks))
		}
	}
}

// Public keyrings are read. Secret keys, and GnuPG's own databases, are none that a
// remote may trust.
func TestCorpusKeys(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{
		suite + "gpghome/pubring.gpg":         0, // a text: where the keys are
		suite + "gpghome/trusted/pubring.gpg": 3,
		suite + "gpghome/secring.gpg":         0,
		suite + "gpghome/trustdb.gpg":         0,
		suite + "gpg-verify-data/secring.gpg": 0,
		suite + "gpg-verify-data/trustdb.gpg": 0,
	} {
		var k sign.Keyring
		err := k.Add(corpusFile(t, name))
		if k.Len() != want || (want == 0) != (err != nil) {
			t.Errorf("%s: %d keys, %v; want %d", name, k.Len(), err, want)
		}
	}
}

// A revocation alone is no key; the key that gpg merged it into counts as revoked, the
// others do not.
func TestCorpusRevocations(t *testing.T) {
	t.Parallel()
	gpg := testutil.Tool(t, "gpg")
	keys := []string{"key1", "key2", "key3"}
	for _, revoked := range keys {
		home, err := os.MkdirTemp("", "g") // sockets have short names
		testutil.Must(t, err)
		defer os.RemoveAll(home)
		rev := testutil.Corpus(t, "ostree", suite+"gpghome/revocations/"+revoked+".rev")
		argv := []string{gpg, "--homedir", home, "--batch", "--no-autostart", "--quiet"}
		for _, name := range keys {
			testutil.Run(t, append(argv, "--import", testutil.Corpus(t, "ostree", suite+"gpghome/"+name+".asc"))...)
		}
		testutil.Run(t, append(argv, "--import", rev)...)
		out := filepath.Join(home, "export")
		testutil.Run(t, append(argv, "--output", out, "--export")...)
		data, err := os.ReadFile(out)
		testutil.Must(t, err)
		var k sign.Keyring
		testutil.Must(t, k.Add(data))
		want, err := os.ReadFile(rev)
		testutil.Must(t, err)
		n := 0
		for _, c := range k.Certificates(time.Time{}) {
			if !c.Keys[0].Revoked {
				continue
			}
			n++
			var own sign.Keyring
			testutil.Must(t, own.Add(corpusFile(t, suite+"gpghome/"+revoked+".asc")))
			if own.Certificates(time.Time{})[0].Keys[0].Fingerprint != c.Keys[0].Fingerprint {
				t.Errorf("%s revokes another key", revoked)
			}
		}
		if n != 1 || len(k.Blocks()) != len(keys) {
			t.Errorf("%s: %d of %d keys are revoked", revoked, n, len(k.Blocks()))
		}
		var alone sign.Keyring
		if err := alone.Add(want); err == nil || alone.Len() != 0 {
			t.Errorf("%s.rev alone: %d keys, %v", revoked, alone.Len(), err)
		}
	}
}

// The archive gives the commit that libostree makes of it.
func TestCorpusTar(t *testing.T) {
	t.Parallel()
	real := testutil.Tool(t, "ostree")
	name := testutil.Corpus(t, "ostree", suite+"rust-bindings/tests/data/test.tar")
	dir := t.TempDir()
	testutil.Run(t, real, "init", "--repo="+dir, "--mode=archive")
	theirs, err := ostree.ParseChecksum(testutil.Run(t, real, "commit", "--repo="+dir, "-b", "x", "--tree=tar="+name, "--no-xattrs"))
	testutil.Must(t, err)
	r, err := ostree.Open(testutil.OpenDir(t, dir), ostree.Options{})
	testutil.Must(t, err)
	defer r.Close()
	want, err := r.LoadCommit(theirs)
	testutil.Must(t, err)
	f, err := os.Open(name)
	testutil.Must(t, err)
	defer f.Close()
	_, err = r.Update(t.Context(), func(ctx context.Context, tx *ostree.Txn) error {
		m := ostree.NewMTree()
		if err := tx.WriteTar(ctx, f, m, ostree.CommitOptions{SkipXattrs: true}, ostree.TarOptions{}); err != nil {
			return err
		}
		tree, meta, err := tx.WriteTree(ctx, m)
		if err == nil && (tree != want.RootTree || meta != want.RootMeta) {
			t.Errorf("tree %s, metadata %s; libostree has %s, %s", tree, meta, want.RootTree, want.RootMeta)
		}
		return err
	})
	testutil.Must(t, err)
}

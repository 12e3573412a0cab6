// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// TestCorpusRepositories loads every repository of the collection with all its
// lists and compares with what expectedRepositories says; a repository that the
// table does not name fails.
func TestCorpusRepositories(t *testing.T) {
	t.Parallel()
	walkCorpus(t, expectedRepositories, func(p string) (string, bool) {
		if !strings.HasSuffix(p, "/repodata/repomd.xml") {
			return "", false
		}
		return filepath.Dir(filepath.Dir(p)), true
	}, summarise)
}

// TestCorpusLists reads every group, module, advisory, mirror and repository
// definition file, also those that no repomd.xml names.
func TestCorpusLists(t *testing.T) {
	t.Parallel()
	walkCorpus(t, expectedLists, func(p string) (string, bool) { return p, !strings.Contains(p, "/src/") && listReader(p) != nil }, func(_ *testing.T, p string) string {
		text, err := plainText(p)
		if err != nil {
			return outcome(err)
		}
		return listReader(p)(text)
	})
}

func walkCorpus(t *testing.T, expected map[string]string, pick func(string) (string, bool), measure func(*testing.T, string) string) {
	t.Helper()
	root := testutil.Corpus(t, "yum-repos")
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, ok := pick(strings.TrimPrefix(p, root+"/"))
		if !ok {
			return nil
		}
		what := filepath.Join(root, rel)
		seen[rel] = true
		want, known := expected[rel]
		if got := measure(t, what); !known || got != want {
			t.Errorf("\t%q: %q, // expected %q", rel, got, want)
		}
		return nil
	})
	if err != nil || len(seen) == 0 {
		t.Fatalf("%d found, %v", len(seen), err)
	}
	for rel := range expected {
		if !seen[rel] {
			t.Errorf("%s is expected but not there", rel)
		}
	}
}

func outcome(err error) string {
	for text, is := range map[string]error{"checksum": fetch.ErrChecksum, "syntax": ErrSyntax, "missing": fetch.ErrNotFound} {
		if errors.Is(err, is) {
			return "refused: " + text
		}
	}
	return err.Error()
}

func summarise(t *testing.T, base string) string {
	ctx := context.Background()
	m, err := Load(ctx, Repo{ID: "r", BaseURLs: []string{base}}, testutil.OpenDir(t, t.TempDir()), Options{})
	if err != nil {
		return outcome(err)
	}
	out := fmt.Sprintf("%d packages", len(m.Packages))
	note := func(format string, err error, n ...any) {
		switch {
		case errors.Is(err, ErrNoList):
		case err != nil:
			out += ", " + outcome(err)
		default:
			out += ", " + fmt.Sprintf(format, n...)
		}
	}
	files := 0
	lists, err := m.Filelists(ctx)
	for _, l := range lists {
		files += len(l)
	}
	note("%d files", err, files)
	comps, err := m.Comps(ctx)
	if comps == nil {
		comps = &Comps{}
	}
	note("%d groups, %d environments", err, len(comps.Groups), len(comps.Environments))
	adv, err := m.Updateinfo(ctx)
	note("%d advisories", err, len(adv))
	mods, err := m.Modules(ctx)
	if mods == nil {
		mods = &Modules{}
	}
	note("%d module streams, %d defaults", err, len(mods.Streams), len(mods.Defaults))
	return out
}

// listReader gives the reader for a file after its name.
func listReader(p string) func([]byte) string {
	base := filepath.Base(p)
	if strings.HasSuffix(base, ".zck") {
		return nil
	}
	switch {
	case strings.Contains(base, "comps") && strings.Contains(base, ".xml"):
		return func(b []byte) string {
			c, err := ParseComps(b)
			if err != nil {
				return outcome(err)
			}
			return fmt.Sprintf("%d groups, %d environments", len(c.Groups), len(c.Environments))
		}
	case strings.Contains(base, ".yaml"):
		return func(b []byte) string {
			m, err := ParseModules(b)
			if err != nil {
				return outcome(err)
			}
			return fmt.Sprintf("%d module streams, %d defaults", len(m.Streams), len(m.Defaults))
		}
	case strings.Contains(base, "updateinfo") && strings.Contains(base, ".xml"):
		return func(b []byte) string {
			a, err := ParseUpdateinfo(b)
			if err != nil {
				return outcome(err)
			}
			return fmt.Sprintf("%d advisories", len(a))
		}
	case strings.HasPrefix(base, "mirrorlist"):
		return func(b []byte) string { return fmt.Sprintf("%d mirrors", len(parseMirrorlist(b))) }
	case strings.HasPrefix(base, "metalink"):
		return func(b []byte) string {
			m, sums, err := parseMetalink(b)
			if err != nil {
				return outcome(err)
			}
			return fmt.Sprintf("%d mirrors, %d digests", len(m), len(sums))
		}
	case strings.HasSuffix(base, ".repo"), strings.HasSuffix(base, ".repo.in"):
		return func(b []byte) string {
			r, err := ParseRepos(base, b, nil)
			if err != nil {
				return outcome(err)
			}
			return fmt.Sprintf("%d repositories", len(r))
		}
	}
	return nil
}

func plainText(p string) ([]byte, error) {
	f, err := os.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := rpm.Decompress(f, "")
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return io.ReadAll(z)
}

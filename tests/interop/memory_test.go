// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// launcher makes the test binary run a program and print its peak memory. What wait4
// tells of a program includes the process that started it, as it was then: this one
// is small, the tests may not be.
const launcher = "INTEROP_TEST_LAUNCHER"

func TestMain(m *testing.M) {
	if os.Getenv(launcher) == "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(127)
	}
	fmt.Println(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10)
	os.Exit(cmd.ProcessState.ExitCode())
}

// peakOf runs a program to its end.
func peakOf(t *testing.T, argv ...string) int64 {
	t.Helper()
	self, err := os.Executable()
	testutil.Must(t, err)
	cmd := exec.CommandContext(t.Context(), self, argv...)
	cmd.Env = append(os.Environ(), launcher+"=1")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", argv, err, out, errs.String())
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatalf("%v: %q", argv, out)
	}
	return n
}

// TestPeakMemory pulls many files, and much in one file, and looks at what the program
// had in memory at its highest.
func TestPeakMemory(t *testing.T) {
	t.Parallel()
	const most = 96 << 20
	ours := buildOurs(t)
	for _, c := range []struct {
		name        string
		files, dirs int
		size        int64
	}{{"many files", 12000, 300, 3000}, {"a big file", 1, 1, 300 << 20}} {
		t.Run(c.name, func(t *testing.T) { // one after the other, for the disk's sake
			dir := t.TempDir()
			if c.size*int64(c.files) < 100<<20 {
				dir = inMemory(t)
			}
			server := httptest.NewServer(http.FileServer(http.Dir(bulk(t, filepath.Join(dir, "src"), c.files, c.dirs, c.size))))
			defer server.Close()
			repo := "--repo=" + filepath.Join(dir, "dst")
			ours.run(t, repo, "init", "--mode=bare-user-only")
			ours.run(t, repo, "remote", "add", "--no-gpg-verify", "o", server.URL)
			peak := peakOf(t, ours.path, repo, "pull", "--disable-fsync", "o", "main")
			t.Logf("peak %.1f MiB", float64(peak)/(1<<20))
			if peak > most || peak < 1<<20 {
				t.Errorf("%d bytes in memory, at most %d", peak, most)
			}
			if n := len(strings.Split(ours.run(t, repo, "ls", "-R", "o:main"), "\n")); n != 1+c.dirs+c.files {
				t.Errorf("%d paths", n)
			}
		})
	}
}

// inMemory is TempDir in the scratch folder: many small files take a disk long.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch(), "interop")
	testutil.Must(t, err)
	t.Cleanup(func() { testutil.Must(t, os.RemoveAll(dir)) })
	return dir
}

// bulk makes an archive with a commit of so many files of a size, of bytes that do not
// compress, without much memory or time.
func bulk(t *testing.T, path string, files, dirs int, size int64) string {
	t.Helper()
	testutil.Must(t, os.Mkdir(path, 0o755))
	repo, err := ostree.Create(testutil.OpenDir(t, path), ostree.ModeArchive, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	defer repo.Close()
	_, err = repo.Update(t.Context(), func(ctx context.Context, txn *ostree.Txn) error {
		m := ostree.NewMTree()
		if err := m.SetMeta(ostree.DirMeta{Mode: 0o40755}); err != nil {
			return err
		}
		for i := range files {
			sum, err := txn.WriteContent(ctx, ostree.FileHeader{Mode: 0o100644}, size, io.LimitReader(rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)}), size))
			if err != nil {
				return err
			}
			d, err := m.Dir(fmt.Sprintf("dir%d", i%dirs), true)
			if err != nil {
				return err
			}
			if err := d.SetMeta(ostree.DirMeta{Mode: 0o40755}); err != nil {
				return err
			}
			if err := d.SetFile(fmt.Sprintf("file%d", i), sum); err != nil {
				return err
			}
		}
		tree, meta, err := txn.WriteTree(ctx, m)
		if err != nil {
			return err
		}
		c, err := txn.WriteCommit(ctx, ostree.Commit{Timestamp: 1, RootTree: tree, RootMeta: meta})
		if err != nil {
			return err
		}
		return txn.SetRef("main", c)
	})
	testutil.Must(t, err)
	return path
}

// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRepair damages a repository, has it restored from a server and from a folder,
// and lets libostree check it.
func TestRepair(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, func(s *side) {
		s.write(t, "t/one", "1\n")
		s.write(t, "t/d/two", "2\n")
		s.must(t, "init", "--repo=a", "--mode=archive")
		s.must(t, "init", "--repo=b", "--mode=bare-user")
		s.must(t, "--repo=a", "commit", "-b", "m", "t")
		s.must(t, "--repo=b", "pull-local", "a", "m")
	})
	srv := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(ours.dir, "a"))))
	defer srv.Close()
	ours.must(t, "--repo=b", "remote", "add", "--no-gpg-verify", "web", srv.URL)
	real.dir = ours.dir

	for _, source := range []string{"--repair", "--repair=web", "--repair=a", "--repair=./a", "--repair=" + srv.URL} {
		damage(t, ours.dir+"/b/objects")
		if o := ours.run(t, "--repo=b", "fsck", "-q", "-a"); o.Code != 1 || !strings.Contains(o.Err, "Object missing in commits") {
			t.Fatalf("fsck of the damaged repository: %+v", o)
		}
		o := ours.run(t, "--repo=b", "fsck", source)
		if o.Code != 0 || strings.Count(o.Out, "Restored ") != 2 || strings.Count(o.Out, "Replaced ") != 1 || !strings.Contains(o.Out, "Commit is complete again") {
			t.Errorf("fsck %s: %+v", source, o)
		}
		if o := real.run(t, "--repo=b", "fsck", "-q"); o.Code != 0 {
			t.Errorf("libostree after fsck %s: %+v", source, o)
		}
	}

	damage(t, ours.dir+"/b/objects")
	ours.must(t, "init", "--repo=empty", "--mode=archive")
	if o := ours.run(t, "--repo=b", "fsck", "--repair=empty"); o.Code != 1 || !strings.Contains(o.Err, "could not be repaired") {
		t.Errorf("repair from an empty repository: %+v", o)
	}
	if o := ours.run(t, "--repo=b", "fsck", "--repair=nowhere"); o.Code != 1 || !strings.Contains(o.Err, `Remote "nowhere" not found`) {
		t.Errorf("repair from nowhere: %+v", o)
	}
	if o := ours.run(t, "--repo=b", "fsck", "--repair", "--delete"); o.Code != 1 {
		t.Errorf("repair and delete: %+v", o)
	}
}

// damage removes a file and a directory and spoils another file.
func damage(t *testing.T, objects string) {
	t.Helper()
	files, err := filepath.Glob(objects + "/*/*.file")
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	trees, err := filepath.Glob(objects + "/*/*.dirtree")
	if err != nil || len(trees) != 2 {
		t.Fatalf("%d trees, %v", len(trees), err)
	}
	for _, p := range []string{files[0], trees[0]} {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(files[1], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("spoilt"); err != nil {
		t.Fatal(err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// recorder keeps how a helper ended a test, and ends it as the real one does.
type recorder struct {
	testing.TB
	end string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatal(args ...any) { r.stop("fail: " + fmt.Sprint(args...)) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.stop("fail: " + fmt.Sprintf(format, args...))
}

func (r *recorder) Skip(args ...any) { r.stop("skip: " + fmt.Sprint(args...)) }

func (r *recorder) Skipf(format string, args ...any) { r.stop("skip: " + fmt.Sprintf(format, args...)) }

func (r *recorder) stop(how string) {
	r.end = how
	runtime.Goexit()
}

func ending(f func(t testing.TB)) string {
	r := &recorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.end
}

func TestTool(t *testing.T) {
	sbin := t.TempDir()
	Must(t, os.WriteFile(filepath.Join(sbin, "there"), []byte("#!/bin/sh\n"), 0o755))
	t.Setenv("PATH", sbin)
	if got := Tool(t, "there"); got != filepath.Join(sbin, "there") {
		t.Errorf("found %s", got)
	}
	for ci, want := range map[string]string{"": "skip: absent-program is not installed", "true": "fail: absent-program is not installed: run dist/setup.sh test"} {
		t.Setenv("CI", ci)
		if got := ending(func(t testing.TB) { Tool(t, "absent-program") }); got != want {
			t.Errorf("CI=%s: %q, want %q", ci, got, want)
		}
	}
}

func TestCorpus(t *testing.T) {
	dir := t.TempDir()
	Must(t, os.Mkdir(filepath.Join(dir, "a"), 0o755))
	look := func(parts ...string) string { return ending(func(t testing.TB) { Corpus(t, parts...) }) }
	t.Setenv("HOSTCTL_CORPUS", dir)
	if got := Corpus(t, "a"); got != filepath.Join(dir, "a") {
		t.Errorf("found %s", got)
	}
	if got := look("a", "b"); !strings.HasPrefix(got, "fail: ") {
		t.Errorf("missing input: %q", got)
	}
	t.Setenv("HOSTCTL_CORPUS", "")
	if got := look("a"); got != "skip: HOSTCTL_CORPUS is not set" {
		t.Errorf("no corpus: %q", got)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	if got := Run(t, "sh", "-c", "echo ' out'; echo err >&2"); got != "out\nerr" {
		t.Errorf("output %q", got)
	}
	if got := ending(func(t testing.TB) { Run(t, "sh", "-c", "echo why; exit 3") }); got != "fail: sh -c echo why; exit 3: exit status 3\nwhy\n" {
		t.Errorf("failure: %q", got)
	}
}

func TestKilled(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]bool{"true": false, "exit 9": false, "kill -TERM $$": false, "kill -KILL $$": true} {
		if err := exec.Command("sh", "-c", script).Run(); Killed(err) != want {
			t.Errorf("%s: %v", script, err)
		}
	}
}

func TestBounded(t *testing.T) {
	t.Parallel()
	var kept []byte
	for size, want := range map[int]string{1 << 10: "", 128 << 20: "fail: allocated "} {
		got := ending(func(t testing.TB) {
			end := bounded(t, maxFuzzed)
			kept = make([]byte, size)
			end()
		})
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%d bytes: %q", len(kept), got)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		output, want string
		err          error
	}{
		{"1..2\nok 1 a\nok b\n", "pass 2, 0s", nil},
		{"ok a\nok # SKIP no xattrs\n+ echo ok\n", "pass 1 skip 1, 0s", nil},
		{"1..0 # SKIP no such thing\n", "skip: no such thing", nil},
		{"ok a\nnot ok b\n", "FAIL after 1, 0s", nil},
		{"ok a\n", "FAIL after 1, 0s", errors.New("exit status 1")},
		{"nothing\n", "FAIL after 0, 0s", nil},
		{"", "FAIL after 0, 0s", nil},
	} {
		if got := parse([]byte(c.output), c.err).String(); got != c.want {
			t.Errorf("parse(%q, %v) = %q, want %q", c.output, c.err, got, c.want)
		}
	}
}

func TestWorseThan(t *testing.T) {
	t.Parallel()
	fail := result{err: errors.New("x")}
	skip := result{skip: "x"}
	two, three := result{points: 2}, result{points: 3}
	for _, c := range []struct {
		ours, real result
		want       bool
	}{
		{two, two, false},
		{three, two, false},
		{two, three, true},
		{skip, two, true},
		{two, skip, false},
		{skip, skip, false},
		{fail, two, true},
		{fail, skip, true},
		{fail, fail, false},
		{skip, fail, false},
	} {
		if got := c.ours.worseThan(c.real); got != c.want {
			t.Errorf("%v worse than %v: %v, want %v", c.ours, c.real, got, c.want)
		}
	}
}

// TestRunScript covers the time limit, which ends what the script started too.
func TestRunScript(t *testing.T) {
	t.Parallel()
	suite, work := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"test-pass.sh": "#!/bin/sh\necho ok 1\ncommand -v marker\n",
		"test-slow.sh": "#!/bin/sh\necho ok 1\nsleep 100000 & wait\n",
		"test-basic-c": "",
		"test-x.js":    "",
		"libtest.sh":   "",
	} {
		if err := os.WriteFile(filepath.Join(suite, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	scripts, left, err := findScripts(suite, "")
	if err != nil || len(scripts) != 2 || len(left) != 2 {
		t.Fatalf("findScripts = %v, %v, %v", scripts, left, err)
	}
	bin := filepath.Join(work, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.WriteFile(filepath.Join(bin, "marker"), []byte("#!/bin/sh\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	o := options{suite: suite, timeout: time.Minute}
	path := bin + ":" + os.Getenv("PATH")
	if r := runScript(t.Context(), o, filepath.Join(work, "a"), "test-pass.sh", "ours", path); r.err != nil || r.points != 1 || !strings.Contains(string(r.output), bin) {
		t.Errorf("test-pass.sh: %v, output %q", r, r.output)
	}
	o.timeout = 500 * time.Millisecond
	if r := runScript(t.Context(), o, filepath.Join(work, "b"), "test-slow.sh", "ours", path); r.err == nil {
		t.Errorf("test-slow.sh: %v", r)
	}
}

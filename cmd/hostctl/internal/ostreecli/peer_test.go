// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// asProgram makes the test binary behave as the program, so that tests can run it
// with a working directory and an environment of its own.
const asProgram = "OSTREECLI_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Main(context.Background(), os.Args))
	}
	os.Exit(testutil.InMemory(m))
}

// realOstree finds Debian's program, of the release that this one follows.
func realOstree(t *testing.T) string {
	t.Helper()
	const path = "/usr/bin/ostree"
	out, err := exec.Command(path, "--version").Output()
	if err == nil && strings.Contains(string(out), "'"+level+"'") {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s %s is not installed", path, level)
	}
	t.Skipf("%s %s is not installed", path, level)
	return ""
}

// side is one of the two programs with a directory of its own.
type side struct {
	dir, program string
	env          []string
	url          string // of a server over dir, if there is one
}

type output struct {
	Out, Err string
	Code     int
}

// sides gives both programs, in directories with the same content, which fill
// makes in that of the real one.
func sides(t *testing.T, fill func(*side)) (real, ours *side) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", "OSTREE_SKIP_CACHE=1"}
	real = &side{dir: t.TempDir(), program: realOstree(t), env: env}
	ours = &side{dir: t.TempDir(), program: self, env: append(env[:len(env):len(env)], asProgram+"=1")}
	fill(real)
	if out, err := exec.Command("cp", "-a", real.dir+"/.", ours.dir).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	return real, ours
}

// run calls the program in its directory.
func (s *side) run(t *testing.T, args ...string) output {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.program, args...)
	cmd.Args[0] = "ostree"
	cmd.Dir = s.dir
	cmd.Env = append(s.env[:len(s.env):len(s.env)], "HOME="+s.dir)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return output{s.normal(out.String()), s.normal(errOut.String()), cmd.ProcessState.ExitCode()}
}

var (
	transferred = regexp.MustCompile(`; \d+ (B|KiB) transferred in \d+ seconds`)
	relabelled  = regexp.MustCompile(`(?m)^Relabeling /var \(no stamp file.*\n`)
	clockTimes  = regexp.MustCompile(`\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\+00|Z)`)
	modified    = regexp.MustCompile(`('ostree.summary.last-modified': <uint64) \d+>`)
)

// normal takes out what differs between two runs of the same program.
func (s *side) normal(text string) string {
	text = strings.ReplaceAll(text, s.dir, "DIR")
	if s.url != "" {
		text = strings.ReplaceAll(text, s.url, "URL")
	}
	text = transferred.ReplaceAllString(text, "; N transferred")
	text = relabelled.ReplaceAllString(text, "")
	text = modified.ReplaceAllString(text, "$1 T>")
	return withoutNewer(clockTimes.ReplaceAllString(text, "TIME"))
}

// must runs a set-up step.
func (s *side) must(t *testing.T, args ...string) {
	t.Helper()
	if o := s.run(t, args...); o.Code != 0 {
		t.Fatalf("ostree %v: %s", args, o.Err)
	}
}

// write makes a file below the directory.
func (s *side) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s *side) content(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// step is a command line that both programs run.
type step struct {
	args string
	// ownText: the messages are our own; only the first word and the status must
	// agree.
	ownText bool
	file    string // if set, it must have the same content afterwards
	counts  bool   // numbers and times in the output are not compared
}

var digits = regexp.MustCompile(`[\w:.-]*\d[\w:.-]*`)

// compare runs the steps on both sides.
func compare(t *testing.T, real, ours *side, steps []step) {
	t.Helper()
	for _, s := range steps {
		args := strings.Fields(s.args)
		want, got := real.run(t, args...), ours.run(t, args...)
		if s.ownText {
			want.Err, _, _ = strings.Cut(want.Err, " ")
			got.Err, _, _ = strings.Cut(got.Err, " ")
		}
		if s.counts {
			want = output{digits.ReplaceAllString(want.Out, "N"), digits.ReplaceAllString(want.Err, "N"), want.Code}
			got = output{digits.ReplaceAllString(got.Out, "N"), digits.ReplaceAllString(got.Err, "N"), got.Code}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ostree %s (-real +ours):\n%s", s.args, diff)
		}
		if s.file == "" {
			continue
		}
		if diff := cmp.Diff(real.normal(real.content(t, s.file)), ours.normal(ours.content(t, s.file))); diff != "" {
			t.Errorf("%s after ostree %s (-real +ours):\n%s", s.file, s.args, diff)
		}
	}
}

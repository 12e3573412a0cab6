// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/tests/lab"
)

// elsewhere are the surroundings of a compose that must not matter.
var elsewhere = []string{"TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8", "GOMAXPROCS=1", "HOME=/nonexistent", "HOSTCTL_CACHE=/nonexistent",
	"PYTHONHASHSEED=1", "USER=somebody"}

// composeElsewhere composes the first state of the distribution below dir, in
// other surroundings and under another mask, and gives the result.
func composeElsewhere(t *testing.T, l *lab.Lab, dir string, env []string, args ...string) composeResult {
	t.Helper()
	tree := filepath.Join(dir, "a longer name", "tree")
	files, err := os.ReadDir(l.Tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(l.Tree, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), filepath.Join(l.Distro, "v2"), filepath.Join(l.Distro, "v1"))
		write(t, filepath.Join(tree, f.Name()), text)
	}
	result, tmp := filepath.Join(dir, "result.json"), filepath.Join(dir, "tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	argv := append([]string{"sh", "-c", `umask 0077 && cd / && exec "$@"`, "sh", l.ComposeServer(), "tree", filepath.Join(tree, filepath.Base(l.Treefile)),
		"--repo", filepath.Join(dir, "repo"), "--cachedir", filepath.Join(dir, "cache"), "--write-composejson-to", result}, args...)
	cmd := lab.Command(t.Context(), argv...)
	cmd.Env = append(append(append(os.Environ(), elsewhere...), "TMPDIR="+tmp), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compose: %v\n%s", err, out)
	}
	data, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	var c composeResult
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

type composeResult struct {
	Commit    string `json:"ostree-commit"`
	Timestamp string `json:"ostree-timestamp"`
	InputHash string `json:"rpm-ostree-inputhash"`
	Logs      string `json:"hostctl-scriptlet-logs"`
	Steps     []struct {
		Name    string
		Seconds float64
	} `json:"hostctl-steps"`
}

// TestReproducible: the same packages and treefile give the commit that the lab
// made some other day, initramfs included, with a cold cache and in other
// surroundings.
func TestReproducible(t *testing.T) {
	need(t, "tree")
	l := theLab(t)
	dir := scratch(t, l)
	want, err := l.Rev(lab.Ref + "^")
	if err != nil {
		t.Fatal(err)
	}
	got := composeElsewhere(t, l, dir, nil)
	if got.Commit != want {
		t.Errorf("commit %s, the lab has %s; the files that differ:\n%s", got.Commit, want, listingDiff(t, l, dir, want, got.Commit))
	}
	if got.Logs != filepath.Join(dir, "cache", "scriptlets") {
		t.Errorf("logs of scriptlets in %q", got.Logs)
	}
	logs, err := filepath.Glob(filepath.Join(got.Logs, "*.log"))
	if err != nil || len(logs) < 10 {
		t.Errorf("%d logs of scriptlets, %v", len(logs), err)
	}
}

// listingDiff says what differs between a commit of the lab and one of dir.
func listingDiff(t *testing.T, l *lab.Lab, dir, a, b string) string {
	t.Helper()
	write(t, filepath.Join(dir, "a"), tool(t, "ostree", "--repo="+l.Repo, "ls", "-R", "-C", "-X", a))
	write(t, filepath.Join(dir, "b"), tool(t, "ostree", "--repo="+filepath.Join(dir, "repo"), "ls", "-R", "-C", "-X", b))
	out, _ := exec.Command("diff", filepath.Join(dir, "a"), filepath.Join(dir, "b")).Output()
	if len(out) == 0 {
		return "none: the metadata of the commits differs"
	}
	return string(out)
}

// TestSourceDateEpoch: the variable sets the commit's time; a compose without
// scriptlets is not taken for a whole one.
func TestSourceDateEpoch(t *testing.T) {
	need(t, "tree")
	l := theLab(t)
	dir := scratch(t, l)
	env := []string{"SOURCE_DATE_EPOCH=1999999999"}
	fast := []string{"--no-scriptlets", "--no-initramfs"}
	first := composeElsewhere(t, l, dir, env, fast...)
	if first.Timestamp != "2033-05-18T03:33:19Z" {
		t.Errorf("timestamp %s", first.Timestamp)
	}
	if len(first.Steps) == 0 || first.Steps[0].Seconds <= 0 {
		t.Errorf("steps %v", first.Steps)
	}
	plain := tool(t, l.ComposeServer(), "tree", filepath.Join(dir, "a longer name", "tree", filepath.Base(l.Treefile)), "--repo", filepath.Join(dir, "repo"),
		"--cachedir", filepath.Join(dir, "cache"), "--dry-run")
	if strings.Contains(plain, first.InputHash) {
		t.Error("the input hash does not tell a compose without scriptlets from a whole one")
	}
	again := composeElsewhere(t, l, dir, env, append(fast, "--force-nocache", "--no-parent", "--version", "1")...)
	if again.Commit != first.Commit {
		t.Errorf("again: commit %s, first %s", again.Commit, first.Commit)
	}
}

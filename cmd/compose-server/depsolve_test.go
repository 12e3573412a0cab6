// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

func TestDepsolveCommand(t *testing.T) {
	t.Parallel()
	repo := testutil.Corpus(t, "yum-repos", "osbuild-testrepo-centos-stream9")
	cache := t.TempDir()
	depsolve := func(args ...string) (string, string, int) {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"depsolve", "--cachedir", cache}, args...), &out, &errs)
		return out.String(), errs.String(), code
	}
	out, errs, code := depsolve("--repo", "base="+repo, "--no-weak-deps", "bash")
	lines := strings.Fields(out)
	if code != 0 || !slices.IsSorted(lines) || !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "bash-5.1.8-") }) {
		t.Errorf("status %d: %s %s", code, out, errs)
	}
	out, errs, code = depsolve("--repo", "base="+repo, "--json", "bash")
	var answer struct {
		Packages []struct{ Name, Checksum string }
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != 0 || len(answer.Packages) < 5 || answer.Packages[0].Checksum == "" {
		t.Errorf("status %d: %v %s", code, err, errs)
	}
	out, _, code = depsolve("--repo", "base="+repo, "--exclude", "glibc*", "bash")
	if code != 1 || !strings.Contains(out, "it is excluded") || strings.Count(out, "\n") > 6 {
		t.Errorf("status %d: %s", code, out)
	}
	out, _, code = depsolve("--repo", "base="+repo, "--json", "bsah")
	var reasons struct{ Problems []string }
	if err := json.Unmarshal([]byte(out), &reasons); err != nil || code != 1 || len(reasons.Problems) != 1 || !strings.Contains(reasons.Problems[0], "bash") {
		t.Errorf("status %d: %v %s", code, err, out)
	}
	file := filepath.Join(t.TempDir(), "x.repo")
	testutil.Must(t, os.WriteFile(file, []byte("[x]\nbaseurl=file://"+filepath.Dir(repo)+"/osbuild-testrepo-centos-stream$releasever\n[off]\nenabled=0\n"), 0o644))
	if out, errs, code = depsolve("--repo-file", file, "--releasever", "9", "setup"); code != 0 || !strings.Contains(out, "setup-") {
		t.Errorf("status %d: %s %s", code, out, errs)
	}
	for _, args := range [][]string{{}, {"bash"}, {"--repo", "nonsense", "bash"}, {"--repo", "a=/x", "--repo", "a=/y", "bash"}} {
		if _, errs, code := depsolve(args...); code == 0 || errs == "" {
			t.Errorf("%v: status %d", args, code)
		}
	}
}

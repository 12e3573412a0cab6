// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// installedCase is a case for testsolv: the answer is installed, and all of it
// is to be verified.
func installedCase(p *solve.Problem, set []int) string {
	var b strings.Builder
	b.WriteString("repo system 0 testtags <inline>\n")
	for _, i := range set {
		pkg := &p.Packages[i]
		n := pkg.NEVRA
		version := n.Version
		if n.Epoch > 0 {
			version = fmt.Sprintf("%d:%s", n.Epoch, n.Version)
		}
		fmt.Fprintf(&b, "#>=Pkg: %s %s %s %s\n", n.Name, version, n.Release, n.Arch)
		files := map[string]bool{}
		for _, f := range pkg.Files {
			files[f] = true
		}
		for _, j := range set {
			for _, d := range p.Packages[j].Requires {
				if strings.HasPrefix(d.Name, "/") && !files[d.Name] && slices.Contains(p.Lookup(d.Name), i) {
					files[d.Name] = true
				}
			}
		}
		for f := range files {
			fmt.Fprintf(&b, "#>=Prv: %s\n", f)
		}
		for _, l := range []struct {
			tag  string
			deps []rpm.Dep
		}{{"Req", pkg.Requires}, {"Prv", pkg.Provides}, {"Con", pkg.Conflicts}, {"Obs", pkg.Obsoletes}} {
			for _, d := range l.deps {
				if !d.IsRpmlib() {
					fmt.Fprintf(&b, "#>=%s: %s\n", l.tag, libsolvDep(d))
				}
			}
		}
	}
	b.WriteString("system x86_64 rpm system\njob verify all packages\nresult transaction,problems <inline>\n")
	return b.String()
}

// TestAnswersVerifiedByLibsolv has testsolv look for anything that is missing
// or in conflict in our answers.
func TestAnswersVerifiedByLibsolv(t *testing.T) {
	t.Parallel()
	tool := testutil.Tool(t, "testsolv")
	p := loadRepo(t, testutil.Corpus(t, "yum-repos", "osbuild-testrepo-centos-stream9"), "x86_64")
	jobs := readGolden(t, testutil.Corpus(t, "depsolve", "golden", "centos-stream9-baseos.jsonl"))
	verify := func(set []int) string {
		file := filepath.Join(t.TempDir(), "case.t")
		testutil.Must(t, os.WriteFile(file, []byte(installedCase(&p, set)), 0o600))
		out, err := exec.CommandContext(t.Context(), tool, "-r", file).CombinedOutput()
		testutil.Must(t, err)
		return strings.TrimSpace(string(out))
	}
	checked := 0
	for i := 7; i < len(jobs); i += 60 {
		p.Install = jobs[i].Install
		sol, err := solve.Solve(t.Context(), p)
		if err != nil || len(sol.Packages) > 150 {
			continue
		}
		checked++
		if out := verify(sol.Packages); out != "" {
			t.Errorf("install %v: %s", p.Install, out)
		}
		// The check can fail: without its last package to install the set is not closed.
		if n := len(sol.Order); n > 3 && checked == 1 && verify(sol.Order[1:]) == "" && verify(sol.Order[2:]) == "" {
			t.Error("testsolv finds nothing wrong with a set that lacks packages")
		}
	}
	if checked < 3 {
		t.Errorf("only %d answers", checked)
	}
	t.Logf("%d answers verified", checked)
}

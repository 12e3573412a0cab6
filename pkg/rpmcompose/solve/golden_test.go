// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// loadRepo reads a repository directory through rpmmd.
func loadRepo(t testing.TB, dir, arch string) solve.Problem {
	t.Helper()
	cache := testutil.OpenDir(t, t.TempDir())
	md, err := rpmmd.Load(context.Background(), rpmmd.Repo{ID: "repo", BaseURLs: []string{dir}, Enabled: true, Priority: 99}, cache, rpmmd.Options{})
	if err != nil {
		t.Fatalf("load %s: %v", dir, err)
	}
	p := solve.Problem{Arch: arch, Arches: solve.CompatibleArches(arch), Expect: md.Expect}
	for _, m := range md.Packages {
		p.Packages = append(p.Packages, solve.Package{
			NEVRA: m.NEVRA, Repo: m.RepoID, Priority: 99,
			Requires: m.Requires, Provides: m.Provides, Conflicts: m.Conflicts, Obsoletes: m.Obsoletes,
			Recommends: m.Recommends, Suggests: m.Suggests, Supplements: m.Supplements, Enhances: m.Enhances,
			Files: m.Files,
		})
	}
	var mu sync.Mutex
	known := map[string][]int{}
	p.Lookup = func(path string) []int {
		mu.Lock()
		defer mu.Unlock()
		if got, ok := known[path]; ok {
			return got
		}
		owners, err := md.Owners(context.Background(), path)
		if err != nil {
			t.Errorf("look up %s: %v", path, err)
		}
		known[path] = owners
		return owners
	}
	return p
}

type goldenAnswer struct {
	Install  []string `json:"install"`
	Problems []any    `json:"problems"`
}

type goldenJob struct {
	Install            []string `json:"install"`
	Both, Weak, Noweak *goldenAnswer
}

func readGolden(t testing.TB, file string) []goldenJob {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var jobs []goldenJob
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var j goldenJob
		if err := json.Unmarshal(sc.Bytes(), &j); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	if err := sc.Err(); err != nil || len(jobs) == 0 {
		t.Fatalf("%s: %d jobs, %v", file, len(jobs), err)
	}
	return jobs
}

func TestGoldenAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ golden, repo string }{
		{"fedora35", "rpmdb-hollow/fedora35"},
		{"centos-stream9-baseos", "yum-repos/osbuild-testrepo-centos-stream9"},
	} {
		t.Run(c.golden, func(t *testing.T) {
			t.Parallel()
			jobs := readGolden(t, testutil.Corpus(t, "depsolve", "golden", c.golden+".jsonl"))
			p := loadRepo(t, testutil.Corpus(t, c.repo), "x86_64")
			var total, equal, smaller, larger int
			var spent, longest time.Duration
			check := func(job goldenJob, want *goldenAnswer, noWeak bool) {
				if want == nil {
					return
				}
				total++
				p := p
				p.Install, p.NoWeak = job.Install, noWeak
				start := time.Now()
				sol, err := solve.Solve(t.Context(), p)
				took := time.Since(start)
				spent, longest = spent+took, max(longest, took)
				var u *solve.Unsolvable
				if errors.As(err, &u) != (len(want.Install) == 0) || err != nil && u == nil {
					t.Errorf("install %v (weak %v): %v", job.Install, !noWeak, err)
					return
				}
				checkSolution(t, &p, sol)
				got := nevras(&p, sol.Packages)
				switch {
				case slices.Equal(got, slices.Sorted(slices.Values(want.Install))):
					equal++
					return
				case len(got) < len(want.Install):
					smaller++
				case len(got) > len(want.Install):
					larger++
				}
				if testing.Verbose() {
					t.Logf("install %v (weak %v):\n ours only   %v\n golden only %v", job.Install, !noWeak, minus(got, want.Install), minus(want.Install, got))
				}
			}
			// All of them take ten seconds, but minutes under the race detector; a sample
			// finds what goes wrong in general.
			step := 20
			if os.Getenv("HOSTCTL_SOLVE_ALL") != "" {
				step = 1
			}
			for i := 0; i < len(jobs); i += step {
				j := jobs[i]
				for _, noWeak := range []bool{false, true} {
					check(j, j.Both, noWeak)
				}
				check(j, j.Weak, false)
				check(j, j.Noweak, true)
			}
			t.Logf("%d answers, %d equal (%.1f %%), %d smaller, %d larger; %v each, at most %v",
				total, equal, 100*float64(equal)/float64(total), smaller, larger, spent/time.Duration(total), longest)
			// Equal answers are no requirement as such, but all were equal once.
			if equal*100 < total*99 {
				t.Errorf("only %d of %d answers are those of libsolv", equal, total)
			}
		})
	}
}

func nevras(p *solve.Problem, list []int) []string {
	var out []string
	for _, i := range list {
		out = append(out, p.Packages[i].NEVRA.String())
	}
	slices.Sort(out)
	return out
}

func minus(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

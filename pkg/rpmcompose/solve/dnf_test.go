// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

type scenario struct {
	File, Name, Kind string
	Steps            []string
}

var (
	useRepo = regexp.MustCompile(`I use repository "([^"]*)"`)
	execute = regexp.MustCompile(`execute dnf with args "(.*)"`)
	exit    = regexp.MustCompile(`the exit code is (\d+)`)
)

// solverVerbs are the commands whose scenarios are counted.
var solverVerbs = []string{"install", "upgrade", "update", "downgrade", "remove", "group install", "group remove"}

// counted reports whether a scenario consists of commands that the solver
// answers. Outlines have lost their examples; advisories choose what to offer
// before the solver is asked.
func (s *scenario) counted() bool {
	n := 0
	for _, step := range s.Steps {
		if m := execute.FindStringSubmatch(step); m != nil {
			c, err := parseCommand(m[1])
			if err != nil || !slices.Contains(solverVerbs, c.verb) || strings.Contains(m[1], "<") {
				return false
			}
			for _, o := range []string{"--security", "--bugfix", "--advisory", "--advisories", "--cve", "--cves", "--bz", "--advisory-severities", "--enhancement", "--newpackage"} {
				if _, ok := c.opts[o]; ok {
					return false
				}
			}
			n++
		}
	}
	return n > 0
}

// missing names a repository that the collection does not hold.
func (s *scenario) missing(t *testing.T) string {
	for _, step := range s.Steps {
		if m := useRepo.FindStringSubmatch(step); m != nil {
			if _, err := os.Stat(testutil.Corpus(t, "depsolve", "ci-dnf-stack-repodata") + "/" + m[1]); err != nil {
				return m[1]
			}
		}
	}
	return ""
}

// table reads the rows below a step.
func table(steps []string) [][]string {
	var rows [][]string
	for _, s := range steps {
		if !strings.HasPrefix(s, "|") {
			break
		}
		var row []string
		for _, cell := range strings.Split(strings.Trim(s, "| "), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		rows = append(rows, row)
	}
	return rows[min(1, len(rows)):]
}

func keyValues(rows [][]string) map[string]string {
	out := map[string]string{}
	for _, r := range rows {
		if len(r) == 2 {
			out[r[0]] = r[1]
		}
	}
	return out
}

func (s *scenario) play(t *testing.T) error {
	m := &machine{t: t, conf: map[string]string{}, groups: map[string][]string{}, envs: map[string][]string{}}
	var got map[string]bool
	var err error
	for i, step := range s.Steps {
		rest := s.Steps[i+1:]
		switch {
		case strings.HasPrefix(step, "|"):
		case useRepo.MatchString(step):
			m.addRepo(useRepo.FindStringSubmatch(step)[1], keyValues(table(rest)))
		case strings.Contains(step, "configure dnf with"):
			maps.Copy(m.conf, keyValues(table(rest)))
		case execute.MatchString(step):
			var c *command
			if c, err = parseCommand(execute.FindStringSubmatch(step)[1]); err != nil {
				return err
			}
			got, err = m.run(c)
			var u *solve.Unsolvable
			if err != nil && !errors.As(err, &u) && !errors.Is(err, errNoMatch) {
				return err
			}
			if err != nil {
				got = nil
			}
		case exit.MatchString(step):
			code := exit.FindStringSubmatch(step)[1]
			if (code == "0") != (err == nil) {
				return fmt.Errorf("exit code %s expected: %v", code, err)
			}
		case strings.HasSuffix(step, "ransaction is empty"):
			if len(got) > 0 {
				return fmt.Errorf("nothing expected, got %v", slices.Sorted(maps.Keys(got)))
			}
		case strings.HasSuffix(step, "Transaction is following"):
			if want := expected(table(rest)); !maps.Equal(want, got) {
				return fmt.Errorf("expected %v, got %v (%v)", minus(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))), minus(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))), err)
			}
		}
	}
	return nil
}

func withoutZero(nevra string) string { return strings.Replace(nevra, "-0:", "-", 1) }

func expected(rows [][]string) map[string]bool {
	out := map[string]bool{}
	for _, r := range rows {
		if len(r) < 2 {
			continue
		}
		switch action := r[0]; {
		case action == "install", action == "upgrade", action == "downgrade", action == "install-dep", action == "install-weak", action == "install-group":
			out["+"+withoutZero(r[1])] = true
		case strings.HasPrefix(action, "remove"):
			out["-"+withoutZero(r[1])] = true
		}
	}
	return out
}

// TestDNFScenarios plays what DNF's developers demand of DNF.
func TestDNFScenarios(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(testutil.Corpus(t, "depsolve", "dnf-scenarios.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []scenario
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	total, good := 0, 0
	for i := range all {
		s := &all[i]
		if !s.counted() {
			continue
		}
		if id := s.missing(t); id != "" {
			t.Logf("%s: %s: repository %s is not in the collection", s.File, s.Name, id)
			continue
		}
		total++
		if err := s.play(t); err != nil {
			t.Logf("%s: %s: %v", s.File, s.Name, err)
			continue
		}
		good++
	}
	t.Logf("%d of %d scenarios (%.1f %%)", good, total, 100*float64(good)/float64(total))
	if total < 150 || good*100 < total*90 {
		t.Errorf("only %d of %d scenarios give DNF's transaction", good, total)
	}
}

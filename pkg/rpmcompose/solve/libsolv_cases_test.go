// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// libsolvFile reads libsolv's own test cases: repositories, jobs, results.
type libsolvFile struct {
	t        *testing.T
	path     string
	p        solve.Problem
	repos    map[string][]int
	system   string
	pool     map[string]bool
	flags    map[string]bool
	disabled map[int]bool
	jobs     []solve.Job
	multi    []string
	results  []libsolvResult
}

type libsolvResult struct {
	number   int
	problem  solve.Problem
	kinds    string
	want     map[string]bool // +NEVRA@repo, -NEVRA@repo
	problems []string
}

func readLibsolvFile(t *testing.T, file string) []libsolvResult {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f := &libsolvFile{t: t, path: file, repos: map[string][]int{}, pool: map[string]bool{}, flags: map[string]bool{}, disabled: map[int]bool{}}
	var res *libsolvResult
	repo, prio, previous, word := "", 0, "", ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n ")
		words := strings.Fields(line)
		if previous = word; len(words) > 0 {
			word = words[0]
		}
		switch {
		case strings.HasPrefix(line, "#>") && res != nil:
			res.expect(strings.TrimPrefix(line, "#>"))
		case strings.HasPrefix(line, "#>"):
			f.tag(repo, prio, strings.TrimPrefix(line, "#>"))
		case line == "" || line[0] == '#':
		case words[0] == "repo":
			repo, prio = words[1], priority(words[2])
			f.repos[repo] = nil
			if len(words) > 4 && words[4] != "<inline>" {
				f.file(repo, prio, words[4])
			}
		case words[0] == "system":
			f.arch(words[1])
			if len(words) > 3 {
				f.system = words[3]
			}
		case words[0] == "poolflags":
			set(f.pool, words[1:])
		case words[0] == "solverflags":
			set(f.flags, words[1:])
		case words[0] == "nextjob":
			f.jobs, f.multi, f.flags, res = nil, nil, map[string]bool{}, nil
		case words[0] == "disable":
			for _, i := range f.sel(words[1:]) {
				f.disabled[i] = true
			}
		case words[0] == "job":
			f.job(words[1:])
		case words[0] == "result":
			if res != nil && len(res.want)+len(res.problems) == 0 && previous == "result" {
				f.results = f.results[:len(f.results)-1] // the line stands twice
			}
			f.results = append(f.results, libsolvResult{number: len(f.results) + 1, problem: f.problem(), kinds: words[1], want: map[string]bool{}})
			res = &f.results[len(f.results)-1]
		}
	}
	return f.results
}

func set(m map[string]bool, words []string) {
	for _, w := range words {
		w, off := strings.CutPrefix(w, "!")
		m[w] = !off
	}
}

// priority turns libsolv's, where more is better, around.
func priority(s string) int {
	s, _, _ = strings.Cut(s, ".")
	n := 0
	fmt.Sscan(s, &n)
	return -n
}

func (f *libsolvFile) arch(name string) {
	f.p.Arch = name
	switch name {
	case "x86_64":
		f.p.Arches = []string{"x86_64", "i686", "i586", "i486", "i386", "noarch"}
	case "i686":
		f.p.Arches = []string{"i686", "i586", "i486", "i386", "noarch"}
	default:
		f.p.Arches = []string{"*"}
	}
}

func (f *libsolvFile) file(repo string, prio int, name string) {
	data, err := os.ReadFile(filepath.Join(filepath.Dir(f.path), name))
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f.tag(repo, prio, strings.TrimSpace(line))
	}
}

func (f *libsolvFile) tag(repo string, prio int, line string) {
	key, value, _ := strings.Cut(strings.TrimPrefix(line, "="), ": ")
	value = strings.TrimSpace(value)
	if key == "Pkg" {
		w := strings.Fields(value)
		if len(w) < 4 {
			w = []string{w[0], w[1], "", w[2]}
		}
		evr, err := rpm.ParseEVR(strings.TrimSuffix(w[1]+"-"+w[2], "-"))
		if err != nil {
			f.t.Fatal(err)
		}
		f.repos[repo] = append(f.repos[repo], len(f.p.Packages))
		f.p.Packages = append(f.p.Packages, solve.Package{NEVRA: rpm.NEVRA{Name: w[0], EVR: evr, Arch: w[3]}, Repo: repo, Priority: prio})
		return
	}
	if len(f.p.Packages) == 0 || value == "" {
		return
	}
	k := &f.p.Packages[len(f.p.Packages)-1]
	if key == "Vnd" {
		k.Vendor = value
		return
	}
	lists := map[string]*[]rpm.Dep{"Req": &k.Requires, "Prv": &k.Provides, "Obs": &k.Obsoletes, "Con": &k.Conflicts,
		"Rec": &k.Recommends, "Sug": &k.Suggests, "Sup": &k.Supplements, "Enh": &k.Enhances}
	if l := lists[key]; l != nil {
		*l = append(*l, fromLibsolv(value))
	}
}

var elseForm = regexp.MustCompile(`<(IF|UNLESS)> \((.*) <ELSE> (.*)\)`)

// fromLibsolv rewrites libsolv's operators of rich dependencies to rpm's.
func fromLibsolv(s string) rpm.Dep {
	rich := strings.ContainsAny(s, "&|") || strings.Contains(s, "<IF>") || strings.Contains(s, "<UNLESS>")
	if !rich {
		return dep(strings.ReplaceAll(s, " ", ""))
	}
	s = elseForm.ReplaceAllString(s, "<$1> $2 else $3")
	for _, op := range [][2]string{{" & ", " and "}, {" | ", " or "}, {"<IF>", "if"}, {"<UNLESS>", "unless"}} {
		s = strings.ReplaceAll(s, op[0], op[1])
	}
	return rpm.Dep{Name: "(" + s + ")", Rich: true}
}

// sel finds the packages of a selection.
func (f *libsolvFile) sel(w []string) []int {
	match := func(ok func(k *solve.Package) bool) (out []int) {
		for i := range f.p.Packages {
			if !f.disabled[i] && ok(&f.p.Packages[i]) {
				out = append(out, i)
			}
		}
		return out
	}
	byID := func(id string) []int {
		return match(func(k *solve.Package) bool { return k.NEVRA.String()+"@"+k.Repo == id })
	}
	switch w[0] {
	case "all":
		return match(func(*solve.Package) bool { return true })
	case "repo":
		return match(func(k *solve.Package) bool { return k.Repo == w[1] })
	case "pkg":
		return byID(w[1])
	case "oneof":
		var out []int
		for _, id := range w[1:] {
			out = append(out, byID(id)...)
		}
		return out
	}
	d := fromLibsolv(strings.Join(w[1:], " "))
	return match(func(k *solve.Package) bool {
		if d.Matches(rpm.Dep{Name: k.NEVRA.Name, Flags: rpm.DepEqual, EVR: k.NEVRA.EVR}) {
			return true
		}
		return w[0] == "provides" && slices.ContainsFunc(k.Provides, d.Matches)
	})
}

func (f *libsolvFile) job(w []string) {
	actions := map[string]solve.Action{"install": solve.Install, "erase": solve.Erase, "update": solve.Update, "distupgrade": solve.DistUpgrade,
		"lock": solve.Lock, "favor": solve.Favor, "disfavor": solve.Disfavor, "multiversion": solve.MultiVersion, "blacklist": solve.Blacklist,
		"excludefromweak": solve.ExcludeFromWeak, "userinstalled": solve.UserInstalled}
	action, ok := actions[w[0]]
	if w[0] == "noop" {
		return // cases that only print a selection
	}
	if !ok {
		f.t.Fatalf("%s: job %q", f.path, w[0])
	}
	j := solve.Job{Action: action}
	if last := w[len(w)-1]; strings.HasPrefix(last, "[") {
		w = w[:len(w)-1]
		j.Best, j.CleanDeps = strings.Contains(last, "forcebest"), strings.Contains(last, "cleandeps")
		j.Targeted = strings.Contains(last, "targeted")
	}
	j.Packages = f.sel(w[1:])
	f.jobs = append(f.jobs, j)
}

func (f *libsolvFile) problem() solve.Problem {
	p := f.p
	p.NoWeak = f.flags["ignorerecommended"]
	sys := &solve.System{Jobs: slices.Clone(f.jobs), AllowErase: f.flags["allowuninstall"], AllowVendorChange: f.flags["allowvendorchange"],
		AllowDowngrade: f.flags["allowdowngrade"], AllowArchChange: f.flags["allowarchchange"], StrictBest: !f.flags["bestobeypolicy"],
		AllObsoleters: f.flags["yumobsoletes"], FocusNew: f.flags["focusnew"], FocusInstalled: f.flags["focusinstalled"],
		NoColors: !f.pool["implicitobsoleteusescolors"], NoAutoTarget: f.flags["noautotarget"], KeepOrphans: f.flags["keeporphans"]}
	if v, ok := f.flags["dupallowdowngrade"]; ok {
		sys.NoDupDowngrade = !v
	}
	sys.Installed = f.repos[f.system]
	p.Packages = slices.Clone(f.p.Packages)
	for i := range f.disabled {
		// What is installed is there whatever is switched off.
		if !slices.Contains(sys.Installed, i) {
			p.Packages[i].NEVRA.Arch = "src"
		}
	}
	p.System = sys
	return p
}

func (r *libsolvResult) expect(line string) {
	w := strings.Fields(line)
	switch w[0] {
	case "install":
		r.want["+"+w[1]] = true
	case "erase":
		r.want["-"+w[1]] = true
	case "upgrade", "downgrade", "change", "reinstall":
		r.want["-"+w[1]], r.want["+"+w[2]] = true, true
	case "problem":
		if w[2] == "info" {
			r.problems = append(r.problems, strings.Join(w[3:], " "))
		}
	}
}

// transaction is the difference between the machine and the answer.
func transaction(p *solve.Problem, sol solve.Solution) map[string]bool {
	out := map[string]bool{}
	name := func(i int) string { return p.Packages[i].NEVRA.String() + "@" + p.Packages[i].Repo }
	for _, i := range p.System.Installed {
		if !slices.Contains(sol.Packages, i) {
			out["-"+name(i)] = true
		}
	}
	for _, i := range sol.Packages {
		if !slices.Contains(p.System.Installed, i) {
			out["+"+name(i)] = true
		}
	}
	return out
}

// TestLibsolvCases runs libsolv's own cases. Where libsolv finds a problem we
// must find a contradiction, too, and name the packages that it names.
func TestLibsolvCases(t *testing.T) {
	t.Parallel()
	var total, equal int
	files, err := filepath.Glob(testutil.Corpus(t, "depsolve", "libsolv", "testcases") + "/*/*.t")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		for _, r := range readLibsolvFile(t, file) {
			if !strings.HasPrefix(r.kinds, "transaction") {
				continue
			}
			total++
			sol, err := solve.Solve(t.Context(), r.problem)
			var u *solve.Unsolvable
			if err != nil && !errors.As(err, &u) {
				t.Errorf("%s: %v", file, err)
				continue
			}
			got := transaction(&r.problem, sol)
			why := ""
			switch {
			case len(r.problems) > 0 && u == nil:
				why = fmt.Sprintf("no contradiction, but %v", slices.Sorted(maps.Keys(got)))
			case len(r.problems) > 0:
				if !namesAll(u.Error(), r.problems[0]) {
					why = u.Error()
				}
			case u != nil:
				why = u.Error()
			case !maps.Equal(got, r.want):
				why = fmt.Sprint(slices.Sorted(maps.Keys(got)))
			}
			if why == "" {
				equal++
			} else {
				t.Logf("%s result %d: %s; libsolv %v %v", filepath.Base(file), r.number, why, slices.Sorted(maps.Keys(r.want)), r.problems)
			}
		}
	}
	t.Logf("%d of %d results are those of libsolv (%.1f %%)", equal, total, 100*float64(equal)/float64(total))
	if equal*100 < total*90 {
		t.Errorf("only %d of %d results are those of libsolv", equal, total)
	}
}

var packageID = regexp.MustCompile(`[A-Za-z0-9_.+-]+-[^- ]+-[^- ]+\.(noarch|i[3-6]86|x86_64)`)

// namesAll: the explanation names the packages of libsolv's sentence.
func namesAll(ours, theirs string) bool {
	for _, id := range packageID.FindAllString(theirs, -1) {
		if !strings.Contains(ours, id) {
			return false
		}
	}
	return true
}

// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// universe reads packages written one per line:
//
//	NAME-EVR.ARCH[@REPO[:PRIORITY]] req:DEP|DEP prv:… con:… obs:… rec:… sug:… sup:… enh:… pre:… file:…
//
// where a DEP is "name", "name>=1" or a rich dependency with "_" for spaces.
func universe(t testing.TB, text string) solve.Problem {
	t.Helper()
	p := solve.Problem{Arch: "x86_64"}
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		id, repo, _ := strings.Cut(fields[0], "@")
		nevra, err := rpm.ParseNEVRA(id)
		if err != nil {
			t.Fatal(err)
		}
		pkg := solve.Package{NEVRA: nevra, Repo: "base", Priority: 99}
		if repo != "" {
			name, prio, has := strings.Cut(repo, ":")
			pkg.Repo = name
			if has {
				pkg.Priority = int(prio[0] - '0')
			}
		}
		for _, f := range fields[1:] {
			kind, list, _ := strings.Cut(f, ":")
			for _, d := range strings.Split(list, "|") {
				addDep(t, &pkg, kind, d)
			}
		}
		p.Packages = append(p.Packages, pkg)
	}
	return p
}

func addDep(t testing.TB, pkg *solve.Package, kind, text string) {
	t.Helper()
	d := dep(text)
	switch kind {
	case "req":
		pkg.Requires = append(pkg.Requires, d)
	case "pre":
		d.Flags |= rpm.DepPreReq
		pkg.Requires = append(pkg.Requires, d)
	case "prv":
		pkg.Provides = append(pkg.Provides, d)
	case "con":
		pkg.Conflicts = append(pkg.Conflicts, d)
	case "obs":
		pkg.Obsoletes = append(pkg.Obsoletes, d)
	case "rec":
		pkg.Recommends = append(pkg.Recommends, d)
	case "sug":
		pkg.Suggests = append(pkg.Suggests, d)
	case "sup":
		pkg.Supplements = append(pkg.Supplements, d)
	case "enh":
		pkg.Enhances = append(pkg.Enhances, d)
	case "file":
		pkg.Files = append(pkg.Files, text)
	default:
		t.Fatalf("unknown kind %q", kind)
	}
}

func dep(text string) rpm.Dep {
	if strings.HasPrefix(text, "(") {
		return rpm.Dep{Name: strings.ReplaceAll(text, "_", " "), Rich: true}
	}
	i := strings.IndexAny(text, "<>=")
	if i < 0 {
		return rpm.Dep{Name: text}
	}
	d := rpm.Dep{Name: text[:i]}
	rest := strings.TrimLeft(text[i:], "<>=")
	for _, c := range text[i : len(text)-len(rest)] {
		d.Flags |= map[rune]rpm.DepFlags{'<': rpm.DepLess, '>': rpm.DepGreater, '=': rpm.DepEqual}[c]
	}
	d.EVR, _ = rpm.ParseEVR(rest)
	return d
}

// names gives the answer as "a-1 b-2", in order of installation if ordered.
func names(p *solve.Problem, list []int) string {
	var out []string
	for _, i := range list {
		n := p.Packages[i].NEVRA
		out = append(out, n.Name+"-"+n.Version)
	}
	return strings.Join(out, " ")
}

func sorted(s string) string {
	f := strings.Fields(s)
	slices.Sort(f)
	return strings.Join(f, " ")
}

func sortedJoin(list []string) string {
	return strings.Join(slices.Sorted(slices.Values(list)), "\n")
}

// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// distribution makes a repository of n packages shaped like a real one: a core
// that everything needs, libraries with versioned capabilities, two versions of
// each tenth package, weak dependencies and files.
func distribution(n int) solve.Problem {
	r := rand.New(rand.NewSource(1))
	p := solve.Problem{Arch: "x86_64"}
	for i := range n {
		name := fmt.Sprintf("pkg%05d", i)
		pkg := solve.Package{
			NEVRA: rpm.NEVRA{Name: name, EVR: rpm.EVR{Version: "1.2", Release: "3"}, Arch: "x86_64"}, Repo: "base", Priority: 99,
			Provides: []rpm.Dep{dep(name + "=1.2-3"), dep(name + "(x86-64)=1.2-3")},
			Files:    []string{"/usr/bin/" + name, "/etc/" + name + ".conf"},
		}
		for k := range 3 {
			pkg.Provides = append(pkg.Provides, dep(fmt.Sprintf("lib%s-%d.so.1()(64bit)", name, k)))
		}
		// Low numbers are needed by many, as glibc is.
		for range 8 {
			if j := int(float64(i) * r.Float64() * r.Float64() * r.Float64()); j < i {
				pkg.Requires = append(pkg.Requires, dep(fmt.Sprintf("libpkg%05d-%d.so.1()(64bit)", j, r.Intn(3))))
			}
		}
		pkg.Requires = append(pkg.Requires, dep("rpmlib(PayloadIsZstd)<=5.4.18-1"), dep("rtld"))
		if i == 0 {
			pkg.Provides = append(pkg.Provides, dep("rtld"))
		}
		if i%7 == 0 && i > 0 {
			pkg.Recommends = append(pkg.Recommends, dep(fmt.Sprintf("pkg%05d", r.Intn(i))))
		}
		if i%50 == 0 && i > 0 {
			pkg.Supplements = append(pkg.Supplements, dep(fmt.Sprintf("(pkg%05d_and_pkg%05d)", r.Intn(i), r.Intn(i))))
		}
		p.Packages = append(p.Packages, pkg)
		if i%10 == 0 {
			newer := pkg
			newer.NEVRA.Version = "1.3"
			newer.Provides = append(slices.Clone(pkg.Provides[2:]), dep(name+"=1.3-3"))
			p.Packages = append(p.Packages, newer)
		}
	}
	for i := range 60 {
		p.Install = append(p.Install, fmt.Sprintf("pkg%05d", 100+i*13))
	}
	return p
}

func TestLargeRepository(t *testing.T) {
	t.Parallel()
	p := distribution(22_000)
	sol, err := solve.Solve(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(sol.Packages); n < 150 || n > 600 {
		t.Errorf("a tree of %d packages is no fair test", n)
	}
	checkSolution(t, &p, sol)
}

func BenchmarkSolveLarge(b *testing.B) {
	p := distribution(22_000)
	for b.Loop() {
		before := testutil.CPUTime(b)
		sol, err := solve.Solve(b.Context(), p)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric((testutil.CPUTime(b) - before).Seconds(), "cpu-s")
		b.ReportMetric(float64(len(sol.Packages)), "packages")
	}
}

func BenchmarkSolveCentOS(b *testing.B) {
	p := loadRepo(b, testutil.Corpus(b, "yum-repos/osbuild-testrepo-centos-stream9"), "x86_64")
	p.Install = []string{"kernel", "systemd", "NetworkManager", "openssh-server", "dracut", "grub2-efi-x64", "shim-x64", "selinux-policy-targeted", "chrony", "sudo"}
	for b.Loop() {
		sol, err := solve.Solve(b.Context(), p)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(sol.Packages)), "packages")
	}
}

// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// machine is what a DNF scenario acts upon: repositories and installed packages.
// It turns DNF's commands into jobs, as far as the scenarios need it.
type machine struct {
	t         testing.TB
	repos     []*rpmmd.Metadata
	conf      map[string]string
	installed []owned
	groups    map[string][]string // installed groups and their packages
	envs      map[string][]string
}

type owned struct {
	pkg    solve.Package
	from   string
	reason string // user, dep, weak, group
}

type command struct {
	verb    string
	args    []string
	opts    map[string][]string
	p       solve.Problem
	from    map[int]string // installed: where from
	avail   []int
	inst    []int
	unknown bool
	reasons map[string]string // name -> reason of what comes in
}

var errNoMatch = errors.New("no match")

func parseCommand(args string) (*command, error) {
	c := &command{opts: map[string][]string{}, from: map[int]string{}, reasons: map[string]string{}}
	words, err := shellWords(args)
	if err != nil {
		return nil, err
	}
	takes := map[string]bool{"--exclude": true, "-x": true, "--advisory": true, "--cve": true, "--advisory-severities": true, "--bz": true, "--repo": true, "--setopt": true, "--from-repo": true}
	for i := 0; i < len(words); i++ {
		w := words[i]
		if !strings.HasPrefix(w, "-") {
			c.args = append(c.args, w)
			continue
		}
		k, v, ok := strings.Cut(w, "=")
		if !ok && takes[k] && i+1 < len(words) {
			i++
			v = words[i]
		}
		c.opts[k] = append(c.opts[k], v)
	}
	if len(c.args) == 0 {
		return nil, errors.New("no command")
	}
	c.verb, c.args = c.args[0], c.args[1:]
	if c.verb == "group" && len(c.args) > 0 {
		c.verb, c.args = "group "+c.args[0], c.args[1:]
	}
	return c, nil
}

func shellWords(s string) ([]string, error) {
	var out []string
	var cur strings.Builder
	quote, has := byte(0), false
	for i := 0; i < len(s); i++ {
		ch := s[i]
		switch {
		case quote != 0 && ch == quote:
			quote = 0
		case quote == 0 && (ch == '\'' || ch == '"'):
			quote, has = ch, true
		case ch == '\\' && i+1 < len(s):
			i++
			if s[i] == '\'' || s[i] == '"' {
				if quote == s[i] {
					quote = 0
				} else {
					quote = s[i]
				}
				has = true
				continue
			}
			cur.WriteByte(s[i])
			has = true
		case ch == ' ' && quote == 0:
			if has || cur.Len() > 0 {
				out = append(out, cur.String())
			}
			cur.Reset()
			has = false
		default:
			cur.WriteByte(ch)
		}
	}
	if has || cur.Len() > 0 {
		out = append(out, cur.String())
	}
	return out, nil
}

func (m *machine) addRepo(id string, conf map[string]string) {
	for _, r := range m.repos {
		if r.Repo.ID == id {
			m.configure(r, conf)
			return
		}
	}
	dir := testutil.Corpus(m.t, "depsolve", "ci-dnf-stack-repodata", id)
	md, err := rpmmd.Load(context.Background(), rpmmd.Repo{ID: id, BaseURLs: []string{dir}, Priority: 99, Cost: 1000}, testutil.OpenDir(m.t, m.t.TempDir()), rpmmd.Options{})
	if err != nil {
		m.t.Fatal(err)
	}
	m.configure(md, conf)
	m.repos = append(m.repos, md)
}

func (m *machine) configure(md *rpmmd.Metadata, conf map[string]string) {
	for k, v := range conf {
		list := strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		switch k {
		case "priority":
			fmt.Sscan(v, &md.Repo.Priority)
		case "excludepkgs", "exclude":
			md.Repo.ExcludePkgs = list
		case "includepkgs":
			md.Repo.IncludePkgs = list
		case "module_hotfixes":
			md.Repo.ModuleHotfixes = v == "1" || v == "True"
		case "cost":
			fmt.Sscan(v, &md.Repo.Cost)
		}
	}
}

// setting gives an option of the command line or the configuration.
func (m *machine) setting(c *command, key, fallback string) string {
	v := fallback
	if s, ok := m.conf[key]; ok {
		v = s
	}
	for _, o := range c.opts["--setopt"] {
		if k, s, _ := strings.Cut(o, "="); k == key {
			v = s
		}
	}
	return v
}

func yes(s string) bool { return slices.Contains([]string{"1", "true", "True", "yes"}, s) }

func (m *machine) best(c *command) bool {
	if _, ok := c.opts["--best"]; ok {
		return true
	}
	for _, no := range []string{"--nobest", "--no-best"} {
		if _, ok := c.opts[no]; ok {
			return false
		}
	}
	return yes(m.setting(c, "best", "True"))
}

// build makes the problem: what repositories offer after excludes and modules,
// and what is installed.
func (m *machine) build(c *command) {
	c.p = solve.Problem{Arch: "x86_64", Arches: solve.CompatibleArches("x86_64")}
	var lists []*rpmmd.Modules
	for _, md := range m.repos {
		if mods, err := md.Modules(context.Background()); err == nil {
			lists = append(lists, mods)
		}
	}
	active, err := rpmmd.ActiveModules(lists, rpmmd.ModuleChoice{})
	if err != nil {
		m.t.Fatal(err)
	}
	filter := rpmmd.NewModuleFilter(lists, active)
	off := map[string]bool{}
	for _, v := range c.opts["--disable-repo"] {
		off[v] = true
	}
	disabled := m.setting(c, "disable_excludes", "")
	lookup := map[int]struct {
		md *rpmmd.Metadata
		k  int
	}{}
	main := rpmmd.Repo{ExcludePkgs: splitComma(m.setting(c, "exclude", m.setting(c, "excludepkgs", ""))), IncludePkgs: splitComma(m.setting(c, "includepkgs", ""))}
	line := rpmmd.Repo{}
	for _, k := range []string{"--exclude", "-x", "--excludepkgs"} {
		for _, v := range c.opts[k] {
			line.ExcludePkgs = append(line.ExcludePkgs, splitComma(v)...)
		}
	}
	for _, md := range m.repos {
		if off[md.Repo.ID] || off["*"] {
			continue
		}
		r := md.Repo
		for _, o := range c.opts["--setopt"] {
			k, v, _ := strings.Cut(o, "=")
			switch k {
			case r.ID + ".excludepkgs":
				r.ExcludePkgs = splitComma(v)
			case r.ID + ".includepkgs":
				r.IncludePkgs = splitComma(v)
			}
		}
		for i := range md.Packages {
			k := &md.Packages[i]
			if line.Excluded(k) != "" || filter.Reason(r, k) != "" {
				continue
			}
			if disabled != "*" && (disabled != "main" && main.Excluded(k) != "" || disabled != r.ID && r.Excluded(k) != "") {
				continue
			}
			n := len(c.p.Packages)
			lookup[n] = struct {
				md *rpmmd.Metadata
				k  int
			}{md, i}
			c.avail = append(c.avail, n)
			c.p.Packages = append(c.p.Packages, solve.Package{NEVRA: k.NEVRA, Repo: r.ID, Priority: r.Priority, Cost: r.Cost, Vendor: k.Vendor,
				Requires: k.Requires, Provides: k.Provides, Conflicts: k.Conflicts, Obsoletes: k.Obsoletes,
				Recommends: k.Recommends, Suggests: k.Suggests, Supplements: k.Supplements, Enhances: k.Enhances, Files: k.Files})
		}
	}
	for _, o := range m.installed {
		n := len(c.p.Packages)
		c.inst = append(c.inst, n)
		c.from[n] = o.from
		o.pkg.Repo = "@System"
		c.p.Packages = append(c.p.Packages, o.pkg)
	}
	byPlace := map[*rpmmd.Metadata]map[int]int{}
	for n, l := range lookup {
		if byPlace[l.md] == nil {
			byPlace[l.md] = map[int]int{}
		}
		byPlace[l.md][l.k] = n
	}
	c.p.Lookup = func(file string) (out []int) {
		for _, md := range m.repos {
			owners, _ := md.Owners(context.Background(), file)
			for _, k := range owners {
				if n, ok := byPlace[md][k]; ok {
					out = append(out, n)
				}
			}
		}
		for _, n := range c.inst {
			if slices.Contains(c.p.Packages[n].Files, file) {
				out = append(out, n)
			}
		}
		return out
	}
	if !yes(m.setting(c, "install_weak_deps", "True")) {
		c.p.NoWeak = true
	}
	c.p.System = &solve.System{Installed: c.inst, AllowVendorChange: yes(m.setting(c, "allow_vendor_change", "1")), AllowDowngrade: true, AllObsoleters: true, FocusNew: true}
	if _, ok := c.opts["--no-allow-downgrade"]; ok {
		c.p.System.AllowDowngrade = false
	}
	only := splitComma(m.setting(c, "installonlypkgs", ""))
	only = append(only, "kernel", "kernel-core", "kernel-modules", "installonlypkg(kernel)", "installonlypkg(kernel-module)", "installonlypkg(vm)", "multiversion(kernel)")
	var multi []int
	for i := range c.p.Packages {
		k := &c.p.Packages[i]
		if slices.Contains(only, k.NEVRA.Name) || slices.ContainsFunc(k.Provides, func(d rpm.Dep) bool { return slices.Contains(only, d.Name) }) {
			multi = append(multi, i)
		}
	}
	c.job(solve.Job{Action: solve.MultiVersion, Packages: multi})
	m.weakExcludes(c)
}

func splitComma(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func (c *command) job(j solve.Job) { c.p.System.Jobs = append(c.p.System.Jobs, j) }

// weakExcludes finds what was left out before: recommended by what is
// installed, but not there.
func (m *machine) weakExcludes(c *command) {
	var out []int
	for _, name := range splitComma(m.setting(c, "exclude_from_weak", "")) {
		out = append(out, c.match(c.avail, name)...)
	}
	if yes(m.setting(c, "exclude_from_weak_autodetect", "True")) {
		for _, i := range c.inst {
			for _, d := range c.p.Packages[i].Recommends {
				if isRich(d) || slices.ContainsFunc(c.inst, func(o int) bool { return offers(&c.p, o, d) }) {
					continue
				}
				plain := rpm.Dep{Name: d.Name}
				for _, o := range c.avail {
					if offers(&c.p, o, plain) {
						out = append(out, o)
					}
				}
			}
		}
	}
	c.job(solve.Job{Action: solve.ExcludeFromWeak, Packages: out})
}

// match finds packages by NEVRA forms and patterns.
func (c *command) match(among []int, spec string) (out []int) {
	for _, i := range among {
		n := c.p.Packages[i].NEVRA
		v, vr := n.Version, n.Version+"-"+n.Release
		evr := fmt.Sprintf("%d:%s", n.Epoch, vr)
		forms := []string{n.Name, n.Name + "." + n.Arch}
		for _, s := range []string{v, vr, evr, fmt.Sprintf("%d:%s", n.Epoch, v)} {
			forms = append(forms, n.Name+"-"+s, n.Name+"-"+s+"."+n.Arch)
		}
		if slices.ContainsFunc(forms, func(f string) bool { ok, _ := path.Match(spec, f); return ok }) {
			out = append(out, i)
		}
	}
	return out
}

// matchAny also looks at names with versions, capabilities and files.
func (c *command) matchAny(among []int, spec string) []int {
	if out := c.match(among, spec); len(out) > 0 {
		return out
	}
	d := dep(strings.ReplaceAll(spec, " ", ""))
	var out []int
	for _, i := range among {
		k := &c.p.Packages[i]
		if offers(&c.p, i, d) || offers(&c.p, i, rpm.Dep{Name: "/usr/bin/" + spec}) || offers(&c.p, i, rpm.Dep{Name: "/usr/sbin/" + spec}) ||
			slices.ContainsFunc(k.Files, func(f string) bool { ok, _ := path.Match(spec, f); return ok }) || slices.ContainsFunc(k.Provides, func(p rpm.Dep) bool { ok, _ := path.Match(spec, p.Name); return ok }) {
			out = append(out, i)
		}
	}
	return out
}

func nevraKey(n rpm.NEVRA) string {
	return n.String() // without an epoch of 0
}

// run executes a command and gives its transaction: "+" and "-" before NEVRAs.
func (m *machine) run(c *command) (map[string]bool, error) {
	m.build(c)
	if err := m.jobs(c); err != nil {
		return nil, err
	}
	sol, err := solve.Solve(context.Background(), c.p)
	if err != nil {
		return nil, err
	}
	m.check(c, sol)
	if _, ok := c.opts["--downloadonly"]; ok {
		return nil, nil
	}
	return m.commit(c, sol), nil
}

func (m *machine) jobs(c *command) error {
	switch c.verb {
	case "install":
		return m.install(c)
	case "upgrade", "update":
		return m.upgrade(c)
	case "remove":
		return m.remove(c)
	case "downgrade":
		return m.downgrade(c)
	case "group install":
		return m.groupInstall(c, c.args)
	case "group remove":
		return m.groupRemove(c, c.args)
	case "distro-sync":
		c.job(solve.Job{Action: solve.DistUpgrade, All: true, Best: m.best(c)})
		return nil
	}
	c.unknown = true
	return errors.New(c.verb)
}

// check demands that the machine is closed and free of conflicts afterwards.
func (m *machine) check(c *command, sol solve.Solution) {
	k := checker{p: &c.p, set: sol.Packages}
	for _, v := range k.violations() {
		// The checker knows one word size and no kernels side by side.
		if !strings.Contains(v, "wrong architecture") && !strings.Contains(v, "same name as") {
			m.t.Errorf("%s %v: %s", c.verb, c.args, v)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// eligible narrows to what --from-repo allows.
func (c *command) eligible(list []int) []int {
	for _, v := range c.opts["--from-repo"] {
		repos := splitComma(v)
		list = slices.DeleteFunc(slices.Clone(list), func(i int) bool {
			return !slices.ContainsFunc(repos, func(r string) bool { ok, _ := path.Match(r, c.p.Packages[i].Repo); return ok })
		})
	}
	for _, v := range c.opts["--from-vendor"] {
		list = slices.DeleteFunc(slices.Clone(list), func(i int) bool {
			return !slices.ContainsFunc(strings.Split(v, ","), func(p string) bool { ok, _ := path.Match(p, c.p.Packages[i].Vendor); return ok })
		})
	}
	return list
}

// mine narrows the installed packages to what --installed-from-repo allows.
func (c *command) mine() []int {
	list := c.inst
	for _, v := range c.opts["--installed-from-repo"] {
		repos := splitComma(v)
		list = slices.DeleteFunc(slices.Clone(list), func(i int) bool {
			return !slices.ContainsFunc(repos, func(r string) bool { ok, _ := path.Match(r, c.from[i]); return ok })
		})
	}
	return list
}

func (c *command) obsoleters(list []int) (out []int) {
	for _, i := range c.avail {
		for _, d := range c.p.Packages[i].Obsoletes {
			if slices.ContainsFunc(list, func(o int) bool {
				n := c.p.Packages[o].NEVRA
				return c.p.Packages[i].NEVRA.Name != n.Name && d.Matches(rpm.Dep{Name: n.Name, Flags: rpm.DepEqual, EVR: n.EVR})
			}) {
				out = append(out, i)
				break
			}
		}
	}
	return out
}

func (m *machine) install(c *command) error {
	missing := false
	for _, spec := range c.args {
		if g, ok := strings.CutPrefix(spec, "@"); ok {
			if err := m.groupInstall(c, []string{strings.TrimPrefix(g, "^")}); err != nil {
				return err
			}
			continue
		}
		if strings.HasPrefix(spec, "(") {
			c.p.Install = append(c.p.Install, spec)
			continue
		}
		list := c.matchAny(slices.Concat(c.eligible(c.avail), c.inst), spec)
		if len(list) == 0 {
			missing = true
			continue
		}
		byName := map[string][]int{}
		exact := len(c.match(list, spec)) > 0
		for _, i := range list {
			key := ""
			if exact {
				key = c.p.Packages[i].NEVRA.Name
			}
			byName[key] = append(byName[key], i)
		}
		for _, k := range slices.Sorted(maps.Keys(byName)) {
			group := byName[k]
			if exact && k == spec {
				group = append(group, c.obsoleters(group)...)
			}
			for _, i := range group {
				c.reasons[c.p.Packages[i].NEVRA.Name] = "user"
			}
			c.job(solve.Job{Action: solve.Install, Packages: group, Best: m.best(c)})
		}
	}
	if missing && !m.skips(c) {
		return errNoMatch
	}
	return nil
}

func (m *machine) skips(c *command) bool {
	_, skip := c.opts["--skip-unavailable"]
	return skip || !yes(m.setting(c, "strict", "True"))
}

func (m *machine) upgrade(c *command) error {
	mine := c.mine()
	if len(c.args) == 0 {
		if len(c.opts["--from-repo"])+len(c.opts["--installed-from-repo"]) == 0 {
			c.job(solve.Job{Action: solve.Update, All: true, Best: m.best(c)})
			return nil
		}
		m.upgradeTo(c, c.eligible(c.avail), mine)
		return nil
	}
	for _, spec := range c.args {
		list := c.matchAny(c.eligible(c.avail), spec)
		old := c.matchAny(mine, spec)
		list = append(list, c.obsoleters(old)...)
		if len(old) == 0 {
			// A version is named that is not the installed one.
			for _, i := range mine {
				if slices.ContainsFunc(list, func(o int) bool { return c.p.Packages[o].NEVRA.Name == c.p.Packages[i].NEVRA.Name }) {
					old = append(old, i)
				}
			}
		}
		if len(old) == 0 && m.skips(c) {
			continue
		}
		if len(old) == 0 || len(list) == 0 && len(c.opts["--from-vendor"]) > 0 {
			return errNoMatch
		}
		m.upgradeTo(c, list, old)
	}
	return nil
}

func (m *machine) upgradeTo(c *command, list, old []int) {
	list = slices.DeleteFunc(slices.Clone(list), func(o int) bool {
		return !slices.ContainsFunc(old, func(i int) bool {
			return c.p.Packages[i].NEVRA.Name == c.p.Packages[o].NEVRA.Name && rpm.Compare(c.p.Packages[o].NEVRA.EVR, c.p.Packages[i].NEVRA.EVR) >= 0
		}) && !slices.Contains(c.obsoleters(old), o)
	})
	if len(list) > 0 {
		c.job(solve.Job{Action: solve.Update, Packages: list, Targeted: true, Best: m.best(c)})
	}
}

func (m *machine) cleans(c *command) bool {
	return yes(m.setting(c, "clean_requirements_on_remove", "True"))
}

func (m *machine) keepWanted(c *command) {
	var out []int
	for n, o := range m.installed {
		if o.reason == "user" || o.reason == "group" {
			out = append(out, c.inst[n])
		}
	}
	c.job(solve.Job{Action: solve.UserInstalled, Packages: out})
}

// erasing: packages go, and none comes, as DNF reads no repository then.
func (c *command) erasing() {
	c.p.System.AllowErase, c.p.NoWeak = true, true
	c.job(solve.Job{Action: solve.Blacklist, Packages: c.avail})
}

func (m *machine) remove(c *command) error {
	c.erasing()
	for _, spec := range c.args {
		if g, ok := strings.CutPrefix(spec, "@"); ok {
			if err := m.groupRemove(c, []string{g}); err != nil {
				return err
			}
			continue
		}
		list := c.match(c.mine(), spec)
		if len(list) == 0 && strings.HasPrefix(spec, "/") {
			list = c.matchAny(c.mine(), spec)
		}
		c.job(solve.Job{Action: solve.Erase, Packages: list, CleanDeps: m.cleans(c)})
	}
	for _, k := range []string{"--exclude", "-x"} {
		for _, v := range c.opts[k] {
			for _, pattern := range splitComma(v) {
				c.job(solve.Job{Action: solve.Lock, Packages: c.match(c.inst, pattern)})
			}
		}
	}
	m.keepWanted(c)
	return nil
}

func (m *machine) downgrade(c *command) error {
	c.p.System.AllowDowngrade = true
	done := false
	for _, spec := range c.args {
		want := c.match(c.eligible(c.avail), spec)
		for _, i := range c.mine() {
			n := c.p.Packages[i].NEVRA
			var lower []int
			for _, o := range want {
				k := c.p.Packages[o].NEVRA
				if k.Name == n.Name && k.Arch == n.Arch && rpm.Compare(k.EVR, n.EVR) < 0 {
					lower = append(lower, o)
				}
			}
			if slices.Contains(c.match(c.inst, spec), i) && len(c.opts["--from-vendor"]) == 0 {
				done = true
			}
			if len(lower) == 0 {
				continue
			}
			done = true
			c.job(solve.Job{Action: solve.Install, Packages: lower, Best: m.best(c)})
		}
	}
	if !done {
		return errNoMatch
	}
	return nil
}

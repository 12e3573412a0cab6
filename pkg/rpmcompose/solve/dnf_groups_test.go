// SPDX-License-Identifier: Apache-2.0

package solve_test

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/solve"
)

// comps joins the groups of the repositories in use.
func (m *machine) comps(c *command) (groups map[string]rpmmd.Group, envs map[string]rpmmd.Environment) {
	groups, envs = map[string]rpmmd.Group{}, map[string]rpmmd.Environment{}
	banned := func(key, id string) bool {
		if d := m.setting(c, "disable_excludes", ""); d == "*" || d == "main" {
			return false
		}
		return slices.ContainsFunc(splitComma(m.setting(c, key, "")), func(p string) bool { ok, _ := path.Match(p, id); return ok })
	}
	for _, md := range m.repos {
		if slices.Contains(c.opts["--disable-repo"], md.Repo.ID) || slices.Contains(c.opts["--disable-repo"], "*") {
			continue
		}
		comps, err := md.Comps(context.Background())
		if err != nil {
			continue
		}
		for _, g := range comps.Groups {
			if !banned("excludegroups", g.ID) {
				groups[g.ID] = g
			}
		}
		for _, e := range comps.Environments {
			if !banned("excludeenvs", e.ID) {
				envs[e.ID] = e
			}
		}
	}
	return groups, envs
}

func (m *machine) groupInstall(c *command, ids []string) error {
	groups, envs := m.comps(c)
	m.installGroups(c, ids, groups, envs, true)
	if c.unknown {
		return errNoMatch
	}
	return nil
}

func (m *machine) installGroups(c *command, ids []string, groups map[string]rpmmd.Group, envs map[string]rpmmd.Environment, strict bool) {
	for _, id := range ids {
		found := false
		for _, gid := range slices.Sorted(maps.Keys(groups)) {
			g := groups[gid]
			if ok, _ := path.Match(id, gid); !ok && !strings.EqualFold(g.Name, id) {
				continue
			}
			found = true
			m.installGroup(c, g)
		}
		for _, eid := range slices.Sorted(maps.Keys(envs)) {
			e := envs[eid]
			if ok, _ := path.Match(id, eid); !ok && !strings.EqualFold(e.Name, id) {
				continue
			}
			found = true
			m.envs[eid] = e.Groups
			members := slices.Clone(e.Groups)
			if _, optional := c.opts["--with-optional"]; optional {
				members = append(members, e.Options...)
			}
			m.installGroups(c, members, groups, nil, false)
		}
		if !found && strict {
			c.unknown = true
		}
	}
}

func (m *machine) installGroup(c *command, g rpmmd.Group) {
	names := slices.Concat(g.Mandatory, g.Defaults)
	if _, optional := c.opts["--with-optional"]; optional {
		names = append(names, g.Optional...)
	}
	for _, k := range g.Conditional {
		if len(c.match(c.avail, k.Name)) > 0 {
			c.p.Install = append(c.p.Install, "("+k.Name+" if "+k.Requires+")")
			c.reasons[k.Name] = "group"
		}
	}
	m.groups[g.ID] = names
	if _, none := c.opts["--no-packages"]; none {
		return
	}
	for _, n := range names {
		list := c.match(slices.Concat(c.avail, c.inst), n)
		list = append(list, c.obsoleters(list)...)
		if len(list) == 0 {
			continue
		}
		for _, i := range list {
			if name := c.p.Packages[i].NEVRA.Name; c.reasons[name] == "" {
				c.reasons[name] = "group"
			}
		}
		c.job(solve.Job{Action: solve.Install, Packages: list, Best: m.best(c)})
	}
}

func (m *machine) groupRemove(c *command, ids []string) error {
	if !c.p.System.AllowErase {
		c.erasing()
	}
	groups, envs := m.comps(c)
	gone := map[string]bool{}
	for _, id := range ids {
		for gid := range m.groups {
			if ok, _ := path.Match(id, gid); ok || strings.EqualFold(groups[gid].Name, id) {
				gone[gid] = true
			}
		}
		for eid, members := range m.envs {
			if ok, _ := path.Match(id, eid); ok || strings.EqualFold(envs[eid].Name, id) {
				for _, g := range members {
					if _, has := m.groups[g]; has {
						gone[g] = true
					}
				}
				delete(m.envs, eid)
			}
		}
	}
	if len(gone) == 0 {
		return nil
	}
	var list []int
	for n, o := range m.installed {
		name, mine, other := o.pkg.NEVRA.Name, false, false
		for gid, names := range m.groups {
			if slices.Contains(names, name) {
				mine, other = mine || gone[gid], other || !gone[gid]
			}
		}
		if _, keep := c.opts["--no-packages"]; mine && !other && o.reason == "group" && !keep {
			list = append(list, c.inst[n])
		}
	}
	for gid := range gone {
		delete(m.groups, gid)
	}
	c.job(solve.Job{Action: solve.Erase, Packages: list, CleanDeps: m.cleans(c)})
	m.keepWanted(c)
	return nil
}

// commit makes the answer the machine's new state.
func (m *machine) commit(c *command, sol solve.Solution) map[string]bool {
	out := map[string]bool{}
	old := map[string]owned{}
	var gone []int
	now := map[string]bool{}
	for _, i := range sol.Packages {
		now[c.p.Packages[i].NEVRA.Name] = true
	}
	for n, o := range m.installed {
		if !slices.Contains(sol.Packages, c.inst[n]) {
			gone = append(gone, c.inst[n])
		}
		old[o.pkg.NEVRA.Name] = o
	}
	var next []owned
	var fresh []int
	for _, i := range sol.Packages {
		k := c.p.Packages[i]
		o := owned{pkg: k, from: k.Repo, reason: "dep"}
		if n := slices.Index(c.inst, i); n >= 0 {
			o = m.installed[n]
			if c.reasons[k.NEVRA.Name] == "user" {
				o.reason = "user"
			}
		} else {
			fresh = append(fresh, i)
			out["+"+nevraKey(k.NEVRA)] = true
			if r := c.reasons[k.NEVRA.Name]; r != "" {
				o.reason = r
			} else if was, ok := old[k.NEVRA.Name]; ok {
				o.reason = was.reason
			}
		}
		next = append(next, o)
	}
	for _, i := range gone {
		n := c.p.Packages[i].NEVRA
		if now[n.Name] && slices.ContainsFunc(fresh, func(f int) bool { return c.p.Packages[f].NEVRA.Name == n.Name }) || slices.ContainsFunc(fresh, func(f int) bool { return slices.Contains(c.obsoleters([]int{i}), f) }) {
			continue
		}
		out["-"+nevraKey(n)] = true
	}
	m.installed = next
	return out
}

// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// updateCandidates are the packages that may take the place of an installed one.
func (s *search) updateCandidates(v int32) []int32 {
	u := s.sys.updates[v]
	dup := u != nil && u.dup
	me := s.pool.pkg(v)
	var out []int32
	for _, o := range s.pool.names[me.NEVRA.Name] {
		if o == v || s.sys.installed[o] || !s.pool.rivals(o, v) || u != nil && u.only != nil && !u.only[o] {
			continue
		}
		if s.legal(v, o, dup) {
			out = append(out, o)
		}
	}
	for o := int32(1); int(o) < s.pool.size(); o++ {
		other := s.pool.pkg(o)
		if s.sys.installed[o] || other.NEVRA.Name == me.NEVRA.Name || len(other.Obsoletes) == 0 || u != nil && u.only != nil && !u.only[o] {
			continue
		}
		if !dup && !s.sys.AllowVendorChange && other.Vendor != me.Vendor {
			continue
		}
		if slices.ContainsFunc(other.Obsoletes, func(d rpm.Dep) bool { return slices.Contains(s.pool.obsoleted(d), v) }) {
			out = append(out, o)
		}
	}
	return out
}

// legal reports whether an update may go from v to o.
func (s *search) legal(v, o int32, dup bool) bool {
	a, b := s.pool.pkg(v), s.pool.pkg(o)
	older := rpm.Compare(b.NEVRA.EVR, a.NEVRA.EVR) < 0
	if dup {
		return !older || !s.sys.NoDupDowngrade || s.sys.AllowErase
	}
	if older && !s.sys.AllowDowngrade {
		return false
	}
	if a.NEVRA.Arch != b.NEVRA.Arch && !s.sys.AllowArchChange && a.NEVRA.Arch != "noarch" && b.NEVRA.Arch != "noarch" {
		return false
	}
	return a.Vendor == b.Vendor || s.sys.AllowVendorChange
}

// same reports whether an installed package is a build that a repository has.
func (s *search) same(v, o int32) bool {
	a, b := s.pool.pkg(v), s.pool.pkg(o)
	return a.NEVRA.Arch == b.NEVRA.Arch && rpm.Compare(a.NEVRA.EVR, b.NEVRA.EVR) == 0 && a.Vendor == b.Vendor
}

// addUpdateRule: an installed package stays, or something takes its place.
func (s *search) addUpdateRule(v int32) {
	if s.sys.erased[v] || s.sys.unneeded[v] {
		return
	}
	u := s.sys.updates[v]
	multi := s.pool.multi[s.pool.pkg(v).NEVRA.Name]
	dup := u != nil && u.dup && !s.sys.held[v]
	keep := func(lits ...int32) {
		s.keep[v] = int32(len(s.rules))
		s.addWeakable(rule{lits: lits, kind: ruleKeep, owner: v, weak: s.sys.AllowErase})
	}
	switch {
	case dup && len(s.sys.candidates[v]) == 0:
		// An orphan stays if nothing speaks against it.
		if s.dupImpossible(v) {
			keep()
		}
	case dup && !s.isSame(v):
		if multi && s.sys.KeepOrphans && !s.sys.AllowErase {
			keep(v)
		} else {
			s.addWeakable(rule{lits: []int32{-v}, kind: ruleDup, owner: v})
		}
		keep(s.sys.candidates[v]...)
	case multi:
		keep(v)
	default:
		keep(append([]int32{v}, s.sys.candidates[v]...)...)
	}
}

func (s *search) isSame(v int32) bool {
	return slices.ContainsFunc(s.sys.candidates[v], func(o int32) bool { return s.same(v, o) })
}

// dupImpossible: only forbidden versions are there.
func (s *search) dupImpossible(v int32) bool {
	return slices.ContainsFunc(s.pool.names[s.pool.pkg(v).NEVRA.Name], func(o int32) bool {
		only := s.sys.updates[v].only
		return !s.sys.installed[o] && s.pool.rivals(o, v) && (only == nil || only[o])
	})
}

// addWeakable adds a rule unless it was given up in an earlier round.
func (s *search) addWeakable(r rule) {
	if r.weak && s.dropped[weakKey(&r)] {
		return
	}
	if _, bad := s.add(r); bad != noReason && s.bad == noReason {
		s.bad = bad
	}
}

func weakKey(r *rule) string {
	lits := slices.Sorted(slices.Values(r.lits))
	var b strings.Builder
	b.WriteByte(byte(r.kind))
	for _, l := range lits {
		for shift := 0; shift < 32; shift += 8 {
			b.WriteByte(byte(l >> shift))
		}
	}
	return b.String()
}

func (s *search) addSystemJob(j *Job) {
	list := s.vars(j)
	name := cmp.Or(j.Name, "a job")
	switch j.Action {
	case Install:
		if j.Best {
			list = s.bestOf(list)
		}
		id := int32(len(s.rules))
		s.addWeakable(rule{lits: slices.Clone(list), kind: ruleJob, why: name})
		s.jobs = append(s.jobs, id)
	case Erase:
		for _, v := range list {
			s.addWeakable(rule{lits: []int32{-v}, kind: ruleJob, owner: v, why: name})
		}
	case Lock:
		for _, v := range list {
			l := -v
			if s.sys.installed[v] {
				l = v
			}
			s.addWeakable(rule{lits: []int32{l}, kind: ruleJob, owner: v, why: name})
		}
	case Blacklist:
		for _, v := range list {
			if !s.sys.mentioned[v] && !s.sys.installed[v] {
				s.addWeakable(rule{lits: []int32{-v}, kind: ruleJob, owner: v, why: name})
			}
		}
	}
}

// bestOf narrows to the newest of each name that a job may take.
func (s *search) bestOf(list []int32) []int32 {
	list = slices.DeleteFunc(slices.Clone(list), func(v int32) bool { return s.sys.held[v] && !s.sys.installed[v] })
	if len(list) < 2 {
		return list
	}
	best := s.notObsoleted(s.bestVersions(s.bestPriority(slices.Clone(list))))
	// Whatever equals the best will do as well: the same build, installed.
	return slices.DeleteFunc(list, func(v int32) bool {
		return !slices.ContainsFunc(best, func(b int32) bool {
			return s.pool.pkg(b).NEVRA.Name == s.pool.pkg(v).NEVRA.Name && rpm.Compare(s.pool.pkg(b).NEVRA.EVR, s.pool.pkg(v).NEVRA.EVR) == 0
		})
	})
}

// addUpdateJobs adds what Best and AllObsoleters demand of an update.
func (s *search) addUpdateJobs(v int32) {
	u := s.sys.updates[v]
	if u == nil {
		return
	}
	if u.best && !s.sys.held[v] {
		all := append([]int32{v}, s.sys.candidates[v]...)
		if name := s.pool.pkg(v).NEVRA.Name; s.pool.multi[name] {
			// Only the newest of several versions is updated.
			for _, o := range s.pool.names[name] {
				if o != v && s.sys.installed[o] && s.pool.rivals(o, v) {
					all = append(all, o)
				}
			}
		}
		if s.sys.StrictBest {
			all = append(all, s.forbidden(v, u)...)
		}
		all = slices.DeleteFunc(all, func(o int32) bool { return s.sys.held[o] && !s.sys.installed[o] })
		s.addWeakable(rule{lits: s.bestUpdates(v, all), kind: ruleBest, owner: v})
	}
	if s.sys.AllObsoleters {
		s.addObsoleters(v)
	}
}

// forbidden are newer builds that the rules for updates leave out.
func (s *search) forbidden(v int32, u *update) []int32 {
	var out []int32
	for _, o := range s.pool.names[s.pool.pkg(v).NEVRA.Name] {
		if o != v && !s.sys.installed[o] && s.pool.rivals(o, v) && !slices.Contains(s.sys.candidates[v], o) && (u.only == nil || u.only[o]) {
			out = append(out, o)
		}
	}
	return out
}

func (s *search) bestUpdates(v int32, list []int32) []int32 {
	if others := slices.DeleteFunc(slices.Clone(list), func(o int32) bool { return o == v }); s.sys.updates[v].dup && len(others) > 0 {
		list = others
	}
	best := s.narrow(slices.Clone(list), false)
	if slices.Contains(best, v) {
		return []int32{v}
	}
	for _, o := range list {
		if o != v && s.same(v, o) && slices.Contains(best, o) {
			best = append(best, v)
			break
		}
	}
	return best
}

// addObsoleters: of the packages that obsolete v by the same words all come in.
func (s *search) addObsoleters(v int32) {
	by := map[string][]int32{}
	for _, o := range s.sys.candidates[v] {
		for _, d := range s.pool.pkg(o).Obsoletes {
			if slices.Contains(s.pool.obsoleted(d), v) {
				by[d.String()] = append(by[d.String()], o)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(by)) {
		group := s.bestVersions(slices.Clone(by[k]))
		for _, a := range group {
			for _, b := range group {
				if a != b {
					s.addWeakable(rule{lits: []int32{-a, b}, kind: ruleBest, owner: a, weak: true})
				}
			}
		}
	}
}

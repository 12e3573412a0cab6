// SPDX-License-Identifier: Apache-2.0

package solve

import (
	"slices"
)

// Action is what a job asks for.
type Action uint8

// Actions of jobs. The words are libsolv's.
const (
	// Install: one of the packages must be in the set.
	Install Action = iota
	// Erase: none of the packages may be in the set.
	Erase
	// Update: the installed packages among them take their best update. Where
	// none is installed, those that the packages would replace take them.
	Update
	// DistUpgrade: as Update, but older versions and other vendors count, too:
	// the installed packages follow the repositories.
	DistUpgrade
	// Lock: what is installed stays, what is not does not come in.
	Lock
	// Favor and Disfavor decide between packages that are equally good otherwise.
	Favor
	Disfavor
	// MultiVersion allows several versions at once.
	MultiVersion
	// Blacklist: not to be chosen unless an Install job has it.
	Blacklist
	// ExcludeFromWeak: not to be put in for a weak dependency alone.
	ExcludeFromWeak
	// UserInstalled: not put in for other packages, so it stays when they go.
	UserInstalled
)

// Job is one request about packages, by index in Problem.Packages.
type Job struct {
	Action   Action
	Packages []int
	Name     string // what to call the job in explanations
	All      bool   // all packages, instead of Packages
	// Best demands the best of the packages, or the best update: no other.
	Best bool
	// CleanDeps erases what only the packages that go had needed.
	CleanDeps bool
	// Targeted takes Packages as what to update to, installed or not.
	Targeted bool
}

// System describes a machine with packages and what may happen to them.
type System struct {
	// Installed are packages by index in Problem.Packages.
	Installed []int
	Jobs      []Job
	// AllowErase lets installed packages go where they stand in the way of a job.
	AllowErase bool
	// AllowDowngrade and AllowVendorChange widen what an update may do.
	AllowDowngrade, AllowVendorChange, AllowArchChange bool
	// StrictBest makes Best mean the best there is, even where the rules for
	// updates forbid it: that is a contradiction then.
	StrictBest bool
	// NoDupDowngrade forbids DistUpgrade to take older versions.
	NoDupDowngrade bool
	// AllObsoleters takes all packages that obsolete an installed one by the same
	// dependency, not only the best.
	AllObsoleters bool
	// KeepOrphans keeps installed packages that DistUpgrade finds nowhere.
	KeepOrphans bool
	// FocusNew meets the needs of new packages before the installed ones settle.
	FocusNew bool
	// FocusInstalled settles the installed ones before the jobs.
	FocusInstalled bool
	// NoColors treats packages of one name and different word sizes as rivals.
	NoColors     bool
	NoAutoTarget bool
}

// system is the state that a search needs about the machine.
type system struct {
	*System
	installed  []bool
	list       []int32           // the installed, in order
	updates    map[int32]*update // installed packages that a job updates
	favored    map[int32]int     // larger is better
	weakless   map[int32]bool    // excluded from weak dependencies
	erased     map[int32]bool
	unneeded   map[int32]bool // may go with those erased
	wanted     map[int32]bool // user installed
	cleaned    map[int32]bool // whose dependencies are cleaned
	held       map[int32]bool // locked in place
	mentioned  map[int32]bool // named by an Install job
	candidates map[int32][]int32
}

// update is what a job wants of an installed package.
type update struct {
	dup, best bool
	only      map[int32]bool // nil: any
}

// color is the word size of an architecture: 1 for 32 bits, 2 for 64, 3 for both.
func color(arch string) int {
	switch arch {
	case "x86_64", "x86_64_v2", "x86_64_v3", "x86_64_v4", "aarch64", "ppc64", "ppc64le", "s390x", "riscv64", "amd64", "ia32e", "sparc64":
		return 2
	case "noarch", "":
		return 3
	}
	return 1
}

// rivals reports whether packages of one name exclude each other because of
// their architectures: programs of both word sizes live side by side.
func (pl *pool) rivals(a, b int32) bool {
	if pl.p.System != nil && pl.p.System.NoColors {
		return true
	}
	return color(pl.pkg(a).NEVRA.Arch)&color(pl.pkg(b).NEVRA.Arch) != 0
}

func newSystem(pl *pool, sys *System) *system {
	y := &system{System: sys, installed: make([]bool, pl.size()), updates: map[int32]*update{}, favored: map[int32]int{},
		weakless: map[int32]bool{}, erased: map[int32]bool{}, unneeded: map[int32]bool{}, wanted: map[int32]bool{},
		cleaned: map[int32]bool{}, held: map[int32]bool{}, mentioned: map[int32]bool{}, candidates: map[int32][]int32{}}
	for _, i := range sys.Installed {
		if v, ok := pl.varOf[i]; ok {
			y.installed[v] = true
			y.list = append(y.list, v)
		}
	}
	slices.Sort(y.list)
	return y
}

// vars turns a job's packages into eligible variables, ascending.
func (s *search) vars(j *Job) []int32 {
	var out []int32
	if j.All {
		for v := int32(1); int(v) < s.pool.size(); v++ {
			out = append(out, v)
		}
		return out
	}
	for _, i := range j.Packages {
		if v, ok := s.pool.varOf[i]; ok {
			out = append(out, v)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// addSystem turns the machine and its jobs into rules.
func (s *search) addSystem() {
	for i := range s.sys.Jobs {
		s.prepareJob(i, &s.sys.Jobs[i])
	}
	for _, v := range s.sys.list {
		s.sys.candidates[v] = s.updateCandidates(v)
	}
	s.findUnneeded()
	for _, v := range s.sys.list {
		s.addUpdateRule(v)
	}
	for i := range s.sys.Jobs {
		s.addSystemJob(&s.sys.Jobs[i])
	}
	for _, v := range s.sys.list {
		s.addUpdateJobs(v)
	}
	s.learnedFrom = len(s.rules)
}

// prepareJob notes what later steps need to know before there are rules.
func (s *search) prepareJob(n int, j *Job) {
	list := s.vars(j)
	switch j.Action {
	case Update, DistUpgrade:
		s.prepareUpdate(j, list)
	case Erase:
		for _, v := range list {
			s.sys.erased[v] = true
			if j.CleanDeps && s.sys.installed[v] {
				s.sys.cleaned[v] = true
			}
		}
	case Install:
		for _, v := range list {
			s.sys.mentioned[v] = true
			if j.CleanDeps {
				for _, o := range s.pool.names[s.pool.pkg(v).NEVRA.Name] {
					if s.sys.installed[o] && !slices.Contains(list, o) {
						s.sys.cleaned[o] = true
					}
				}
			}
		}
	case Lock:
		for _, v := range list {
			s.sys.held[v] = true
		}
	case Favor, Disfavor:
		rank := n + 1
		if j.Action == Disfavor {
			rank = -rank
		}
		for _, v := range list {
			s.sys.favored[v] = rank
		}
	case MultiVersion:
		for _, v := range list {
			s.pool.multi[s.pool.pkg(v).NEVRA.Name] = true
		}
	case ExcludeFromWeak:
		for _, v := range list {
			s.sys.weakless[v] = true
		}
	case UserInstalled:
		for _, v := range list {
			s.sys.wanted[v] = true
		}
	}
}

func (s *search) prepareUpdate(j *Job, list []int32) {
	any := slices.ContainsFunc(list, func(v int32) bool { return s.sys.installed[v] })
	targeted := j.Targeted || !any
	if targeted && !j.Targeted && s.sys.NoAutoTarget {
		return
	}
	mark := func(v, target int32) {
		u := s.sys.updates[v]
		if u == nil {
			u = &update{}
			s.sys.updates[v] = u
		}
		u.dup, u.best = u.dup || j.Action == DistUpgrade, u.best || j.Best
		if target > 0 {
			if u.only == nil {
				u.only = map[int32]bool{}
			}
			u.only[target] = true
		}
		if j.CleanDeps {
			s.sys.cleaned[v] = true
		}
	}
	for _, v := range list {
		if !targeted {
			if s.sys.installed[v] {
				mark(v, 0)
			}
			continue
		}
		if s.sys.installed[v] {
			continue
		}
		replaced := s.pool.names[s.pool.pkg(v).NEVRA.Name]
		for _, d := range s.pool.pkg(v).Obsoletes {
			replaced = slices.Concat(replaced, s.pool.obsoleted(d))
		}
		for _, o := range replaced {
			if s.sys.installed[o] && (s.pool.rivals(o, v) || s.pool.pkg(o).NEVRA.Name != s.pool.pkg(v).NEVRA.Name) {
				mark(o, v)
			}
		}
	}
}

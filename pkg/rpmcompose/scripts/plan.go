// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"cmp"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Phase groups the steps of an installation.
type Phase uint8

// The phases, in order. Accounts are made before PhasePre; owners, modes and
// capabilities are set between PhasePre and PhasePost.
const (
	PhasePreTrans Phase = iota + 1
	PhasePre
	PhasePost
	PhasePostTrans
	PhaseFileTriggers
	PhaseTransFileTriggers
)

// Step is one script to run.
type Step struct {
	Phase   Phase
	Package string // name of the package that ships the script
	NEVRA   string
	Kind    string // section in a spec file, without "%"
	Interp  []string
	Body    string
	Flags   rpm.ScriptFlags
	Args    []string // after the script: counts of installed instances
	Stdin   []string // paths for a file trigger, sorted
	// Skip, when not nil, is the rule because of which the step does not run.
	Skip *Rule
	// Tolerate, when not nil, is the rule because of which a failure is a warning.
	Tolerate *Rule

	from origin
}

// origin is where a step comes from: the package's place in the order, and of a
// trigger its place among those of the package, of a scriptlet its kind.
type origin struct {
	owner, trigger int // trigger -1: none
	kind           rpm.ScriptKind
}

// Name is "PACKAGE.KIND", as in log lines.
func (s *Step) Name() string { return s.Package + "." + s.Kind }

// Plan lists the scripts of an installation of packages into an empty tree, in
// the order in which they run; pkgs is in the order of installation. Scripts
// that a rule skips are listed too. It is a pure function.
func Plan(pkgs []*rpm.Package, filter importer.Filter, rules []Rule) []Step {
	p := &planner{rules: rules, filter: filter}
	for _, pkg := range pkgs {
		p.pkgs = append(p.pkgs, planned{pkg: pkg, nevra: pkg.NEVRA(), scripts: pkg.Scriptlets(), triggers: pkg.Triggers()})
	}
	p.scriptlets(PhasePreTrans, rpm.ScriptPreTrans)
	for i := range p.pkgs {
		p.packageTriggers(i, PhasePre, rpm.TriggerPreIn)
		p.scriptlet(i, PhasePre, rpm.ScriptPre)
	}
	for i := range p.pkgs {
		p.scriptlet(i, PhasePost, rpm.ScriptPost)
		p.packageTriggers(i, PhasePost, rpm.TriggerIn)
	}
	p.scriptlets(PhasePostTrans, rpm.ScriptPostTrans)
	p.fileTriggers(PhaseFileTriggers, rpm.FileTriggerIn)
	p.fileTriggers(PhaseTransFileTriggers, rpm.TransFileTriggerIn)
	return p.out
}

type planned struct {
	pkg      *rpm.Package
	nevra    rpm.NEVRA
	scripts  []rpm.Scriptlet
	triggers []rpm.Trigger
}

type planner struct {
	pkgs   []planned
	rules  []Rule
	filter importer.Filter
	paths  []string // of all packages, sorted; filled when first needed
	out    []Step
}

func (p *planner) scriptlets(phase Phase, kind rpm.ScriptKind) {
	for i := range p.pkgs {
		p.scriptlet(i, phase, kind)
	}
}

func (p *planner) scriptlet(i int, phase Phase, kind rpm.ScriptKind) {
	for _, s := range p.pkgs[i].scripts {
		if s.Kind != kind {
			continue
		}
		// %pretrans in another language would run on the host, in whatever state
		// it is; in Lua it looks at a tree, which is here complete already.
		if kind == rpm.ScriptPreTrans && !s.IsLua() {
			continue
		}
		p.emit(origin{i, -1, kind}, Step{Phase: phase, Kind: kind.String(), Interp: s.Interp, Body: s.Body, Flags: s.Flags, Args: []string{"1"}})
	}
}

// packageTriggers runs what the installation of package i sets off: triggers of
// the packages so far on i, and i's own triggers on the packages before it. The
// arguments are how many instances of owner and target are installed, of which
// the one that is about to come is not one.
func (p *planner) packageTriggers(i int, phase Phase, kind rpm.TriggerKind) {
	for owner := 0; owner <= i; owner++ {
		for n, t := range p.pkgs[owner].triggers {
			if t.Kind != kind {
				continue
			}
			first, last := i, i
			args := []string{"1", "1"}
			if kind == rpm.TriggerPreIn {
				args = []string{"1", "0"}
			}
			if owner == i {
				first = 0
				if kind == rpm.TriggerPreIn {
					last, args = i-1, []string{"0", "1"}
				}
			}
			for target := first; target <= last; target++ {
				if triggeredBy(t, p.pkgs[target]) {
					p.emit(origin{owner: owner, trigger: n}, Step{Phase: phase, Kind: t.Kind.String(), Interp: t.Interp, Body: t.Body, Flags: t.Flags, Args: args})
				}
			}
		}
	}
}

func triggeredBy(t rpm.Trigger, target planned) bool {
	provide := rpm.Dep{Name: target.nevra.Name, Flags: rpm.DepEqual, EVR: target.nevra.EVR}
	for _, c := range t.Conditions {
		if c.Name == provide.Name && c.Matches(provide) {
			return true
		}
	}
	return false
}

// fileTriggers runs every trigger once, with all matching paths of the tree, by
// falling priority and then in order of installation.
func (p *planner) fileTriggers(phase Phase, kind rpm.TriggerKind) {
	type candidate struct {
		from origin
		t    rpm.Trigger
	}
	var list []candidate
	for i := range p.pkgs {
		for n, t := range p.pkgs[i].triggers {
			if t.Kind == kind {
				list = append(list, candidate{origin{owner: i, trigger: n}, t})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return cmp.Compare(b.t.Priority, a.t.Priority) })
	for _, c := range list {
		paths := p.matching(c.t.Prefixes())
		if len(paths) == 0 {
			continue
		}
		p.emit(c.from, Step{Phase: phase, Kind: kind.String(), Interp: c.t.Interp, Body: c.t.Body, Flags: c.t.Flags,
			Args: []string{"1"}, Stdin: paths})
	}
}

func (p *planner) matching(prefixes []string) []string {
	if p.paths == nil {
		for _, pkg := range p.pkgs {
			files := pkg.pkg.Files()
			for i := range files {
				if w, err := importer.Place(&files[i], p.filter); err == nil && w.Kind == importer.InTree {
					p.paths = append(p.paths, files[i].Path)
				}
			}
		}
		slices.Sort(p.paths)
		p.paths = slices.Compact(p.paths)
	}
	var out []string
	for _, name := range p.paths {
		for _, prefix := range prefixes {
			if strings.HasPrefix(name, prefix) {
				out = append(out, name)
				break
			}
		}
	}
	return out
}

func (p *planner) emit(from origin, s Step) {
	s.from = from
	s.Package, s.NEVRA = p.pkgs[from.owner].nevra.Name, p.pkgs[from.owner].nevra.String()
	for j := range p.rules {
		r := &p.rules[j]
		if !r.matches(&s) {
			continue
		}
		switch r.Action {
		case Tolerate:
			s.Tolerate = r
		case Skip:
			s.Skip = r
		}
		break
	}
	p.out = append(p.out, s)
}

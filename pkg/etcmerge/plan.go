// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// Kind says how the live /etc differs from the old defaults at a path.
type Kind string

// The kinds of change.
const (
	Modified Kind = "modified"
	Removed  Kind = "removed" // a removed directory is one change, without its children
	Added    Kind = "added"
	// Parent is a directory that nobody changed locally but that the new defaults
	// lack or replace by something else, while a local change lives below it.
	Parent Kind = "parent"
	// Ignored is a socket, FIFO or device: it stays behind.
	Ignored Kind = "ignored"
)

// Op is what Apply does at a path.
type Op string

// The operations.
const (
	OpNone   Op = ""
	OpCopy   Op = "copy"   // copy the live file or link
	OpMkdir  Op = "mkdir"  // make the directory if missing, set the live attributes
	OpRemove Op = "remove" // delete what the new defaults have
)

// Conflict names how the new defaults collide with a local change. The local
// side wins in every case; a conflict says that something of the new defaults
// does not arrive.
type Conflict string

// The conflicts.
const (
	NoConflict   Conflict = ""
	BothModified Conflict = "both-modified"        // edited here, and the default changed
	BothAdded    Conflict = "both-added"           // added here and in the new defaults, not alike
	ChangedGone  Conflict = "modified-and-dropped" // edited here, and the default was dropped
	RemovedThere Conflict = "removed-and-changed"  // removed here, and the default changed
	TypeClash    Conflict = "file-and-directory"   // a directory on one side only
)

// Change is one step of a plan.
type Change struct {
	Path     string   `json:"path"` // relative to /etc
	Kind     Kind     `json:"kind"`
	Op       Op       `json:"op,omitempty"`
	Conflict Conflict `json:"conflict,omitempty"`
	Replaced bool     `json:"replaced,omitempty"` // the policy takes the new default
	Dest     string   `json:"dest,omitempty"`     // where the local side goes instead of Path
	Saved    string   `json:"saved,omitempty"`    // where the new default goes, for Path is local
}

// Plan computes the changes that turn the new defaults into the merged /etc
// under the zero Policy.
func Plan(base, current, next Snapshot) []Change { return Policy{}.Plan(base, current, next) }

// Plan computes the changes that turn the new defaults into the merged /etc, in
// the order to apply them: parents before children. It is a pure function of the
// policy and the three snapshots, which Hash has completed.
func (pol Policy) Plan(base, current, next Snapshot) []Change {
	p := planner{
		base: base, current: current, next: next, policy: pol,
		parents: map[string]bool{}, moved: map[string]string{}, saved: map[string]bool{},
	}
	for _, name := range p.names() {
		p.visit(name)
	}
	return p.changes
}

type planner struct {
	base, current, next Snapshot
	policy              Policy
	parents             map[string]bool   // directories that have their own change already
	moved               map[string]string // local names that go elsewhere, with all below
	saved               map[string]bool   // names that new defaults are saved as
	changes             []Change
}

// names lists the union of base and current, each directory before what it holds.
func (p *planner) names() []string {
	names := make([]string, 0, len(p.current)+8)
	for n := range p.current {
		names = append(names, n)
	}
	for n := range p.base {
		if _, ok := p.current[n]; !ok {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, comparePaths)
	return names
}

// comparePaths orders component by component, so that "a/b" precedes "a-c".
func comparePaths(a, b string) int {
	for {
		ah, at, aok := strings.Cut(a, "/")
		bh, bt, bok := strings.Cut(b, "/")
		if ah != bh || !aok || !bok {
			if ah == bh {
				return cmp.Compare(len(a), len(b))
			}
			return strings.Compare(ah, bh)
		}
		a, b = at, bt
	}
}

func (p *planner) visit(name string) {
	b, c, n := p.base[name], p.current[name], p.next[name]
	switch {
	case c.Kind == Special:
		p.changes = append(p.changes, Change{Path: name, Kind: Ignored})
	case c.Kind == Absent:
		p.visitRemoved(name, b, n)
	case p.saved[name]:
		// The default that an earlier merge saved here gives way to a newer one.
	case b.Kind == Absent:
		p.add(name, Added, c, p.addedConflict(c, n))
	case !same(b, c):
		p.add(name, Modified, c, modifiedConflict(b, c, n))
	}
}

func (p *planner) visitRemoved(name string, b, n Node) {
	// Below a directory that is gone, or is no directory any more, the change of
	// that directory says everything.
	if dir := path.Dir(name); dir != "." && p.current[dir].Kind != Dir {
		return
	}
	c := Change{Path: name, Kind: Removed}
	if n.Kind != Absent {
		c.Op = OpRemove
		if !same(b, n) || p.differsBelow(name) {
			c.Conflict = RemovedThere
		}
		if (b.Kind == Dir) != (n.Kind == Dir) {
			c.Conflict = TypeClash
		}
		if c.Conflict != NoConflict && p.policy.replaces(name) {
			c.Op, c.Replaced = OpNone, true
		}
	}
	p.changes = append(p.changes, c)
}

// differsBelow reports whether the defaults changed anywhere below a directory.
func (p *planner) differsBelow(dir string) bool {
	prefix := dir + "/"
	for name, n := range p.next {
		if strings.HasPrefix(name, prefix) && !same(p.base[name], n) {
			return true
		}
	}
	for name := range p.base {
		if strings.HasPrefix(name, prefix) && p.next[name].Kind == Absent {
			return true
		}
	}
	return false
}

func (p *planner) addedConflict(c, n Node) Conflict {
	switch {
	case n.Kind == Absent || same(c, n):
		return NoConflict
	case (c.Kind == Dir) != (n.Kind == Dir):
		return TypeClash
	}
	return BothAdded
}

func modifiedConflict(b, c, n Node) Conflict {
	switch {
	case same(b, n) || same(c, n):
		return NoConflict
	case n.Kind == Absent:
		return ChangedGone
	case (c.Kind == Dir) != (n.Kind == Dir):
		return TypeClash
	}
	return BothModified
}

func (p *planner) add(name string, kind Kind, c Node, conflict Conflict) {
	p.ensureParents(name)
	ch := Change{Path: name, Kind: kind, Op: OpCopy, Conflict: conflict}
	if c.Kind == Dir {
		ch.Op = OpMkdir
		p.parents[name] = true
	}
	p.settle(&ch, c)
	p.changes = append(p.changes, ch)
}

// ensureParents adds a change for each directory above name that the new
// defaults do not have as a directory and that no other change makes.
func (p *planner) ensureParents(name string) {
	dir := path.Dir(name)
	if dir == "." || p.parents[dir] || p.next[dir].Kind == Dir {
		return
	}
	p.ensureParents(dir)
	p.parents[dir] = true
	c := Change{Path: dir, Kind: Parent, Op: OpMkdir}
	if p.next[dir].Kind != Absent {
		c.Conflict = TypeClash
	}
	p.settle(&c, p.current[dir])
	p.changes = append(p.changes, c)
}

// Conflicts returns the changes whose conflict is not settled by the policy: the
// local side wins there.
func Conflicts(changes []Change) []Change {
	var out []Change
	for _, c := range changes {
		if c.Conflict != NoConflict && !c.Replaced {
			out = append(out, c)
		}
	}
	return out
}

// Counts sums up a plan.
type Counts struct {
	Modified  int `json:"modified"`
	Removed   int `json:"removed"`
	Added     int `json:"added"`
	Ignored   int `json:"ignored,omitempty"`
	Conflicts int `json:"conflicts,omitempty"`
}

// Count sums up changes.
func Count(changes []Change) Counts {
	var n Counts
	for _, c := range changes {
		switch c.Kind {
		case Modified:
			n.Modified++
		case Removed:
			n.Removed++
		case Added:
			n.Added++
		case Ignored:
			n.Ignored++
		}
		if c.Conflict != NoConflict && !c.Replaced {
			n.Conflicts++
		}
	}
	return n
}

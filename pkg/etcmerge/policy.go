// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// The endings of names that a merge makes, as rpm does: what reads a directory
// of snippets knows to pass over them.
const (
	newSuffix  = ".rpmnew"  // the new default, where the local file stays
	saveSuffix = ".rpmsave" // the local file, where the new default is taken
)

// Policy says what becomes of conflicts. With the zero value the local side wins
// and the new default is dropped, as libostree does it.
type Policy struct {
	// SaveNew keeps the new default of a file or link beside the local one, as
	// NAME.rpmnew. One that an earlier merge saved is replaced; one that was
	// edited since is not.
	SaveNew bool `json:"saveNew"`
	// Replace lists paths relative to /etc, each standing for all below it, where
	// the new default is taken. The local side stays beside it as NAME.rpmsave.
	Replace []string `json:"replace,omitempty"`
}

// Compare scans the three trees and plans their merge: base holds the old
// defaults, current the live /etc, next the new defaults.
func (pol Policy) Compare(ctx context.Context, base, current, next *fsx.Dir) ([]Change, error) {
	dirs := []*fsx.Dir{base, current, next}
	trees := make([]Tree, len(dirs))
	for i, d := range dirs {
		s, err := Scan(ctx, d)
		if err != nil {
			return nil, err
		}
		trees[i] = Tree{Dir: d, Snapshot: s}
	}
	if err := Hash(ctx, trees...); err != nil {
		return nil, err
	}
	return pol.Plan(trees[0].Snapshot, trees[1].Snapshot, trees[2].Snapshot), nil
}

func (pol Policy) replaces(name string) bool {
	return slices.ContainsFunc(pol.Replace, func(r string) bool {
		r = path.Clean(strings.TrimPrefix(r, "/"))
		return r == "." || within(name, r)
	})
}

// within reports whether a name is a path or below it.
func within(name, at string) bool { return name == at || strings.HasPrefix(name, at+"/") }

// settle completes a change whose local side, of node c, would win.
func (p *planner) settle(ch *Change, c Node) {
	if dest, ok := p.movedTo(ch.Path); ok {
		ch.Dest, ch.Conflict, ch.Replaced = dest, NoConflict, true
		return
	}
	if ch.Conflict == NoConflict {
		return
	}
	n := p.next[ch.Path]
	if !p.policy.replaces(ch.Path) {
		p.saveNew(ch, n)
		return
	}
	ch.Replaced = true
	if c.Kind == Dir && n.Kind == Dir {
		ch.Op = OpNone // attributes alone; what is below is judged by itself
		return
	}
	ch.Dest = p.free(ch.Path + saveSuffix)
	p.moved[ch.Path] = ch.Dest
}

// movedTo finds where a name goes if a directory above it is moved.
func (p *planner) movedTo(name string) (string, bool) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if to, ok := p.moved[dir]; ok {
			return to + strings.TrimPrefix(name, dir), true
		}
	}
	return "", false
}

// saveNew plans to keep the new default n beside the local name, unless that
// would take the place of something.
func (p *planner) saveNew(ch *Change, n Node) {
	to := ch.Path + newSuffix
	if !p.policy.SaveNew || n.Kind != File && n.Kind != Link || p.next[to].Kind != Absent || p.base[to].Kind != Absent {
		return
	}
	if there := p.current[to]; there.Kind != Absent && !same(there, p.base[ch.Path]) && !same(there, n) {
		return
	}
	ch.Saved = to
	p.saved[to] = true
}

// free finds a name that no tree has.
func (p *planner) free(name string) string {
	taken := func(s string) bool {
		return p.base[s].Kind != Absent || p.current[s].Kind != Absent || p.next[s].Kind != Absent
	}
	try := name
	for i := 1; taken(try); i++ {
		try = name + "." + strconv.Itoa(i)
	}
	return try
}

// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"runtime"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// addOnly is the package whose files give way to those of every other one: its
// account files are defaults.
const addOnly = "setup"

// entry is one path of one package.
type entry struct {
	path  string // in the package's commit
	layer int
	file  *rpm.File // nil for what the import made itself
	index int       // of file in Files; -1 where there is none
	dir   bool
	sum   ostree.Checksum // of a file's content, or of a directory's metadata
	late  bool
}

// node is one path of the union.
type node struct {
	entry
	children map[string]*node // of a directory
}

type union struct {
	repo      *ostree.Repo
	o         Options
	layers    []Layer
	names     []string
	links     links
	root      *node
	conflicts []Conflict
	states    [][]rpm.FileState
	count     int
}

// topLinks are what a tree has at its top where no package says otherwise.
var topLinks = []string{"bin", "sbin", "lib", "lib64"}

func newUnion(ctx context.Context, repo *ostree.Repo, layers []Layer, o Options) (*union, error) {
	u := &union{repo: repo, o: o, layers: layers, root: &node{entry: entry{dir: true, index: -1, layer: -1}, children: map[string]*node{}}}
	for _, l := range layers {
		u.names = append(u.names, l.Package.NEVRA().String())
	}
	all, err := u.loadAll(ctx)
	if err != nil {
		return nil, err
	}
	u.collectLinks(all)
	for _, list := range all {
		for i := range list {
			if err := u.add(&list[i]); err != nil {
				return nil, fmt.Errorf("%s: /%s: %w", u.names[list[i].layer], list[i].path, err)
			}
		}
	}
	if len(u.conflicts) > 0 {
		return nil, &ConflictError{u.conflicts}
	}
	return u, nil
}

// loadAll lists the paths of all packages, several at a time.
func (u *union) loadAll(ctx context.Context) ([][]entry, error) {
	all := make([][]entry, len(u.layers))
	u.states = make([][]rpm.FileState, len(u.layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range u.layers {
		g.Go(func() (err error) {
			if err = ctx.Err(); err != nil {
				return err
			}
			if all[i], err = u.load(i); err != nil {
				return fmt.Errorf("load %s: %w", u.names[i], err)
			}
			return nil
		})
	}
	return all, g.Wait()
}

// load lists a package's paths from its commit, with what its header says.
func (u *union) load(layer int) ([]entry, error) {
	pkg := u.layers[layer].Package
	files := pkg.Files()
	states := make([]rpm.FileState, len(files))
	byPath := map[string]int{}
	for i := range files {
		p, err := importer.Place(&files[i], u.o.Filter)
		if err != nil {
			return nil, err
		}
		switch {
		case p.Kind == importer.InTree:
			byPath[p.Path] = i
		case p.Kind == importer.Dropped && !files[i].IsGhost() && !files[i].IsDir():
			states[i] = rpm.StateNotInstalled
		}
	}
	u.states[layer] = states
	commit, err := u.repo.LoadCommit(u.layers[layer].Commit)
	if err != nil {
		return nil, err
	}
	w := &walker{repo: u.repo, layer: layer, files: files, byPath: byPath}
	if err := w.dir(commit.RootTree, ""); err != nil {
		return nil, err
	}
	return w.out, nil
}

type walker struct {
	repo   *ostree.Repo
	layer  int
	files  []rpm.File
	byPath map[string]int
	out    []entry
}

func (w *walker) dir(tree ostree.Checksum, prefix string) error {
	t, err := w.repo.LoadDirTree(tree)
	if err != nil {
		return err
	}
	for _, d := range t.Dirs {
		p := path.Join(prefix, d.Name)
		w.emit(p, true, d.Meta)
		if err := w.dir(d.Tree, p); err != nil {
			return err
		}
	}
	for _, f := range t.Files {
		w.emit(path.Join(prefix, f.Name), false, f.Checksum)
	}
	return nil
}

func (w *walker) emit(p string, dir bool, sum ostree.Checksum) {
	e := entry{path: p, layer: w.layer, index: -1, dir: dir, sum: sum}
	if i, ok := w.byPath[p]; ok {
		f := &w.files[i]
		e.file, e.index = f, i
		e.late = !rootOwned(f)
	}
	w.out = append(w.out, e)
}

func rootOwned(f *rpm.File) bool {
	p, err := importer.Place(f, importer.Filter{})
	return err == nil && !p.Late
}

// collectLinks finds every symbolic link of every package, before any path is
// placed: whether /lib is a link must not depend on the order of packages.
func (u *union) collectLinks(all [][]entry) {
	u.links = links{targets: map[string]string{"etc": "usr/etc"}, cache: map[string]string{}}
	needed := map[string]bool{}
	for _, list := range all {
		for i := range list {
			e := &list[i]
			top, _, below := strings.Cut(e.path, "/")
			if slices.Contains(topLinks, top) && (below || e.dir) {
				needed[top] = true
			}
			if e.file != nil && e.file.IsSymlink() {
				u.links.targets[e.path] = e.file.Link
			}
		}
	}
	for top := range needed {
		if _, ok := u.links.targets[top]; !ok {
			u.links.targets[top] = "usr/" + top
		}
	}
}

// add places one entry.
func (u *union) add(e *entry) error {
	where := e.path
	var err error
	if e.dir {
		where, err = u.links.resolve(e.path)
	} else {
		var parent string
		if parent, err = u.links.resolve(path.Dir(e.path)); err == nil {
			where = path.Join(parent, path.Base(e.path))
		}
	}
	if err != nil {
		return err
	}
	if top, _, _ := strings.Cut(where, "/"); where != e.path && top != "usr" && top != "boot" {
		return fmt.Errorf("a link leads to /%s, which is not part of a tree", where)
	}
	parent, err := u.parent(where, e)
	if err != nil || parent == nil {
		return err
	}
	base := path.Base(where)
	old := parent.children[base]
	if old == nil {
		n := &node{entry: *e}
		n.path = where
		if e.dir {
			n.children = map[string]*node{}
		} else {
			u.count++
		}
		parent.children[base] = n
		return nil
	}
	u.merge(old, e, where)
	return nil
}

// parent finds or makes the directory that holds a path. It is nil where a file
// is in the way, which is then recorded as a conflict.
func (u *union) parent(where string, e *entry) (*node, error) {
	n := u.root
	dir := path.Dir(where)
	if dir == "." {
		return n, nil
	}
	done := ""
	for part := range strings.SplitSeq(dir, "/") {
		done = path.Join(done, part)
		next := n.children[part]
		if next == nil {
			next = &node{entry: entry{path: done, dir: true, index: -1, layer: e.layer}, children: map[string]*node{}}
			n.children[part] = next
		}
		if !next.dir {
			u.conflict(next, e, done, "is a file in one and a directory in the other")
			return nil, nil
		}
		n = next
	}
	return n, nil
}

// merge decides about a path that is taken.
func (u *union) merge(old *node, e *entry, where string) {
	if old.dir && e.dir {
		// What a package says about a directory beats what an import assumed, and
		// the later package beats the earlier one, as in rpm.
		if e.file != nil || old.sum.IsZero() {
			old.entry, old.path = *e, where
		}
		return
	}
	if old.dir != e.dir {
		u.conflict(old, e, where, "is a file in one and a directory in the other")
		return
	}
	if old.sum == e.sum && sameOwner(old.file, e.file) {
		return
	}
	replace := func() {
		u.lost(old)
		old.entry, old.path = *e, where
	}
	if e.file == nil || old.file == nil {
		u.conflict(old, e, where, "is made by the import of one")
		return
	}
	switch a, b := old.file.Color, e.file.Color; {
	case a != 0 && b != 0 && a != b && b == u.o.PreferColor:
		replace()
	case a != 0 && b != 0 && a != b && a == u.o.PreferColor:
		u.states[e.layer][e.index] = rpm.StateWrongColor
	case u.layers[old.layer].Package.Name() == addOnly:
		replace()
	case u.layers[e.layer].Package.Name() == addOnly:
	case slices.Contains(u.o.AllowConflicts, where):
		u.o.Logger.Warn("the later package's file wins", "path", where, "package", u.names[e.layer], "loses", u.names[old.layer])
		replace()
	default:
		u.conflict(old, e, where, difference(old, e))
	}
}

func (u *union) lost(n *node) {
	if n.index >= 0 {
		u.states[n.layer][n.index] = rpm.StateWrongColor
	}
}

func difference(old *node, e *entry) string {
	if old.sum != e.sum {
		return "contents or modes differ"
	}
	return "owners or capabilities differ"
}

func sameOwner(a, b *rpm.File) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.User == b.User && a.Group == b.Group && a.Caps == b.Caps && (a.IsSymlink() || a.Mode == b.Mode)
}

func (u *union) conflict(old *node, e *entry, where, reason string) {
	u.conflicts = append(u.conflicts, Conflict{Path: "/" + systemPath(where), A: u.name(old.layer), B: u.name(e.layer), Reason: reason})
}

func (u *union) name(layer int) string {
	if layer < 0 {
		return "the tree itself"
	}
	return u.names[layer]
}

// systemPath is the path after boot.
func systemPath(p string) string {
	if rest, ok := strings.CutPrefix(p, "usr/etc/"); ok {
		return "etc/" + rest
	}
	return p
}

// walk visits the union in byte order of names, parents first.
func (u *union) walk(fn func(*node)) { walkNode(u.root, fn) }

func walkNode(n *node, fn func(*node)) {
	for _, name := range sortedNames(n) {
		c := n.children[name]
		fn(c)
		if c.dir {
			walkNode(c, fn)
		}
	}
}

func sortedNames(n *node) []string {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func (u *union) owned() map[string][]string {
	out := map[string][]string{}
	u.walk(func(n *node) {
		if !n.dir && n.layer >= 0 {
			name := u.layers[n.layer].Package.Name()
			out[name] = append(out[name], n.path)
		}
	})
	return out
}

func (u *union) contents() []ostree.Checksum {
	type object struct {
		sum  ostree.Checksum
		size int64
	}
	var list []object
	met := map[ostree.Checksum]bool{}
	u.walk(func(n *node) {
		if n.dir || n.file == nil || n.late || met[n.sum] {
			return
		}
		met[n.sum] = true
		list = append(list, object{n.sum, n.file.Size})
	})
	slices.SortStableFunc(list, func(a, b object) int { return cmp.Compare(b.size, a.size) })
	out := make([]ostree.Checksum, len(list))
	for i, o := range list {
		out[i] = o.sum
	}
	return out
}

func (u *union) owners() []Owner {
	var out []Owner
	u.walk(func(n *node) {
		if n.file == nil || !n.late {
			return
		}
		out = append(out, Owner{Path: n.path, Package: u.layers[n.layer].Package.Name(), User: n.file.User, Group: n.file.Group,
			Mode: n.file.Mode, Caps: n.file.Caps})
	})
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out
}

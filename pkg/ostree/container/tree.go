// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// Contents says which files belong together; the zero value knows nothing.
type Contents struct {
	Components []Component
	// Owner gives the component of a file, as an index into Components. Keys are
	// paths in the commit, such as /usr/bin/sh.
	Owner map[string]int
}

// Component is a part of a tree whose files change together: as a rule the packages
// that are built from one source.
type Component struct {
	// Name is the same from one version to the next.
	Name string
	// Packages are listed in the layer's annotation.
	Packages []string
	// Often marks what changes with most versions.
	Often bool
}

// Components of a tree that no package owns. The names are rpm-ostree's.
const (
	initramfsName  = "initramfs"
	unpackagedName = "rpmostree-unpackaged-content"
)

// object is a file object with the paths at which the image shows it.
type object struct {
	sum   ostree.Checksum
	size  int64
	paths []string // in the image, without leading slash
	owner int      // into units
	first string   // a path in the commit, to sort by
}

// tree is what the layers of a commit are made from.
type tree struct {
	repo    *ostree.Repo
	commit  ostree.Checksum
	obj     ostree.Commit
	dirs    []ostree.Node // in the order of the walk, the top first
	metas   map[ostree.Checksum]ostree.DirMeta
	byPath  map[string]ostree.Checksum // image path of a directory -> dirmeta
	objects []*object
	units   []unit
	skipped []string // files that an image cannot show
}

// unit is a component with what the commit has of it.
type unit struct {
	Component
	size    int64
	objects []*object
	pinned  bool // has a layer of its own, whatever its size
}

const (
	unknownOwner = -1
	sharedOwner  = -2
)

func scan(ctx context.Context, r *ostree.Repo, commit ostree.Checksum, c Contents) (*tree, error) {
	t := &tree{repo: r, commit: commit, metas: map[ostree.Checksum]ostree.DirMeta{}, byPath: map[string]ostree.Checksum{}}
	var err error
	if t.obj, err = r.LoadCommit(commit); err != nil {
		return nil, err
	}
	if err := checkEtc(r, commit); err != nil {
		return nil, err
	}
	for _, k := range c.Components {
		t.units = append(t.units, unit{Component: k})
	}
	initramfs, rest := len(t.units), len(t.units)+1
	t.units = append(t.units, unit{Component: Component{Name: initramfsName, Packages: []string{initramfsName}}, pinned: true},
		unit{Component: Component{Name: unpackagedName, Packages: []string{unpackagedName}, Often: true}, pinned: true})
	known := map[ostree.Checksum]*object{}
	err = r.Walk(ctx, commit, func(n ostree.Node) error {
		if n.IsDir {
			return t.addDir(n)
		}
		o := known[n.File]
		if o == nil {
			o = &object{sum: n.File, first: n.Path, owner: unknownOwner}
			known[n.File] = o
			t.objects = append(t.objects, o)
		}
		owner, ok := c.Owner[n.Path]
		switch {
		case isInitramfs(n.Path):
			o.owner = initramfs
		case !ok || o.owner == initramfs:
		case o.owner == unknownOwner:
			o.owner = owner
		case o.owner != owner:
			o.owner = sharedOwner
		}
		p := imagePath(n.Path)
		if hidden(p) {
			t.skipped = append(t.skipped, n.Path)
			return nil
		}
		o.paths = append(o.paths, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, t.assign(rest)
}

func (t *tree) addDir(n ostree.Node) error {
	if _, ok := t.metas[n.Meta]; !ok {
		m, err := t.repo.LoadDirMeta(n.Meta)
		if err != nil {
			return err
		}
		t.metas[n.Meta] = m
	}
	t.dirs = append(t.dirs, n)
	t.byPath[imagePath(n.Path)] = n.Meta
	return nil
}

// checkEtc refuses a tree whose /etc and /usr/etc would meet in the image.
func checkEtc(r *ostree.Repo, commit ostree.Checksum) error {
	for _, p := range []string{"/etc", "/usr/etc"} {
		_, err := r.Lookup(commit, p)
		if errors.Is(err, ostree.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: commit %s has both /etc and /usr/etc; an image has one", ostree.ErrInvalid, commit)
}

// assign gives every object its unit. A file that several components share changes
// with each of them: it goes to the rest, so that it moves no layer of theirs.
func (t *tree) assign(rest int) error {
	for _, o := range t.objects {
		info, err := t.repo.Info(ostree.Node{Path: o.first, File: o.sum})
		if err != nil {
			return err
		}
		o.size = info.Size
		if o.owner < 0 {
			o.owner = rest
		}
		u := &t.units[o.owner]
		u.objects = append(u.objects, o)
		u.size += o.size
	}
	t.units = slices.DeleteFunc(t.units, func(u unit) bool { return len(u.objects) == 0 })
	return nil
}

func isInitramfs(p string) bool {
	ok, _ := path.Match("/usr/lib/modules/*/initramfs.img", p)
	return ok
}

// imagePath is where an image shows a path of a commit: /usr/etc is at /etc.
func imagePath(p string) string {
	p = strings.TrimPrefix(p, "/")
	if rest, ok := strings.CutPrefix(p, "usr/etc"); ok && (rest == "" || rest[0] == '/') {
		return "etc" + rest
	}
	return p
}

// hidden tells what has no place in an image: sysroot is the repository, and a name
// with this prefix removes a file of the layers below.
func hidden(p string) bool {
	return strings.HasPrefix(p, "sysroot/") || strings.HasPrefix(p, ".wh.") || strings.Contains(p, "/.wh.")
}

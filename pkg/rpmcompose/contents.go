// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/container"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// ImageContents tells which files of a commit belong to which packages. Packages that
// were built from one source are one component: they change together.
func ImageContents(ctx context.Context, r *ostree.Repo, commit ostree.Checksum, pkgs []*rpm.Package) (container.Contents, error) {
	p, err := newPlaces(ctx, r, commit)
	if err != nil {
		return container.Contents{}, err
	}
	pkgs = slices.SortedFunc(slices.Values(pkgs), func(a, b *rpm.Package) int {
		return cmp.Or(cmp.Compare(sourceName(a), sourceName(b)), rpm.CompareNEVRA(a.NEVRA(), b.NEVRA()))
	})
	c := container.Contents{Owner: map[string]int{}}
	for _, pkg := range pkgs {
		name := sourceName(pkg)
		at := len(c.Components) - 1
		if at < 0 || c.Components[at].Name != name {
			c.Components = append(c.Components, container.Component{Name: name})
			at++
		}
		k := &c.Components[at]
		k.Packages = append(k.Packages, pkg.Name())
		k.Often = k.Often || changesOften(pkg)
		for _, f := range pkg.Files() {
			if f.IsDir() {
				continue
			}
			where, err := p.find(f.Path)
			if err != nil {
				return container.Contents{}, err
			}
			if _, taken := c.Owner[where]; !taken {
				c.Owner[where] = at
			}
		}
	}
	return c, nil
}

// sourceName is the name of the source package, or of the package itself.
func sourceName(p *rpm.Package) string {
	n, err := rpm.ParseNEVRA(strings.TrimSuffix(p.SourceRPM(), ".rpm"))
	if err != nil || n.Name == "" {
		return p.Name()
	}
	return n.Name
}

const (
	changesPeriod = 365 * 24 * time.Hour
	manyChanges   = 5 // in the period
)

// changesOften judges by the changelog, up to its last entry: the day does not matter.
func changesOften(p *rpm.Package) bool {
	var last time.Time
	log := p.ChangeLog()
	for _, e := range log {
		if e.Time.After(last) {
			last = e.Time
		}
	}
	n := 0
	for _, e := range log {
		if last.Sub(e.Time) < changesPeriod {
			n++
		}
	}
	return n >= manyChanges
}

// places finds where a tree has what packages call otherwise.
type places struct {
	r      *ostree.Repo
	commit ostree.Checksum
	dirs   map[string]bool
	found  map[string]string // directory of a package -> of the commit
}

func newPlaces(ctx context.Context, r *ostree.Repo, commit ostree.Checksum) (*places, error) {
	p := &places{r: r, commit: commit, dirs: map[string]bool{}, found: map[string]string{}}
	err := r.Walk(ctx, commit, func(n ostree.Node) error {
		if n.IsDir {
			p.dirs[n.Path] = true
		}
		return nil
	})
	return p, err
}

// find gives the path in the commit of a package's file.
func (p *places) find(name string) (string, error) {
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	if version, ok := strings.CutPrefix(base, "vmlinuz-"); ok && dir == "/boot" {
		return "/usr/lib/modules/" + version + "/vmlinuz", nil
	}
	where, ok := p.found[dir]
	if !ok {
		var err error
		if where, err = p.directory(dir); err != nil {
			return "", err
		}
		p.found[dir] = where
	}
	return path.Join(where, base), nil
}

// moved are directories that a compose puts elsewhere.
var moved = [][2]string{{"/etc", "/usr/etc"}, {"/opt", "/usr/lib/opt"}, {"/boot", "/usr/lib/ostree-boot"}}

// directory follows the links of the tree; a directory that it lacks stays as it is.
func (p *places) directory(dir string) (string, error) {
	for _, m := range moved {
		if rest, ok := strings.CutPrefix(dir, m[0]); ok && (rest == "" || rest[0] == '/') {
			dir = m[1] + rest
		}
	}
	if p.dirs[dir] || dir == "/" {
		return dir, nil
	}
	parent, err := p.directory(path.Dir(dir))
	if err != nil {
		return "", err
	}
	whole := path.Join(parent, path.Base(dir))
	if p.dirs[whole] {
		return whole, nil
	}
	info, err := p.r.LookupFollow(p.commit, whole)
	if errors.Is(err, ostree.ErrNotFound) || errors.Is(err, ostree.ErrLinkLoop) {
		return whole, nil
	}
	return info.Path, err
}

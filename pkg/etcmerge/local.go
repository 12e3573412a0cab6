// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// Local lists how the live /etc differs from its own defaults.
func Local(ctx context.Context, defaults, current *fsx.Dir) ([]Change, error) {
	return Compare(ctx, defaults, current, defaults)
}

// Reset puts the default of each name, with all below it, in the place of the
// local version, which stays beside it as NAME.rpmsave. A name that does not differ
// from its default is left alone, as is one below another of the list. Bad names,
// and ones that neither tree has, are found before anything changes; an error later
// comes with what was done until then. Every name exists at every moment if it did
// before; after a crash a directory .reset-NAME-RANDOM may be left.
func Reset(ctx context.Context, defaults, current *fsx.Dir, names []string) ([]ResetResult, error) {
	changes, err := Local(ctx, defaults, current)
	if err != nil {
		return nil, err
	}
	list := make([]ResetResult, len(names))
	for i, name := range names {
		if list[i], err = planReset(changes, defaults, name); err != nil {
			return nil, err
		}
	}
	for i := range list {
		r := &list[i]
		above := func(o ResetResult) bool { return within(r.Path, o.Path) }
		if !r.Changed || slices.ContainsFunc(list[:i], above) {
			continue
		}
		if r.Saved, err = reset(ctx, defaults, current, r.Path); err != nil {
			return list[:i], fmt.Errorf("reset %s: %w", r.Path, err)
		}
	}
	return list, nil
}

// ResetResult tells what Reset did with one name.
type ResetResult struct {
	Path    string // relative to /etc
	Changed bool   // it was not the default
	Saved   string // where the local version is; "" if there was none, or a name above says it
}

func planReset(changes []Change, defaults *fsx.Dir, name string) (ResetResult, error) {
	r := ResetResult{Path: path.Clean(strings.TrimPrefix(name, "/"))}
	if r.Path == "." || !fs.ValidPath(r.Path) {
		return r, fmt.Errorf("reset %q: name a file or directory below /etc", name)
	}
	if r.Changed = touches(changes, r.Path); r.Changed {
		return r, nil
	}
	ok, err := defaults.Exists(r.Path)
	if err == nil && !ok {
		err = fmt.Errorf("reset %s: %w: neither a default nor a local file", r.Path, fs.ErrNotExist)
	}
	return r, err
}

// touches reports whether a change is at a name, below it or, as its removal, above it.
func touches(changes []Change, name string) bool {
	for _, c := range changes {
		if within(c.Path, name) || c.Kind == Removed && within(name, c.Path) {
			return true
		}
	}
	return false
}

func reset(ctx context.Context, defaults, current *fsx.Dir, name string) (saved string, err error) {
	work, err := current.Mkdtemp(path.Join(path.Dir(name), ".reset-"+path.Base(name)+"-"))
	if gone(err) {
		return "", fmt.Errorf("its directory was removed, reset that instead: %w", err)
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, current.RemoveAll(work)) }()
	fresh := work + "/new"
	isDefault, err := copyDefault(ctx, defaults, current, name, fresh)
	if err != nil {
		return "", err
	}
	if err := current.Syncfs(); err != nil {
		return "", err
	}
	isLocal, err := current.Exists(name)
	switch {
	case err != nil:
		return "", err
	case isDefault && !isLocal:
		return "", current.Rename(fresh, current, name)
	case isDefault:
		if err := current.Exchange(fresh, current, name); err != nil {
			return "", err
		}
		return keepAs(current, fresh, name+saveSuffix)
	}
	return keepAs(current, name, name+saveSuffix)
}

// copyDefault copies a name of the defaults, if it is there, to dest.
func copyDefault(ctx context.Context, defaults, current *fsx.Dir, name, dest string) (found bool, err error) {
	n, err := readNode(defaults, name)
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s := Snapshot{name: n}
	if n.Kind == Dir {
		if err := s.scanBelow(ctx, defaults, name, name); err != nil {
			return false, err
		}
	}
	cp := copier{current: defaults, target: current, freshTimes: true}
	for _, c := range Plan(nil, s, nil) {
		if !within(c.Path, name) {
			continue // the directories above
		}
		c.Dest = dest + strings.TrimPrefix(c.Path, name)
		if err := cp.apply(c); err != nil {
			return false, err
		}
	}
	return true, nil
}

// keepAs renames to the wanted name or, if it is taken, that with a number.
func keepAs(d *fsx.Dir, name, want string) (string, error) {
	try := want
	for i := 1; ; i++ {
		err := d.RenameNoReplace(name, d, try)
		if !errors.Is(err, fs.ErrExist) {
			return try, err
		}
		try = want + "." + strconv.Itoa(i)
	}
}

// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/hostctl/hostctl/internal/fsx"
)

// maxDiff bounds the files that Diff compares line by line, in bytes.
const maxDiff = 1 << 20

// Local lists how the live /etc differs from its own defaults.
func Local(ctx context.Context, defaults, current *fsx.Dir) ([]Change, error) {
	return Compare(ctx, defaults, current, defaults)
}

// Diff describes how a name of tree b differs from that of tree a: a unified
// diff for text, a line for everything else, nothing if type and content are the
// same. The labels stand for the trees. Owners and modes are not compared.
func Diff(a, b *fsx.Dir, name, aLabel, bLabel string) (string, error) {
	x, err := describe(a, name)
	if err != nil {
		return "", err
	}
	y, err := describe(b, name)
	if err != nil {
		return "", err
	}
	from, to := path.Join(aLabel, name), path.Join(bLabel, name)
	switch {
	case x == y:
		return "", nil
	case x.text && y.text:
		return udiff.Unified(x.label(from), y.label(to), x.content, y.content), nil
	case x.what != y.what:
		return fmt.Sprintf("%s is %s, %s is %s\n", from, x.what, to, y.what), nil
	}
	return fmt.Sprintf("Binary files %s and %s differ\n", from, to), nil
}

// thing is a name as Diff compares it.
type thing struct {
	what    string // "a file", "absent" …
	content string
	text    bool // fit for a diff of lines; an absent name is an empty text
}

// label names the side of a unified diff, as diff -N does.
func (t thing) label(name string) string {
	if t.what == "absent" {
		return "/dev/null"
	}
	return name
}

func describe(d *fsx.Dir, name string) (thing, error) {
	st, err := d.Lstat(name)
	switch {
	case gone(err):
		return thing{what: "absent", text: true}, nil
	case err != nil:
		return thing{}, err
	case st.IsSymlink():
		to, err := d.Readlink(name)
		return thing{what: "a link to " + to}, err
	case st.IsDir():
		return thing{what: "a directory"}, nil
	case !st.IsRegular():
		return thing{what: "a special file"}, nil
	case st.Size > maxDiff:
		sum, err := digest(d, name)
		return thing{what: "a file", content: string(sum[:])}, err
	}
	data, err := d.ReadFile(name, maxDiff)
	return thing{what: "a file", content: string(data), text: !bytes.ContainsRune(data, 0)}, err
}

// Reset puts the default of a name, with all below it, in the place of the local
// version, which stays beside it as NAME.rpmsave: saved is that name, empty if
// there was no local version. If nothing differs from the default, nothing is done
// and changed is false. The name exists at every moment if it did before; after a
// crash a directory .reset-NAME-RANDOM may be left.
func Reset(ctx context.Context, defaults, current *fsx.Dir, name string) (saved string, changed bool, err error) {
	name = path.Clean(strings.TrimPrefix(name, "/"))
	if name == "." || !fs.ValidPath(name) {
		return "", false, fmt.Errorf("reset %q: name a file or directory below /etc", name)
	}
	changes, err := Local(ctx, defaults, current)
	if err != nil {
		return "", false, err
	}
	if !touches(changes, name) {
		ok, err := defaults.Exists(name)
		if err == nil && !ok {
			err = fmt.Errorf("reset %s: %w: neither a default nor a local file", name, fs.ErrNotExist)
		}
		return "", false, err
	}
	if saved, err = reset(ctx, defaults, current, name); err != nil {
		return "", false, fmt.Errorf("reset %s: %w", name, err)
	}
	return saved, true, nil
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
		if err := s.scan(ctx, defaults, name); err != nil {
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

// SPDX-License-Identifier: Apache-2.0

package etcmerge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/aymanbagabas/go-udiff"

	"github.com/hostctl/hostctl/internal/fsx"
)

const (
	maxDiff    = 1 << 20   // bytes of a file that is compared line by line
	maxShown   = 16 << 10  // bytes of the diff of one conflict
	maxExplain = 256 << 10 // bytes of the diffs of all conflicts
)

// Source reads one of the trees of a merge, a directory or a commit.
type Source interface {
	// Node describes a name; the zero Node stands for one that is absent.
	Node(name string) (Node, error)
	// Open reads a regular file.
	Open(name string) (io.ReadCloser, error)
}

// FromDir is the tree in a directory.
func FromDir(d *fsx.Dir) Source { return dirSource{d} }

type dirSource struct{ dir *fsx.Dir }

func (s dirSource) Node(name string) (Node, error) {
	n, err := readNode(s.dir, name)
	if gone(err) {
		return Node{}, nil
	}
	return n, err
}

func (s dirSource) Open(name string) (io.ReadCloser, error) {
	return s.dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// Diff describes how a name of tree b differs from that of tree a: a unified
// diff for text, a line for everything else, owners and modes if type and content are
// the same, nothing if those are, too. The labels stand for the trees.
func Diff(a, b *fsx.Dir, name, aLabel, bLabel string) (string, error) {
	x, err := describe(FromDir(a), name, true)
	if err != nil {
		return "", err
	}
	y, err := describe(FromDir(b), name, true)
	if err != nil {
		return "", err
	}
	from, to := path.Join(aLabel, name), path.Join(bLabel, name)
	switch {
	case x.equal(y) && x.attributes() != y.attributes():
		return fmt.Sprintf("%s has %s, %s has %s\n", from, x.attributes(), to, y.attributes()), nil
	case x.equal(y):
		return "", nil
	case x.text && y.text:
		return udiff.Unified(x.label(from), y.label(to), x.content, y.content), nil
	case x.what != y.what:
		return fmt.Sprintf("%s is %s, %s is %s\n", from, x.what, to, y.what), nil
	}
	return fmt.Sprintf("Binary files %s and %s differ\n", from, to), nil
}

// Same reports whether a name is the same in both trees, as the merge understands it.
func Same(a, b Source, name string) (bool, error) {
	x, err := describe(a, name, false)
	if err != nil {
		return false, err
	}
	y, err := describe(b, name, false)
	return x.equal(y) && x.Mode == y.Mode && x.UID == y.UID && x.GID == y.GID, err
}

// thing is a name as Diff compares it.
type thing struct {
	Node
	what    string // "a file", "absent" …
	content string // of a text
	text    bool   // fit for a diff of lines; an absent name is an empty text
	sum     [sha256.Size]byte
}

func (t thing) equal(o thing) bool {
	return t.what == o.what && t.text == o.text && t.content == o.content && t.sum == o.sum
}

// label names the side of a unified diff, as diff -N does.
func (t thing) label(name string) string {
	if t.Kind == Absent {
		return "/dev/null"
	}
	return name
}

// describe reads a name. The content of a file counts as text only if it is wanted,
// small and without zero bytes; else its digest stands for it.
func describe(src Source, name string, content bool) (thing, error) {
	n, err := src.Node(name)
	t := thing{Node: n}
	switch n.Kind {
	case Absent:
		t.what, t.text = "absent", true
	case Link:
		t.what = "a link to " + n.Target
	case Dir:
		t.what = "a directory"
	case File:
		t.what = "a file"
	default:
		t.what = "a special file"
	}
	if err != nil || n.Kind != File {
		return t, err
	}
	f, err := src.Open(name)
	if gone(err) {
		return thing{what: "absent", text: true}, nil
	}
	if err != nil {
		return t, err
	}
	return t, errors.Join(t.read(f, content), f.Close())
}

func (t *thing) read(f io.Reader, content bool) error {
	var text strings.Builder
	h := sha256.New()
	kept, err := io.Copy(io.MultiWriter(h, &text), io.LimitReader(f, maxDiff+1))
	if err != nil {
		return err
	}
	rest, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	t.Size = kept + rest
	h.Sum(t.sum[:0])
	if t.text = content && kept <= maxDiff && !strings.Contains(text.String(), "\x00"); t.text {
		t.content = text.String()
	}
	return nil
}

// Clash is a conflict, settled by the policy or not, with what people need to judge it.
type Clash struct {
	Change
	// Diff leads from the local side to the new default: a unified diff, cut off where
	// it is long, or a line about kinds, sizes, digests, owners and modes. Of a file
	// that not everybody may read only sizes are told.
	Diff string `json:"diff,omitempty"`
}

// Explain describes the conflicts of a plan, from the trees it was made of.
func Explain(ctx context.Context, changes []Change, current, next Source) ([]Clash, error) {
	var out []Clash
	left := maxExplain
	for _, c := range changes {
		if c.Conflict == NoConflict {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		diff, err := explain(c.Path, current, next)
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", c.Path, err)
		}
		diff = clip(diff, max(0, min(left, maxShown)))
		left -= len(diff)
		out = append(out, Clash{Change: c, Diff: diff})
	}
	return out, nil
}

func explain(name string, current, next Source) (string, error) {
	open := true
	for _, src := range []Source{current, next} {
		ok, err := forEverybody(src, name)
		if err != nil {
			return "", err
		}
		open = open && ok
	}
	x, err := describe(current, name, open)
	if err != nil {
		return "", err
	}
	y, err := describe(next, name, open)
	if err != nil {
		return "", err
	}
	from, to := path.Join("/etc", name), path.Join("/usr/etc", name)
	switch {
	case x.what != y.what:
		return fmt.Sprintf("%s is %s, the new %s is %s\n", from, x.what, to, y.what), nil
	case x.equal(y):
		return fmt.Sprintf("%s has %s, the new %s has %s\n", from, x.attributes(), to, y.attributes()), nil
	case x.text && y.text:
		return udiff.Unified(from, to, x.content, y.content), nil
	case !open:
		return fmt.Sprintf("%s has %d bytes, the new %s has %d bytes; not everybody may read them\n", from, x.Size, to, y.Size), nil
	}
	return fmt.Sprintf("%s has %d bytes (sha256 %x), the new %s has %d bytes (sha256 %x)\n", from, x.Size, x.sum, to, y.Size, y.sum), nil
}

func (t thing) attributes() string {
	return fmt.Sprintf("mode %04o and owner %d:%d", t.Mode, t.UID, t.GID)
}

// forEverybody reports that any user could read a file. Reports end up in journals,
// which have more readers than secrets in /etc may have.
func forEverybody(src Source, name string) (bool, error) {
	n, err := src.Node(name)
	if err != nil || n.Kind != File {
		return err == nil, err
	}
	if n.Mode&0o004 == 0 {
		return false, nil
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if n, err = src.Node(dir); err != nil || n.Mode&0o001 == 0 {
			return false, err
		}
	}
	return true, nil
}

// clip shortens a diff to about n bytes, at the end of a line.
func clip(diff string, n int) string {
	if len(diff) <= n {
		return diff
	}
	cut := strings.LastIndexByte(diff[:n], '\n') + 1
	return diff[:cut] + fmt.Sprintf("(%d more lines)\n", strings.Count(diff[cut:], "\n"))
}

// SPDX-License-Identifier: Apache-2.0

package libostree

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"pgregory.net/rapid"

	"github.com/hostctl/hostctl/internal/fsx"
)

// entry is one path of a made-up tree.
type entry struct {
	path   string
	kind   byte // d, f or l
	mode   uint32
	uid    int
	gid    int
	data   string // content or target
	xattrs map[string]string
}

// genTree makes trees of up to a few dozen paths. plain leaves out what a
// bare-user-only repository cannot hold.
func genTree(plain bool) *rapid.Generator[[]entry] {
	name := rapid.OneOf(
		rapid.StringMatching(`[a-z][a-zA-Z0-9._-]{0,12}`),
		rapid.SampledFrom([]string{"ä", "日本", "with space", "-dash", "a\nb", ".hidden", "UPPER", "x'y\"z", strings.Repeat("long", 50)}),
	)
	mode := rapid.SampledFrom([]uint32{0o644, 0o755})
	id := rapid.Just(0)
	if !plain {
		mode = rapid.SampledFrom([]uint32{0o644, 0o755, 0o600, 0o700, 0o4755, 0o2755, 0o1777, 0o640, 0o444, 0o555, 0o664, 0o777})
		id = rapid.SampledFrom([]int{0, 0, 1, 1000, 65534})
	}
	size := rapid.SampledFrom([]int{0, 1, 7, 100, 4096, 70000})
	return rapid.Custom(func(t *rapid.T) []entry {
		dirs := []string{"."}
		taken := map[string]bool{}
		out := []entry{{path: ".", kind: 'd', mode: 0o755}}
		for range rapid.IntRange(0, 24).Draw(t, "paths") {
			e := entry{path: filepath.Join(rapid.SampledFrom(dirs).Draw(t, "in"), name.Draw(t, "name"))}
			if taken[e.path] {
				continue
			}
			taken[e.path] = true
			e.uid, e.gid, e.mode = id.Draw(t, "uid"), id.Draw(t, "gid"), mode.Draw(t, "mode")
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0, 1:
				e.kind = 'd'
				e.mode |= 0o500
				dirs = append(dirs, e.path)
			case 2:
				e.kind = 'l'
				e.data = rapid.SampledFrom([]string{"/usr/bin/x", "../..", "日本", "self", strings.Repeat("t/", 200)}).Draw(t, "target")
			default:
				e.kind = 'f'
				n := size.Draw(t, "size")
				seed := rapid.Byte().Draw(t, "seed")
				b := make([]byte, n)
				for i := range b {
					b[i] = seed + byte(i*i>>4)
				}
				e.data = string(b)
			}
			if !plain && e.kind != 'l' && rapid.IntRange(0, 3).Draw(t, "has xattrs") == 0 {
				e.xattrs = rapid.MapOfN(rapid.StringMatching(`user\.[a-z]{1,6}`), rapid.StringN(0, 20, 40), 1, 3).Draw(t, "xattrs")
			}
			out = append(out, e)
		}
		return out
	})
}

// comesBack tells whether a checkout equals the tree: libostree drops attributes
// without a value, and so do we.
func comesBack(tree []entry) bool {
	for _, e := range tree {
		for _, v := range e.xattrs {
			if v == "" {
				return false
			}
		}
	}
	return true
}

// write lays the tree out in dir, which exists.
func write(dir string, tree []entry) error {
	for _, e := range tree {
		p := filepath.Join(dir, e.path)
		var err error
		switch e.kind {
		case 'd':
			err = os.MkdirAll(p, 0o755)
		case 'f':
			err = os.WriteFile(p, []byte(e.data), 0o600)
		case 'l':
			err = os.Symlink(e.data, p)
		}
		if err != nil {
			return err
		}
		if err := os.Lchown(p, e.uid, e.gid); err != nil {
			return err
		}
		for k, v := range e.xattrs {
			if err := syscall.Setxattr(p, k, []byte(v), 0); err != nil {
				return fmt.Errorf("set %s: %w", k, err)
			}
		}
		if e.kind != 'l' {
			if err := syscall.Chmod(p, e.mode); err != nil {
				return err
			}
		}
	}
	return nil
}

// describe tells everything about a folder that a commit records, one line a
// path. With user set, owners and attributes are left out.
func describe(dir string, user bool) (string, error) {
	d, err := fsx.OpenDir(dir)
	if err != nil {
		return "", err
	}
	defer d.Close()
	var b strings.Builder
	err = filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		st, err := d.Lstat(rel)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%q %o", rel, st.Mode)
		if !user {
			fmt.Fprintf(&b, " %d:%d", st.UID, st.GID)
			attrs, err := d.Xattrs(rel)
			if err != nil {
				return err
			}
			for _, a := range attrs {
				fmt.Fprintf(&b, " %s=%x", a.Name, a.Value)
			}
		}
		switch {
		case st.IsSymlink():
			target, err := d.Readlink(rel)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %q", target)
		case st.IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %s", len(data), hex.EncodeToString(data[:min(len(data), 24)]))
		}
		b.WriteByte('\n')
		return nil
	})
	return b.String(), err
}

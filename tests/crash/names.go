// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// rename applies the calls that change names.
func (r *replay) rename(c call) (bool, error) {
	at := strings.Contains(c.name, "at")
	first := 0
	if at {
		first = 1
	}
	switch c.name {
	case "mkdir", "mkdirat":
		return r.add(c, first, &inode{kind: fs.ModeDir, xattrs: map[string][]byte{}}, c.args[first+1])
	case "symlink", "symlinkat":
		target, err := text(c.args[0])
		if err != nil {
			return false, err
		}
		return r.add(c, 1+first, &inode{kind: fs.ModeSymlink, data: []byte(target), xattrs: map[string][]byte{}}, "")
	case "unlink", "unlinkat", "rmdir":
		rel, err := r.rel(c, first, !at)
		if err != nil || rel == "" {
			return false, err
		}
		if left := r.disk.below(rel); len(left) > 0 {
			return false, fmt.Errorf("%s was removed, but holds %s", rel, left[0])
		}
		delete(r.disk.names, rel)
		return true, nil
	case "link", "linkat":
		return r.link(c, at)
	case "rename", "renameat", "renameat2":
		return r.move(c, at)
	}
	return false, nil
}

func (r *replay) add(c call, i int, n *inode, mode string) (bool, error) {
	rel, err := r.rel(c, i, !strings.Contains(c.name, "at"))
	if err != nil || rel == "" {
		return false, err
	}
	if mode != "" {
		bits, err := strconv.ParseUint(mode, 8, 32)
		if err != nil {
			return false, err
		}
		n.mode = uint32(bits) &^ 0o022
	}
	r.disk.names[rel] = n
	r.touch(rel, c)
	return true, nil
}

func (r *replay) link(c call, at bool) (bool, error) {
	from, to := 0, 1
	if at {
		from, to = 1, 3
	}
	rel, err := r.rel(c, to, !at)
	if err != nil || rel == "" {
		return false, err
	}
	n := r.fdNode(c.args[from])
	if n == nil && at && c.args[from] == `""` { // AT_EMPTY_PATH
		fd, _, err := descriptor(c.args[0])
		if err != nil || r.files[fd] == nil {
			return false, fmt.Errorf("%s is linked from an unknown file: %w", rel, err)
		}
		n = r.files[fd].node
	}
	if n == nil {
		old, err := r.rel(c, from, !at)
		if err != nil {
			return false, err
		}
		if n = r.disk.names[old]; n == nil || old == "" {
			return false, fmt.Errorf("%s is linked from outside of the folder", rel)
		}
	}
	r.disk.names[rel] = n
	r.touch(rel, c)
	return true, nil
}

func (r *replay) move(c call, at bool) (bool, error) {
	from, to := 0, 1
	if at {
		from, to = 1, 3
	}
	old, err := r.rel(c, from, !at)
	if err != nil {
		return false, err
	}
	rel, err := r.rel(c, to, !at)
	if err != nil || old == "" && rel == "" {
		return false, err
	}
	if old == "" || rel == "" {
		return false, fmt.Errorf("%v: a rename into or out of the folder", c.args)
	}
	if r.disk.names[old] == nil {
		return false, fmt.Errorf("%s was renamed, but is not there", old)
	}
	r.disk.rename(old, rel, len(c.args) > 4 && strings.Contains(c.args[4], "RENAME_EXCHANGE"))
	r.touch(rel, c)
	return true, nil
}

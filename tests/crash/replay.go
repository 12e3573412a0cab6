// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// file is an open descriptor of the recorded program.
type file struct {
	node *inode
	rel  string // name when it was opened
	pos  int64
	end  bool // O_APPEND
}

// replay applies recorded calls to a disk.
type replay struct {
	root    string
	disk    *disk
	files   map[int]*file
	history map[int]map[*inode][]byte // what was written before call i, for syncs that began there
	// dirty are directories that got names since they were synced, with the call.
	dirty map[string]string
	// volumes are folders that stand for filesystems of their own; syncfs is for one.
	volumes []string
}

// step applies one call and tells whether it changed what a crash would leave.
func (r *replay) step(c call) (changed bool, err error) {
	if c.failed() {
		return false, nil
	}
	switch c.name {
	case "open", "openat", "openat2", "creat":
		return r.open(c)
	case "close":
		fd, _, err := descriptor(c.args[0])
		delete(r.files, fd)
		return false, err
	case "dup", "dup2", "dup3", "fcntl":
		return false, r.dup(c)
	case "lseek":
		return false, r.seek(c)
	case "write", "pwrite64":
		return false, r.write(c)
	case "ftruncate":
		return false, r.truncate(c)
	case "copy_file_range":
		return false, r.copyRange(c)
	case "writev", "pwritev", "truncate", "sendfile", "splice", "mknod", "mknodat", "removexattr", "lremovexattr", "fremovexattr":
		return false, r.refuse(c)
	case "fsync", "fdatasync", "syncfs", "sync":
		return true, r.sync(c)
	case "sync_file_range":
		return false, nil // begins to write, and makes nothing safe
	case "fchmod", "fsetxattr", "setxattr", "lsetxattr", "chmod", "fchmodat", "fchmodat2":
		return true, r.attribute(c)
	}
	return r.rename(c)
}

// rel gives the path relative to the folder of an argument at index i, which
// follows its directory unless plain; "" if it is outside.
func (r *replay) rel(c call, i int, plain bool) (string, error) {
	name, err := text(c.args[i])
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(name) {
		dir := ""
		if !plain {
			if _, dir, err = descriptor(c.args[i-1]); err != nil {
				return "", err
			}
		}
		if dir == "" {
			return "", nil // relative to a working directory that is never inside
		}
		name = filepath.Join(dir, name)
	}
	return r.inside(name), nil
}

func (r *replay) inside(name string) string {
	rel, err := filepath.Rel(r.root, name)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return ""
	}
	return rel
}

// fdNode gives the file behind /proc/self/fd/N.
func (r *replay) fdNode(arg string) *inode {
	name, err := text(arg)
	num, ok := strings.CutPrefix(name, "/proc/self/fd/")
	if err != nil || !ok {
		return nil
	}
	fd, err := strconv.Atoi(num)
	if err != nil || r.files[fd] == nil {
		return nil
	}
	return r.files[fd].node
}

func (r *replay) open(c call) (bool, error) {
	fd, path, err := descriptor(c.ret)
	if err != nil {
		return false, err
	}
	delete(r.files, fd)
	flags := strings.Join(c.args[1:], ",")
	rel := r.inside(path)
	if rel == "" {
		return false, nil
	}
	if strings.Contains(flags, "O_TMPFILE") {
		r.files[fd] = &file{node: &inode{mode: 0o600, xattrs: map[string][]byte{}}}
		return false, nil
	}
	n, ok := r.disk.names[rel]
	created := !ok
	if !ok {
		if !strings.Contains(flags, "O_CREAT") {
			return false, fmt.Errorf("%s was opened, but is not there", rel)
		}
		n = &inode{mode: createMode(flags), xattrs: map[string][]byte{}}
		r.disk.names[rel] = n
		r.touch(rel, c)
	}
	if strings.Contains(flags, "O_TRUNC") && !created {
		n.data, n.safe = nil, nil // a truncation is journalled, what follows is not
	}
	r.files[fd] = &file{node: n, rel: rel, end: strings.Contains(flags, "O_APPEND")}
	return created || strings.Contains(flags, "O_TRUNC"), nil
}

var octal = regexp.MustCompile(`(?:,|=)\s*0([0-7]{3})\b`)

// createMode finds the mode among the arguments of a call that creates a file.
func createMode(args string) uint32 {
	m := octal.FindStringSubmatch(args)
	if m == nil {
		return 0o644
	}
	mode, err := strconv.ParseUint(m[1], 8, 32)
	if err != nil {
		return 0o644
	}
	return uint32(mode) &^ 0o022
}

func (r *replay) dup(c call) error {
	if c.name == "fcntl" && !strings.HasPrefix(c.args[1], "F_DUPFD") {
		return nil
	}
	from, _, err := descriptor(c.args[0])
	if err != nil {
		return err
	}
	to, _, err := descriptor(c.ret)
	if f, ok := r.files[from]; ok {
		r.files[to] = f
	} else {
		delete(r.files, to)
	}
	return err
}

// fd gives the open file of the first argument, nil if it is outside.
func (r *replay) fd(c call) *file {
	n, _, err := descriptor(c.args[0])
	if err != nil {
		return nil
	}
	return r.files[n]
}

func (r *replay) seek(c call) error {
	f := r.fd(c)
	if f == nil {
		return nil
	}
	pos, err := strconv.ParseInt(c.ret, 10, 64)
	f.pos = pos
	return err
}

func (r *replay) write(c call) error {
	f := r.fd(c)
	if f == nil {
		return nil
	}
	data, err := text(c.args[1])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(c.ret)
	if err != nil {
		return err
	}
	if c.name == "pwrite64" {
		off, err := strconv.ParseInt(c.args[3], 10, 64)
		f.node.put(off, data[:n])
		return err
	}
	f.add(data[:n])
	return nil
}

func (f *file) add(data string) {
	if f.end {
		f.pos = int64(len(f.node.data))
	}
	f.node.put(f.pos, data)
	f.pos += int64(len(data))
}

// put copies, so that what was safe before stays as it is.
func (n *inode) put(off int64, data string) {
	size := max(int64(len(n.data)), off+int64(len(data)))
	b := make([]byte, size)
	copy(b, n.data)
	copy(b[off:], data)
	n.data = b
}

func (r *replay) truncate(c call) error {
	f := r.fd(c)
	if f == nil {
		return nil
	}
	size, err := strconv.ParseInt(c.args[1], 10, 64)
	if err != nil {
		return err
	}
	b := make([]byte, size)
	copy(b, f.node.data)
	f.node.data = b
	f.node.safe = f.node.safe[:min(int64(len(f.node.safe)), size)]
	return nil
}

// copyRange reads the source, which stays as it is while the program runs.
func (r *replay) copyRange(c call) error {
	to, _, err := descriptor(c.args[2])
	if err != nil || r.files[to] == nil {
		return err
	}
	n, err := strconv.Atoi(c.ret)
	if err != nil || n == 0 {
		return err
	}
	from, path, err := descriptor(c.args[0])
	if err != nil || c.args[1] != "NULL" || c.args[3] != "NULL" {
		return fmt.Errorf("copy_file_range with offsets: %v: %w", c.args, err)
	}
	var data []byte
	pos := int64(0)
	if f := r.files[from]; f != nil {
		data, pos = f.node.data, f.pos
		f.pos += int64(n)
	} else if data, err = os.ReadFile(path); err != nil {
		return err
	}
	if int64(len(data)) != int64(n) || pos != 0 {
		return fmt.Errorf("copy_file_range of a part of %s", path)
	}
	r.files[to].add(string(data))
	return nil
}

// refuse fails where a call that is not replayed works on the folder.
func (r *replay) refuse(c call) error {
	for i, a := range c.args {
		if fd, _, err := descriptor(a); err == nil && r.files[fd] != nil && (i == 0 || c.name == "splice") {
			return fmt.Errorf("%s on a file of the folder cannot be replayed", c.name)
		}
	}
	return nil
}

// sync makes safe what was written before the call began.
func (r *replay) sync(c call) error {
	if c.name == "syncfs" || c.name == "sync" {
		other := r.otherVolumes(c)
		for n, data := range r.history[c.start] {
			if !other[n] {
				n.safe = data
			}
		}
		if len(other) == 0 {
			clear(r.dirty)
		}
		return nil
	}
	f := r.fd(c)
	if f == nil {
		return nil
	}
	if f.node.kind == fs.ModeDir {
		delete(r.dirty, f.rel)
		return nil
	}
	if data, ok := r.history[c.start][f.node]; ok {
		f.node.safe = data
	}
	return nil
}

// volume tells which of the folders that stand for filesystems a path is in.
func (r *replay) volume(rel string) string {
	for _, v := range r.volumes {
		if rel == v || strings.HasPrefix(rel, v+"/") {
			return v
		}
	}
	return ""
}

// otherVolumes are the files that a syncfs does not mean.
func (r *replay) otherVolumes(c call) map[*inode]bool {
	out := map[*inode]bool{}
	if c.name != "syncfs" || len(r.volumes) == 0 {
		return out
	}
	_, at, err := descriptor(c.args[0])
	if err != nil {
		return out
	}
	for rel, n := range r.disk.names {
		if r.volume(rel) != r.volume(r.inside(at)) {
			out[n] = true
		}
	}
	return out
}

func (r *replay) attribute(c call) error {
	var n *inode
	if strings.HasPrefix(c.name, "f") && !strings.HasPrefix(c.name, "fchmodat") {
		if f := r.fd(c); f != nil {
			n = f.node
		}
	} else if n = r.fdNode(c.args[0]); n == nil {
		i, plain := 0, true
		if strings.HasPrefix(c.name, "fchmodat") {
			i, plain = 1, false
		}
		rel, err := r.rel(c, i, plain)
		if err != nil || rel == "" {
			return err
		}
		n = r.disk.names[rel]
	}
	if n == nil {
		return nil
	}
	if strings.Contains(c.name, "xattr") {
		name, err := text(c.args[1])
		if err != nil {
			return err
		}
		value, err := text(c.args[2])
		n.xattrs[name] = []byte(value)
		return err
	}
	arg := c.args[1]
	if strings.HasPrefix(c.name, "fchmodat") {
		arg = c.args[2]
	}
	mode, err := strconv.ParseUint(arg, 8, 32)
	n.mode = uint32(mode)
	return err
}

func (r *replay) touch(rel string, c call) { r.dirty[filepath.Dir(rel)] = c.name + " " + rel }

// snapshot is what all files hold now.
func (r *replay) snapshot() map[*inode][]byte {
	out := map[*inode][]byte{}
	for _, n := range r.disk.names {
		out[n] = n.data
	}
	for _, f := range r.files {
		out[f.node] = f.node.data
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Recording is one run of a program on a folder.
type Recording struct {
	root   string
	before *disk
	after  *disk
	calls  []call
}

// Record runs argv, which may change the folder root, under strace. It fails if
// the program does.
func Record(root string, argv ...string) (*Recording, error) {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, err
	}
	rec := &Recording{root: root}
	if rec.before, err = readDisk(root); err != nil {
		return nil, fmt.Errorf("read %s: %w", root, err)
	}
	log, err := os.CreateTemp("", "trace-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	args := append([]string{"-f", "-y", "-xx", "-s", "4194304", "-e", "trace=" + traced, "-o", log.Name(), "--"}, argv...)
	out, err := exec.Command("strace", args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	if rec.calls, err = readTrace(log); err != nil {
		return nil, err
	}
	rec.after, err = readDisk(root)
	return rec, err
}

// State is the folder as a crash after one of the recorded calls could leave it.
type State struct {
	Index int
	After string // the call
	// Unsynced are directories that got names and were not synced since.
	Unsynced []string
	disk     *disk
}

// Write lays the state out as the new folder dir: after a power cut, which loses
// what was not synced, or after the end of the process, which does not.
func (s State) Write(dir string, powerCut bool) error { return s.disk.write(dir, powerCut) }

// States calls fn for the folder after each call that changed it, the last time
// after the end of the program.
func (rec *Recording) States(fn func(State) error) error {
	r := &replay{root: rec.root, disk: rec.before, files: map[int]*file{}, history: map[int]map[*inode][]byte{}, dirty: map[string]string{}}
	syncs := map[int]bool{}
	for _, c := range rec.calls {
		if strings.Contains(c.name, "sync") {
			syncs[c.start] = true
		}
	}
	visit := func(i int, after string) error {
		st := State{Index: i, After: after, disk: r.disk}
		for dir, call := range r.dirty {
			st.Unsynced = append(st.Unsynced, dir+" ("+call+")")
		}
		if err := fn(st); err != nil {
			return fmt.Errorf("after call %d, %s: %w", i, after, err)
		}
		return nil
	}
	for i, c := range rec.calls {
		if syncs[i] {
			r.history[i] = r.snapshot()
		}
		changed, err := r.step(c)
		if err != nil {
			return fmt.Errorf("replay call %d: %w", i, err)
		}
		if !changed {
			continue
		}
		if err := visit(i, c.name+" "+r.describe(c)); err != nil {
			return err
		}
	}
	return errors.Join(r.verify(rec.after), visit(len(rec.calls), "the end"))
}

// describe names the path of a call, for messages.
func (r *replay) describe(c call) string {
	for _, a := range c.args {
		if s, err := text(a); err == nil && strings.HasPrefix(a, `"`) {
			return fmt.Sprintf("%.120q", s)
		}
		if _, path, err := descriptor(a); err == nil && path != "" && len(c.args) == 1 {
			return fmt.Sprintf("%q", path)
		}
	}
	return ""
}

// verify holds the replayed folder against the real one: a call that was missed
// or misread shows here.
func (r *replay) verify(real *disk) error {
	for rel, n := range real.names {
		got := r.disk.names[rel]
		if got == nil {
			return fmt.Errorf("replay: %s is missing", rel)
		}
		if got.kind != n.kind || string(got.data) != string(n.data) || got.mode != n.mode && n.kind == 0 {
			return fmt.Errorf("replay: %s differs: %d bytes %o, should be %d bytes %o", rel, len(got.data), got.mode, len(n.data), n.mode)
		}
		for k, v := range n.xattrs {
			if string(got.xattrs[k]) != string(v) {
				return fmt.Errorf("replay: attribute %s of %s differs", k, rel)
			}
		}
	}
	for rel := range r.disk.names {
		if real.names[rel] == nil {
			return fmt.Errorf("replay: %s should not be there", rel)
		}
	}
	return nil
}

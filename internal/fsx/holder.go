// SPDX-License-Identifier: Apache-2.0

package fsx

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// LockedError is ErrLocked with who holds the lock.
type LockedError struct {
	Path    string // of the lock, for messages
	PID     int    // of the holder; 0 if it could not be found
	Command string // its command line
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("lock %s: %v", e.Path, ErrLocked)
	}
	return fmt.Sprintf("lock %s: %v: %q, pid %d", e.Path, ErrLocked, e.Command, e.PID)
}

// Unwrap makes errors.Is(err, ErrLocked) hold.
func (e *LockedError) Unwrap() error { return ErrLocked }

func (d *Dir) locked(name string) error {
	e := &LockedError{Path: path.Join(d.path, name)}
	if st, err := d.Lstat(name); err == nil {
		e.PID, e.Command = lockHolder(st, path.Base(name))
	}
	return e
}

// lockHolder looks for the process that holds a lock on a file. /proc/locks names no
// process for a lock of an open file description, so the descriptors are searched, of
// which only the holder's tells of the lock. It takes root to see those of others.
func lockHolder(st Stat, base string) (pid int, command string) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, ""
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err == nil && holdsLock(pid, st, base) {
			return pid, commandOf(pid)
		}
	}
	return 0, ""
}

func holdsLock(pid int, st Stat, base string) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		// By name first: a stat could hang on a network filesystem that is gone.
		at := filepath.Join(proc, "fd", fd.Name())
		to, err := os.Readlink(at)
		if err != nil || path.Base(to) != base {
			continue
		}
		var raw syscall.Stat_t
		if err := syscall.Stat(at, &raw); err != nil || raw.Ino != st.Ino || raw.Dev != st.Dev {
			continue
		}
		info, err := os.ReadFile(filepath.Join(proc, "fdinfo", fd.Name()))
		if err == nil && bytes.Contains(info, []byte("\nlock:")) {
			return true
		}
	}
	return false
}

const maxCommand = 120

func commandOf(pid int) string {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return "?"
	}
	text := strings.TrimSpace(string(bytes.ReplaceAll(data, []byte{0}, []byte{' '})))
	if len(text) > maxCommand {
		text = text[:maxCommand] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}

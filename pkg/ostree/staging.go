// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
)

const (
	tmpDir        = "tmp"
	stagingPrefix = "staging-"
	lockSuffix    = "-lock" // of the lock beside a staging directory, as libostree names it
	bootIDFile    = "/proc/sys/kernel/random/boot_id"
)

// staging is the directory that holds a transaction's objects until they are
// durable. Its name carries the kernel's boot id: after a crash the id differs,
// which tells that the content may have been lost. Names in it are flat,
// CHECKSUM.TYPE, but those in sub.
type staging struct {
	dir  *fsx.Dir
	sub  stageDirs
	name string // below the repository
	lock *fsx.Lock
}

func (r *Repo) bootID() (string, error) {
	if r.opts.bootID != "" {
		return checkBootID(r.opts.bootID)
	}
	data, err := os.ReadFile(bootIDFile)
	if err != nil {
		return "", err
	}
	return checkBootID(strings.TrimSpace(string(data)))
}

func checkBootID(id string) (string, error) {
	if id == "" || strings.ContainsAny(id, "/\x00") {
		return "", fmt.Errorf("%w: boot id %q", ErrInvalid, clip(id))
	}
	return id, nil
}

// openStaging takes over what a killed process of this boot left, so that an
// interrupted pull goes on where it was, or makes a new directory.
func (r *Repo) openStaging(ctx context.Context) (*staging, error) {
	id, err := r.bootID()
	if err != nil {
		return nil, err
	}
	if err := r.dir.MkdirAll(tmpDir, 0o755); err != nil {
		return nil, err
	}
	entries, err := r.dir.ReadDir(tmpDir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name, stagingPrefix+id+"-") {
			continue
		}
		if s := r.adoptStaging(ctx, tmpDir+"/"+e.Name); s != nil {
			return s, nil
		}
	}
	name := tmpDir + "/" + stagingPrefix + id + "-" + rand.Text()[:6]
	// The lock first: whoever finds the directory finds it locked.
	lock, err := r.dir.Lock(ctx, name+lockSuffix, false, 0)
	if err != nil {
		return nil, err
	}
	if err := r.dir.Mkdir(name, 0o755); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	d, err := r.dir.OpenDir(name)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return &staging{dir: d, name: name, lock: lock}, nil
}

// adoptStaging gives nil where the directory is in use or has just gone.
func (r *Repo) adoptStaging(ctx context.Context, name string) *staging {
	lock, err := r.dir.Lock(ctx, name+lockSuffix, false, 0)
	if err != nil {
		return nil
	}
	d, err := r.dir.OpenDir(name)
	if err != nil {
		_ = lock.Unlock()
		return nil
	}
	return &staging{dir: d, name: name, lock: lock}
}

// leftovers lists the objects that an adopted directory holds, those too that cannot
// be verified and so will not be used. What libostree left in its own layout and
// unfinished files are not among them.
func (r *Repo) leftovers(s *staging) (map[ObjectName]struct{}, error) {
	entries, err := s.dir.ReadDir(".")
	if err == nil {
		err = s.adoptDirs(entries)
	}
	if err != nil {
		return nil, err
	}
	found := map[ObjectName]struct{}{}
	note := func(entries []fsx.Entry, parse func(name string) (ObjectName, bool)) {
		for _, e := range entries {
			if n, ok := parse(e.Name); ok && !e.IsDir() {
				found[n] = struct{}{}
			}
		}
	}
	note(entries, parseStagedName)
	for i := range s.sub.dirs {
		d := s.sub.dirs[i].Load()
		if d == nil {
			continue
		}
		if entries, err = d.ReadDir("."); err != nil {
			return nil, err
		}
		note(entries, r.nameIn(i))
	}
	return found, nil
}

// nameIn parses names of objects in the directory of a prefix.
func (r *Repo) nameIn(x int) func(name string) (ObjectName, bool) {
	top := fmt.Sprintf("%02x", x)
	return func(name string) (ObjectName, bool) { return r.parseObjectName(top, name) }
}

func parseStagedName(name string) (ObjectName, bool) {
	sum, ext, _ := strings.Cut(name, ".")
	c, err := ParseChecksum(sum)
	if err != nil {
		return ObjectName{}, false
	}
	for t := TypeFile; t <= TypePayloadLink; t++ {
		if t.String() == ext {
			return ObjectName{c, t}, true
		}
	}
	return ObjectName{}, false
}

// keep gives the directory free for the next transaction to take over. The file of
// the lock goes while it is held, as with libostree's.
func (s *staging) keep(r *Repo) error {
	return errors.Join(r.dir.Remove(s.name+lockSuffix), s.sub.close(), s.dir.Close(), s.lock.Unlock())
}

// drop removes the directory, and its lock last, while the lock is held.
func (s *staging) drop(r *Repo) error {
	err := r.dir.RemoveAll(s.name)
	if err == nil {
		err = r.dir.Remove(s.name + lockSuffix)
	}
	return errors.Join(err, s.sub.close(), s.dir.Close(), s.lock.Unlock())
}

// dropStaleStaging removes what transactions before the last boot left: its
// bytes may not have reached the disk. It is best effort, as Open must work for
// readers who cannot write.
func (r *Repo) dropStaleStaging() {
	id, err := r.bootID()
	if err != nil {
		return
	}
	r.dropStaging(func(e fsx.Entry) bool { return !strings.HasPrefix(e.Name, stagingPrefix+id+"-") })
}

// dropExpired removes staging directories of this boot that nobody took over for
// the configured time, and stray locks.
func (r *Repo) dropExpired() {
	if r.opts.tmpExpiry < 0 {
		return
	}
	limit := time.Now().Add(-r.opts.tmpExpiry)
	r.dropStaging(func(e fsx.Entry) bool {
		st, err := r.dir.Lstat(tmpDir + "/" + e.Name)
		return err == nil && st.Mtime.Before(limit)
	})
}

func (r *Repo) dropStaging(stale func(fsx.Entry) bool) {
	entries, err := r.dir.ReadDir(tmpDir)
	if err != nil {
		return
	}
	dirs := map[string]bool{}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name, stagingPrefix) {
			dirs[e.Name] = true
			if stale(e) {
				r.dropOne(tmpDir + "/" + e.Name)
			}
		}
	}
	for _, e := range entries {
		base, isLock := strings.CutSuffix(e.Name, lockSuffix)
		if isLock && strings.HasPrefix(base, stagingPrefix) && !dirs[base] && stale(e) {
			r.dropOne(tmpDir + "/" + base)
		}
	}
}

func (r *Repo) dropOne(name string) {
	lock, err := r.dir.Lock(context.Background(), name+lockSuffix, false, 0)
	if err != nil {
		return // in use, or not ours to write
	}
	err = r.dir.RemoveAll(name)
	if err == nil {
		err = r.dir.Remove(name + lockSuffix)
	}
	if err = errors.Join(err, lock.Unlock()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.opts.log.Warn("drop stale staging directory", "repository", r.dir.Path(), "name", name, "error", err)
	}
}

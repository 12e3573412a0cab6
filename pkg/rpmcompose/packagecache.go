// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// Names inside the cache directory.
const (
	cacheRepoName = "pkgcache-repo"
	// unsyncedName marks a package cache that may not be on the disk in full. It holds
	// the id of the boot in which that is so.
	unsyncedName = "pkgcache-unsynced"
	bootIDPath   = "/proc/sys/kernel/random/boot_id"
	maxBootID    = 256
	// lostCache is what the mark holds where the disk refused what was to be written.
	lostCache = "not written to the disk"
)

// packageCache is the repository of imported packages. What it holds can be imported
// again, so nobody waits for the disk: a mark tells that the machine must not go down
// now, and a cache with the mark of an earlier boot is dropped. While the marked cache
// is written to the disk, the compose goes on.
type packageCache struct {
	repo   *ostree.Repo
	dir    *fsx.Dir
	synced chan error // of sync; nil before
}

func openPackageCache(env Env) (*packageCache, error) {
	if err := dropLostCache(env); err != nil {
		return nil, err
	}
	if err := env.Cache.Mkdir(cacheRepoName, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	// Durable before anything is written to the cache.
	if err := env.Cache.WriteFileAtomic(unsyncedName, []byte(boot), 0o644); err != nil {
		return nil, err
	}
	repo, err := openCacheRepo(env)
	if err != nil {
		return nil, err
	}
	return &packageCache{repo: repo, dir: env.Cache}, nil
}

// dropLostCache removes a cache that was not synced before this boot.
func dropLostCache(env Env) error {
	mark, err := env.Cache.ReadFile(unsyncedName, maxBootID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil || string(mark) == boot {
		return err
	}
	env.Log.Warn("package cache is imported again: the machine went down before it was written to the disk")
	if err := env.Cache.RemoveAll(cacheRepoName); err != nil {
		return err
	}
	if err := env.Cache.Fsync(); err != nil {
		return err
	}
	return env.Cache.Remove(unsyncedName)
}

func bootID() (string, error) {
	data, err := os.ReadFile(bootIDPath)
	return strings.TrimSpace(string(data)), err
}

func openCacheRepo(env Env) (*ostree.Repo, error) {
	d, err := env.Cache.OpenDir(cacheRepoName)
	if err != nil {
		return nil, err
	}
	o := ostree.Options{Logger: env.Log, DisableFsync: true}
	ready, err := d.Exists("objects")
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if ready {
		return ostree.Open(d, o)
	}
	return ostree.Create(d, ostree.ModeBare, o)
}

// sync begins to write the cache to the disk, which is complete now.
func (c *packageCache) sync() {
	if c.synced != nil {
		return
	}
	c.synced = make(chan error, 1)
	go func() { c.synced <- c.dir.Syncfs() }()
}

// close waits until the cache is on the disk.
func (c *packageCache) close() error {
	c.sync()
	err := <-c.synced
	if err == nil {
		err = c.dir.Remove(unsyncedName)
	} else {
		err = errors.Join(err, c.dir.WriteFile(unsyncedName, []byte(lostCache), 0o644))
	}
	return errors.Join(err, c.repo.Close())
}

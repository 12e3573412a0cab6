// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/hostctl/hostctl/internal/fsx"
)

type devIno struct{ dev, ino uint64 }

// DevInoCache maps the inodes of linked files to their objects. The zero value
// is ready; it is safe for concurrent use. It holds for one repository and one
// boot.
type DevInoCache struct {
	mu sync.RWMutex
	m  map[devIno]Checksum
}

// Len gives the number of inodes recorded.
func (c *DevInoCache) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.m)
}

func (c *DevInoCache) add(st fsx.Stat, sum Checksum) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[devIno]Checksum{}
	}
	c.m[devIno{st.Dev, st.Ino}] = sum
}

// Lookup gives the object that a file is a link of.
func (c *DevInoCache) Lookup(st fsx.Stat) (Checksum, bool) {
	if c == nil {
		return Checksum{}, false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	sum, ok := c.m[devIno{st.Dev, st.Ino}]
	return sum, ok
}

// ScanLinks records the inodes of all content objects of the repository, of its
// parents and, in archive mode, of the cache of unpacked objects: then a commit
// finds the files that any earlier checkout linked.
func (r *Repo) ScanLinks(ctx context.Context) (*DevInoCache, error) {
	c := &DevInoCache{}
	for p := r; p != nil; p = p.parent {
		top := "objects"
		if p.mode == ModeArchive {
			top = "uncompressed-objects-cache"
		}
		if err := c.scan(ctx, p.dir, top); err != nil {
			return nil, fmt.Errorf("scan links of %s: %w", p.dir.Path(), err)
		}
	}
	return c, nil
}

func (c *DevInoCache) scan(ctx context.Context, d *fsx.Dir, top string) error {
	subs, err := d.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, s := range subs {
		if len(s.Name) != 2 || !s.IsDir() {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.scanOne(d, top, s.Name); err != nil {
			return err
		}
	}
	return nil
}

func (c *DevInoCache) scanOne(d *fsx.Dir, top, prefix string) error {
	sub, err := d.OpenDir(top + "/" + prefix)
	if err != nil {
		return err
	}
	defer sub.Close()
	entries, err := sub.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		rest, ok := strings.CutSuffix(e.Name, "."+TypeFile.String())
		sum, err := ParseChecksum(prefix + rest)
		if !ok || err != nil {
			continue
		}
		st, err := sub.Lstat(e.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // pruned meanwhile
		}
		if err != nil {
			return err
		}
		c.add(st, sum)
	}
	return nil
}

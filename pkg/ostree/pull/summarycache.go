// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
)

const (
	cacheDir     = "summaries"
	etagXattr    = "user.etag" // as libostree keeps it
	maxEtag      = 1024
	maxCacheTime = 1 << 40 // seconds
)

// summaryCache keeps the last summary of a remote with its signature, as
// REMOTE and REMOTE.sig in the folder summaries of tmp/cache. The server's ETag
// is in an extended attribute, its time is the file's.
type summaryCache struct {
	dir  *fsx.Dir // nil: nothing is kept
	name string
	log  *slog.Logger
}

func (p *puller) openCache() *summaryCache {
	c := &summaryCache{name: p.remote.Name, log: p.log}
	if p.req.NoCache || p.remote.Name == "" || p.local != nil || p.remote.Metalink != "" {
		return c
	}
	base, root := p.req.Cache, cacheDir
	if base == nil {
		base, root = p.repo.Dir(), "tmp/cache/"+cacheDir
	}
	err := base.MkdirAll(root, 0o755)
	if err == nil {
		c.dir, err = base.OpenDir(root)
	}
	if err != nil {
		p.log.Warn("open summary cache", "error", err)
	}
	return c
}

func (c *summaryCache) close() {
	if c.dir != nil {
		_ = c.dir.Close()
	}
}

// cachedSummary is what the cache holds; absent files are nil.
type cachedSummary struct {
	data, sig        []byte
	version, sigVers validators
}

func (c cachedSummary) validators() *validators {
	if c.data == nil {
		return nil
	}
	return &c.version
}

func (c cachedSummary) sigValidators() *validators {
	if c.data == nil || c.sig == nil {
		return nil
	}
	return &c.sigVers
}

func (c *summaryCache) load() (s cachedSummary) {
	if c.dir == nil {
		return s
	}
	s.data, s.version = c.read(c.name)
	s.sig, s.sigVers = c.read(c.name + ".sig")
	return s
}

func (c *summaryCache) read(name string) (data []byte, v validators) {
	data, err := c.dir.ReadFile(name, maxSummary)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.log.Warn("read summary cache", "file", name, "error", err)
		}
		return nil, v
	}
	if st, err := c.dir.Lstat(name); err == nil && st.Mtime.Unix() > 0 {
		v.modified = st.Mtime
	}
	if list, err := c.dir.Xattrs(name); err == nil {
		for _, x := range list {
			if x.Name == etagXattr && len(x.Value) <= maxEtag {
				v.etag = string(x.Value)
			}
		}
	}
	return data, v
}

// store replaces the cached files; the cache is an optimisation, so that failures
// are only logged. A mixed pair after a crash does not verify and is fetched again.
func (c *summaryCache) store(s *summary) {
	if c.dir == nil {
		return
	}
	err := c.write(c.name, s.data, s.version)
	if err == nil {
		err = c.write(c.name+".sig", s.sig, s.sigVers)
	}
	if err != nil {
		c.log.Warn("write summary cache", "remote", c.name, "error", err)
	}
}

func (c *summaryCache) write(name string, data []byte, v validators) error {
	f, err := c.dir.CreateAtomic(name, 0o644)
	if err != nil {
		return err
	}
	defer f.Cancel()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	if v.etag != "" && len(v.etag) <= maxEtag {
		// Not every filesystem has attributes; the time is enough then.
		_ = c.dir.SetXattr(name, etagXattr, []byte(v.etag))
	}
	// The start of time stands for a server that tells none.
	secs := v.modified.Unix()
	if secs < 0 || secs > maxCacheTime {
		secs = 0
	}
	return c.dir.Lutimes(name, time.Unix(secs, 0))
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// Mode is how a repository stores content objects.
type Mode uint8

// The repository modes. The zero Mode is invalid.
const (
	// ModeBare keeps files as they are, owner, mode, attributes and links
	// included: checkouts are hard links. Writing needs root.
	ModeBare Mode = iota + 1
	// ModeBareUser keeps every object as a regular file of the calling user and
	// the real metadata in the attribute user.ostreemeta.
	ModeBareUser
	// ModeBareUserOnly keeps files of the calling user and drops owner and
	// attributes.
	ModeBareUserOnly
	// ModeArchive keeps compressed .filez objects, to be served over HTTP.
	ModeArchive
	// ModeBareSplitXattrs keeps files as they are but their attributes in objects
	// of their own. It can be read only.
	ModeBareSplitXattrs
)

// String gives the name that the config file uses.
func (m Mode) String() string {
	switch m {
	case ModeBare:
		return "bare"
	case ModeBareUser:
		return "bare-user"
	case ModeBareUserOnly:
		return "bare-user-only"
	case ModeArchive:
		return "archive-z2"
	case ModeBareSplitXattrs:
		return "bare-split-xattrs"
	}
	return fmt.Sprintf("mode-%d", uint8(m))
}

// ParseMode reads a mode as the config file or a user spells it; "archive" and
// "archive-z2" are the same.
func ParseMode(s string) (Mode, error) {
	switch s {
	case "bare":
		return ModeBare, nil
	case "bare-user":
		return ModeBareUser, nil
	case "bare-user-only":
		return ModeBareUserOnly, nil
	case "archive", "archive-z2":
		return ModeArchive, nil
	case "bare-split-xattrs":
		return ModeBareSplitXattrs, nil
	}
	return 0, fmt.Errorf("%w: repository mode %q", ErrUnsupported, clip(s))
}

// Options configure a Repo; the zero value follows the repository's config.
type Options struct {
	Logger       *slog.Logger  // nil: discard
	Progress     progress.Func // nil: none
	DisableFsync bool          // never sync: for scratch repositories and tests
	// PerObjectFsync syncs every object when it is written, as core.per-object-fsync
	// does: one sync at the end stalls other writers of the disk.
	PerObjectFsync bool
	CollectionID   string // for Create: core.collection-id
	// Parent is where objects are looked up that the repository lacks, and stays the
	// caller's to close; nil means what core.parent names. Revisions that the repository
	// lacks are resolved there, too, but its refs are not listed.
	Parent *Repo
	// WriteSplitXattrs lets content be written to a bare-split-xattrs repository,
	// without its attributes: what libostree does on demand, for its tests.
	WriteSplitXattrs bool
	// BootID is what stands for the kernel's boot id in the names of staging
	// directories: for tests. "" means the kernel's.
	BootID string

	below []fileID // the repositories whose parent is being opened
}

// Repo is an open repository. It is safe for concurrent use. Objects and refs
// are always read from disk.
type Repo struct {
	dir     *fsx.Dir
	objects *fsx.Dir
	cfg     *keyfile.File
	mode    Mode
	opts    settings
	pools   pools

	parent     *Repo // where absent objects are looked up; nil: nowhere
	ownParent  bool  // opened along with this one
	writeSplit bool

	reflinkOnce sync.Once
	reflink     bool // files can share blocks
}

// settings is the config and the caller's options, read once.
type settings struct {
	log            *slog.Logger
	progress       progress.Func
	fsync          bool
	zlibLevel      int
	lockTimeout    time.Duration // negative: for ever
	minFreePct     uint64
	minFreeBytes   uint64
	tmpExpiry      time.Duration
	locking        bool
	tombstones     bool
	disableXattrs  bool
	autoSummary    bool
	perObjectFsync bool
	bootID         string

	payloadThreshold uint64 // bytes
}

const (
	configName = "config"
	lockName   = ".lock"
	maxConfig  = keyfile.MaxSize
)

// Create makes a repository in the existing directory d and opens it. An existing
// repository of the same mode is opened as it is; of another mode is an error
// wrapping ErrExists. The Repo uses d; the caller closes d after the Repo.
func Create(d *fsx.Dir, mode Mode, o Options) (*Repo, error) {
	if _, err := ParseMode(mode.String()); err != nil {
		return nil, err
	}
	if o.CollectionID != "" {
		if err := CheckCollectionID(o.CollectionID); err != nil {
			return nil, err
		}
	}
	exists, err := d.Exists("objects")
	if err != nil {
		return nil, err
	}
	if !exists {
		if err := createLayout(d, mode, o); err != nil {
			return nil, fmt.Errorf("create repository %s: %w", d.Path(), err)
		}
	}
	r, err := Open(d, o)
	if err != nil {
		return nil, err
	}
	if r.mode != mode {
		return nil, errors.Join(fmt.Errorf("create repository %s: one of mode %s %w", d.Path(), r.mode, ErrExists), r.Close())
	}
	return r, nil
}

// createLayout makes objects/ last: its presence marks a complete repository. A
// config that is there already, as after a crash, stays.
func createLayout(d *fsx.Dir, mode Mode, o Options) error {
	if exists, err := d.Exists(configName); err != nil {
		return err
	} else if !exists {
		if err := createConfig(d, mode, o); err != nil {
			return err
		}
	}
	for _, name := range []string{"tmp", "tmp/cache", "extensions", "state", "refs", "refs/heads", "refs/mirrors", "refs/remotes", "objects"} {
		if err := d.MkdirAll(name, 0o755); err != nil {
			return err
		}
	}
	return errors.Join(d.FsyncName("refs"), d.Fsync())
}

func createConfig(d *fsx.Dir, mode Mode, o Options) error {
	cfg := keyfile.New()
	err := errors.Join(cfg.SetInt("core", "repo_version", 1), cfg.SetString("core", "mode", mode.String()))
	if o.CollectionID != "" {
		err = errors.Join(err, cfg.SetString("core", "collection-id", o.CollectionID))
	}
	if err != nil {
		return err
	}
	return d.WriteFileAtomic(configName, cfg.Bytes(), 0o644)
}

// Open opens the repository in d and drops staging directories that a crash
// before the last boot left behind, if the caller may write there. The Repo uses
// d; the caller closes d after the Repo.
func Open(d *fsx.Dir, o Options) (*Repo, error) {
	r, err := open(d, o)
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", d.Path(), err)
	}
	r.dropStaleStaging()
	return r, nil
}

func open(d *fsx.Dir, o Options) (*Repo, error) {
	objects, err := d.OpenDir("objects")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no objects directory", ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	r := &Repo{dir: d, objects: objects}
	if err := r.loadConfig(o); err != nil {
		return nil, errors.Join(err, objects.Close())
	}
	if err := r.openParent(o); err != nil {
		return nil, errors.Join(err, objects.Close())
	}
	r.writeSplit = o.WriteSplitXattrs
	return r, nil
}

func (r *Repo) loadConfig(o Options) error {
	data, err := r.dir.ReadFile(configName, maxConfig)
	if err != nil {
		return err
	}
	cfg, err := keyfile.Parse(data)
	if err != nil {
		return fmt.Errorf("parse config: %w", err)
	}
	version, err := cfg.IntOr("core", "repo_version", 0)
	if err != nil {
		return err
	}
	if version != 1 {
		return fmt.Errorf("%w: repo_version %d", ErrUnsupported, version)
	}
	name, err := cfg.StringOr("core", "mode", "bare")
	if err != nil {
		return err
	}
	if r.mode, err = ParseMode(name); err != nil {
		return err
	}
	r.cfg = cfg
	r.opts, err = readSettings(cfg, o)
	return err
}

// configReader collects the first error of a series of look-ups.
type configReader struct {
	cfg *keyfile.File
	err error
}

func (c *configReader) bool(group, key string, def bool) bool {
	v, err := c.cfg.BoolOr(group, key, def)
	c.err = errors.Join(c.err, err)
	return v
}

func (c *configReader) int(group, key string, def int64) int64 {
	v, err := c.cfg.IntOr(group, key, def)
	c.err = errors.Join(c.err, err)
	return v
}

func readSettings(cfg *keyfile.File, o Options) (settings, error) {
	c := &configReader{cfg: cfg}
	s := settings{
		log: o.Logger, progress: o.Progress, bootID: o.BootID,
		fsync:          c.bool("core", "fsync", true) && !o.DisableFsync,
		zlibLevel:      int(c.int("archive", "zlib-level", 6)),
		locking:        c.bool("core", "locking", true),
		tombstones:     c.bool("core", "tombstone-commits", false),
		disableXattrs:  c.bool("core", "disable-xattrs", false),
		autoSummary:    c.bool("core", "auto-update-summary", false) || c.bool("core", "commit-update-summary", false),
		perObjectFsync: c.bool("core", "per-object-fsync", false) || o.PerObjectFsync,
		tmpExpiry:      seconds(c.int("core", "tmp-expiry-secs", 86400)),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.zlibLevel < 1 || s.zlibLevel > 9 {
		c.err = errors.Join(c.err, fmt.Errorf("%w: archive.zlib-level %d", ErrInvalid, s.zlibLevel))
	}
	s.lockTimeout = seconds(c.int("core", "lock-timeout-secs", 300))
	pct, bytes, err := minFree(cfg)
	s.minFreePct, s.minFreeBytes = pct, bytes
	threshold, perr := payloadThreshold(cfg)
	s.payloadThreshold = threshold
	return s, errors.Join(c.err, err, perr)
}

func seconds(n int64) time.Duration {
	if n < 0 || n > math.MaxInt64/int64(time.Second) {
		return -1
	}
	return time.Duration(n) * time.Second
}

// Close releases the repository's handles, not the Dir it was opened with.
func (r *Repo) Close() error { return errors.Join(r.objects.Close(), r.closeParent()) }

// Mode tells how content is stored.
func (r *Repo) Mode() Mode { return r.mode }

// Dir gives the repository's directory.
func (r *Repo) Dir() *fsx.Dir { return r.dir }

// Config gives a copy of the config as it was at Open.
func (r *Repo) Config() *keyfile.File { return r.cfg.Clone() }

// SetConfig replaces the config file durably and adopts it. The mode cannot change.
// It must not run while another goroutine uses the Repo.
func (r *Repo) SetConfig(cfg *keyfile.File) error {
	mode, err := cfg.StringOr("core", "mode", "bare")
	if err != nil {
		return err
	}
	if m, err := ParseMode(mode); err != nil || m != r.mode {
		return fmt.Errorf("write config: %w: mode %q of a %s repository", ErrInvalid, clip(mode), r.mode)
	}
	s, err := readSettings(cfg, Options{Logger: r.opts.log, Progress: r.opts.progress, BootID: r.opts.bootID})
	if err != nil {
		return err
	}
	if err := r.dir.WriteFileAtomic(configName, cfg.Bytes(), 0o644); err != nil {
		return err
	}
	s.fsync = s.fsync && r.opts.fsync
	r.cfg, r.opts = cfg.Clone(), s
	return nil
}

// CollectionID gives core.collection-id, "" if there is none.
func (r *Repo) CollectionID() string {
	id, _ := r.cfg.GetString("core", "collection-id")
	return id
}

// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
)

const (
	kernelManifest = "manifest"
	kernelContent  = "files"
	maxManifest    = 1 << 20
	// keptKernels is how many entries the cache has at most, the last used ones.
	keptKernels = 4
)

// errNotKept: what the commands did is more than the cache can repeat.
var errNotKept = errors.New("not kept")

// kernelCache keeps the files that the commands of one key made. All methods of a nil
// cache do nothing. See docs/formats/compose-cache.md.
type kernelCache struct {
	dir  *fsx.Dir
	root *fsx.Dir
	key  string
	log  *slog.Logger
}

// keptFile is one line of a manifest.
type keptFile struct {
	name string
	mode uint32
	sum  [sha256.Size]byte
}

// openKernelCache gives none without an initramfs: depmod alone takes hardly longer
// than to look at the tree.
func (r *runner) openKernelCache(k kernelRun) (*kernelCache, error) {
	if r.o.KernelCache == nil || k.dracut == nil {
		return nil, nil
	}
	key, err := r.kernelKey(k)
	if err != nil {
		return nil, fmt.Errorf("look for kept files: %w", err)
	}
	return &kernelCache{dir: r.o.KernelCache, root: r.root, key: key, log: r.log}, nil
}

// take links the files of the key into the tree; false: there are none. What turns out
// damaged is dropped.
func (c *kernelCache) take(version string) (bool, error) {
	if c == nil {
		return false, nil
	}
	d, err := c.dir.OpenDir(c.key)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer d.Close()
	files, err := readKept(d)
	if err != nil {
		c.log.Warn("drop damaged files of the kernel from the cache", "key", c.key, "error", err)
		return false, c.dir.RemoveAll(c.key)
	}
	for _, f := range files {
		to := path.Join(modulesDir, version, f.name)
		if err := c.root.RemoveAll(to); err != nil {
			return false, err
		}
		if err := d.Link(path.Join(kernelContent, f.name), c.root, to); err != nil {
			return false, err
		}
	}
	return true, c.dir.Lutimes(c.key, time.Now())
}

// readKept reads and verifies an entry.
func readKept(d *fsx.Dir) ([]keptFile, error) {
	text, err := d.ReadFile(kernelManifest, maxManifest)
	if err != nil {
		return nil, err
	}
	files, err := parseManifest(string(text))
	if err != nil {
		return nil, err
	}
	content, err := d.OpenDir(kernelContent)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	for _, f := range files {
		have, err := keptFileOf(content, f.name)
		if err != nil {
			return nil, err
		}
		if have != f {
			return nil, fmt.Errorf("%s is not what was kept", f.name)
		}
	}
	return files, nil
}

// keptFileOf describes a file of root that has no attributes.
func keptFileOf(d *fsx.Dir, name string) (keptFile, error) {
	out := keptFile{name: name}
	f, err := d.Open(name)
	if err != nil {
		return out, err
	}
	defer f.Close()
	st, err := fsx.FStat(f)
	if err != nil {
		return out, err
	}
	if !st.IsRegular() || st.UID != 0 || st.GID != 0 {
		return out, fmt.Errorf("%s: mode %o, owner %d:%d", name, st.Mode, st.UID, st.GID)
	}
	out.mode = st.Mode & 0o7777
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return out, err
	}
	h.Sum(out.sum[:0])
	return out, nil
}

// manifest gives the lines of the files after the checksum of these lines.
func manifest(files []keptFile) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "%x %04o %s\n", f.sum, f.mode, f.name)
	}
	return fmt.Sprintf("%x\n%s", sha256.Sum256([]byte(b.String())), b.String())
}

func parseManifest(text string) ([]keptFile, error) {
	_, lines, _ := strings.Cut(text, "\n")
	var files []keptFile
	for line := range strings.Lines(lines) {
		var f keptFile
		var sum []byte
		if _, err := fmt.Sscanf(line, "%x %o %s\n", &sum, &f.mode, &f.name); err != nil {
			return nil, fmt.Errorf("line %q of the manifest: %w", line, err)
		}
		if len(sum) != len(f.sum) || !keptName(f.name) {
			return nil, fmt.Errorf("line %q of the manifest: checksum or name is wrong", line)
		}
		copy(f.sum[:], sum)
		files = append(files, f)
	}
	// The one form that is written: nothing is missing, and nothing more is there.
	if len(files) == 0 || manifest(files) != text {
		return nil, errors.New("the manifest is damaged")
	}
	return files, nil
}

func keptName(name string) bool {
	return name != "" && name[0] != '.' && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '/' || r > '~' })
}

// keep stores what the commands made, if that is all they did.
func (c *kernelCache) keep(upper *fsx.Dir, version string) error {
	if c == nil {
		return nil
	}
	dir := path.Join(modulesDir, version)
	names, err := c.made(upper, ".", dir)
	if errors.Is(err, errNotKept) || err == nil && len(names) == 0 {
		c.log.Debug("files of the kernel are not kept", "reason", err)
		return nil
	}
	if err != nil {
		return err
	}
	made, err := upper.OpenDir(dir)
	if err != nil {
		return err
	}
	defer made.Close()
	return errors.Join(c.store(made, names), c.evict())
}

// made lists the new files of the kernel's directory. Any other change is errNotKept.
func (c *kernelCache) made(upper *fsx.Dir, dir, wanted string) ([]string, error) {
	entries, err := upper.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		full := path.Join(dir, e.Name)
		st, err := upper.Lstat(full)
		if err != nil {
			return nil, err
		}
		plain, err := c.plain(upper, full)
		if err != nil {
			return nil, err
		}
		switch {
		case st.IsDir():
			if err := c.sameDir(full, st, plain); err != nil {
				return nil, err
			}
			more, err := c.made(upper, full, wanted)
			if err != nil {
				return nil, err
			}
			names = append(names, more...)
		case st.IsRegular() && dir == wanted && plain && keptName(e.Name) && st.Nlink == 1 && st.UID == 0 && st.GID == 0:
			names = append(names, e.Name)
		default:
			return nil, fmt.Errorf("%w: /%s was changed", errNotKept, full)
		}
	}
	return names, nil
}

// plain tells that an entry of the upper layer has no attributes but the overlay's.
func (c *kernelCache) plain(upper *fsx.Dir, name string) (bool, error) {
	xattrs, err := upper.Xattrs(name)
	if err != nil {
		return false, err
	}
	for _, x := range xattrs {
		if !strings.HasPrefix(x.Name, "trusted.overlay.") || x.Name == "trusted.overlay.opaque" {
			return false, nil
		}
	}
	return true, nil
}

// sameDir refuses a directory that is new or has changed itself.
func (c *kernelCache) sameDir(name string, st fsx.Stat, plain bool) error {
	old, err := c.root.Lstat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	xattrs := 0
	if err == nil {
		list, err := c.root.Xattrs(name)
		if err != nil {
			return err
		}
		xattrs = len(list)
	}
	if err != nil || !plain || xattrs > 0 || old.Mode != st.Mode || old.UID != st.UID || old.GID != st.GID {
		return fmt.Errorf("%w: directory /%s was changed", errNotKept, name)
	}
	return nil
}

// store makes an entry, which appears complete: its manifest knows the bytes, so that
// one that a crash spoilt is not taken.
func (c *kernelCache) store(made *fsx.Dir, names []string) error {
	tmp, err := c.dir.Mkdtemp("tmp-")
	if err != nil {
		return err
	}
	if err := c.dir.Mkdir(path.Join(tmp, kernelContent), 0o755); err != nil {
		return err
	}
	var files []keptFile
	for _, name := range names {
		f, err := keptFileOf(made, name)
		if err != nil {
			return err
		}
		if err := made.Link(name, c.dir, path.Join(tmp, kernelContent, name)); err != nil {
			return err
		}
		files = append(files, f)
	}
	if err := c.dir.WriteFile(path.Join(tmp, kernelManifest), []byte(manifest(files)), 0o644); err != nil {
		return err
	}
	if err := c.dir.RemoveAll(c.key); err != nil {
		return err
	}
	return c.dir.Rename(tmp, c.dir, c.key)
}

// evict removes the entries that were used longest ago, and whatever is no entry.
func (c *kernelCache) evict() error {
	entries, err := c.dir.ReadDir(".")
	if err != nil {
		return err
	}
	type entry struct {
		name string
		used time.Time
	}
	var list []entry
	for _, e := range entries {
		st, err := c.dir.Lstat(e.Name)
		if err != nil {
			return err
		}
		if sum, err := hex.DecodeString(e.Name); err != nil || len(sum) != sha256.Size {
			st.Mtime = time.Time{}
		}
		list = append(list, entry{e.Name, st.Mtime})
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Or(b.used.Compare(a.used), cmp.Compare(a.name, b.name)) })
	for i, e := range list {
		if i < keptKernels && !e.used.IsZero() {
			continue
		}
		if err := c.dir.RemoveAll(e.name); err != nil {
			return err
		}
	}
	return nil
}

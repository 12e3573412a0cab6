// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// TarOptions say how WriteTar reads an archive.
type TarOptions struct {
	// AutocreateParents makes directories that the archive has no entry for, the top
	// included: mode 0755, owned like the entry that needs them.
	AutocreateParents bool
	// Rename translates the path of every entry and of every hard link target. Paths
	// are relative, "" for the top. TarPathFilter makes one.
	Rename func(path string) string
	// Whiteouts makes an entry .wh.NAME remove NAME from the tree instead of being
	// recorded, and .wh..wh..opq empty its directory, as layers of container images
	// mean it.
	Whiteouts bool
	// SkipUnsupported leaves devices and pipes out; else they are an error wrapping
	// ErrUnsupported.
	SkipUnsupported bool
}

// TarPathFilter makes a TarOptions.Rename of REGEX,REPLACEMENT: every match of REGEX
// is replaced; \0 to \9 and \g<N> in REPLACEMENT stand for the match and its groups.
func TarPathFilter(filter string) (func(string) string, error) {
	expr, repl, ok := strings.Cut(filter, ",")
	if !ok {
		return nil, worded(ErrInvalid, "Missing ',' in --tar-pathname-filter")
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("--tar-pathname-filter: %w: %w", ErrInvalid, err)
	}
	template, err := expandTemplate(repl)
	if err != nil {
		return nil, fmt.Errorf("--tar-pathname-filter: %w", err)
	}
	return func(p string) string { return re.ReplaceAllString(p, template) }, nil
}

// expandTemplate turns backslash references into those of package regexp.
func expandTemplate(repl string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(repl); i++ {
		switch c := repl[i]; {
		case c == '$':
			b.WriteString("$$")
		case c != '\\':
			b.WriteByte(c)
		case i+1 < len(repl) && repl[i+1] >= '0' && repl[i+1] <= '9':
			i++
			b.WriteString("${" + repl[i:i+1] + "}")
		case strings.HasPrefix(repl[i:], `\g<`) && strings.Contains(repl[i:], ">"):
			end := i + strings.IndexByte(repl[i:], '>')
			b.WriteString("${" + repl[i+3:end] + "}")
			i = end
		case i+1 < len(repl) && repl[i+1] == '\\':
			i++
			b.WriteByte('\\')
		default:
			return "", fmt.Errorf("%w: replacement %q", ErrInvalid, clip(repl))
		}
	}
	return b.String(), nil
}

// WriteTar merges an archive into m: tar in any format that archive/tar reads or
// cpio, plain or compressed with gzip, bzip2, xz or zstd. Hard links may come before
// their target. Entries whose path leaves the tree, lacks its parent directory or
// leads through a file are errors, as is any entry that is cut short. Symbolic links
// are recorded and never followed. DevIno and Consume have no meaning here.
func (t *Txn) WriteTar(ctx context.Context, r io.Reader, m *MTree, o CommitOptions, to TarOptions) error {
	err := t.check(ctx)
	if err == nil {
		err = t.writeTar(ctx, r, m, o.forTxn(t), to)
	}
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

func (t *Txn) writeTar(ctx context.Context, r io.Reader, m *MTree, o CommitOptions, to TarOptions) error {
	a, err := openArchive(r)
	if err != nil {
		return err
	}
	w := &tarWriter{t: t, o: o, to: to, root: m, pool: t.newPool(ctx, o.Workers), links: map[string][]tarLink{}, fresh: map[*MTree]bool{}}
	w.slots = make(chan struct{}, tarBuffers)
	err = w.pool.finish(w.entries(a))
	if err = errors.Join(err, a.close()); err != nil {
		return err
	}
	if err := w.hardLinks(); err != nil {
		return err
	}
	return w.emptyTop()
}

const (
	tarBuffers    = 16 // small files in memory at a time
	maxTarEntries = 1 << 22
	defaultDir    = syscall.S_IFDIR | 0o755
)

type tarWriter struct {
	t     *Txn
	o     CommitOptions
	to    TarOptions
	root  *MTree
	pool  *writePool
	slots chan struct{}
	links map[string][]tarLink // by the path of their target
	order []string             // of the targets
	fresh map[*MTree]bool      // with Whiteouts: directories that the archive itself has
}

// tarLink is a hard link; payload tells that it came with the content.
type tarLink struct {
	tree    *MTree
	name    string
	payload bool
}

func (w *tarWriter) entries(a *archiveReader) error {
	for n := 0; ; n++ {
		if w.pool.ctx.Err() != nil {
			return context.Cause(w.pool.ctx)
		}
		e, err := a.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && n >= maxTarEntries {
			err = fmt.Errorf("%w: more than %d entries", ErrInvalid, maxTarEntries)
		}
		if err != nil {
			return err
		}
		if err := w.entry(e); err != nil {
			return fmt.Errorf("%q: %w", clip(e.path), err)
		}
	}
}

// cleanPath makes a path of an archive relative, as libostree does: it takes away
// leading slashes, "/.." and "./". Other "." and ".." are refused later.
func cleanPath(p string) string {
	for strings.HasPrefix(p, "/") {
		p = p[1:]
		if strings.HasPrefix(p, "../") {
			p = p[2:]
		}
	}
	for {
		if rest, ok := strings.CutPrefix(p, "./"); ok {
			p = rest
		} else if rest, ok := strings.CutPrefix(p, "/"); ok {
			p = rest
		} else {
			break
		}
	}
	if p == "." {
		return ""
	}
	return p
}

// finalPath gives the path of an entry in the tree, "" for the top.
func (w *tarWriter) finalPath(p string) (string, error) {
	p = cleanPath(p)
	if w.to.Rename != nil {
		p = w.to.Rename(p)
	}
	parts := slices.DeleteFunc(strings.Split(p, "/"), func(s string) bool { return s == "" })
	if len(parts) > maxTreeDepth {
		return "", fmt.Errorf("%w: nested too deeply", ErrInvalid)
	}
	for _, name := range parts {
		if err := checkFileName(name); err != nil {
			return "", err
		}
	}
	return strings.Join(parts, "/"), nil
}

func (w *tarWriter) entry(e *archiveEntry) error {
	p, err := w.finalPath(e.path)
	if err != nil {
		return err
	}
	if w.to.Whiteouts && strings.HasPrefix(path.Base(p), ".wh.") {
		return w.whiteout(p)
	}
	h := e.header
	if w.o.SkipXattrs || w.o.CanonicalPermissions {
		h.Xattrs = nil
	}
	switch h.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR, syscall.S_IFREG, syscall.S_IFLNK:
	default:
		if w.to.SkipUnsupported {
			return nil
		}
		return worded(ErrUnsupported, "Unsupported file type for path %q", clip(p))
	}
	if skip, err := w.o.apply("/"+p, &h, false); err != nil || skip {
		return err
	}
	parent, err := w.parent(p, e.header)
	if err != nil {
		return err
	}
	if h.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		return w.dir(parent, p, h)
	}
	if p == "" {
		return fmt.Errorf("%w: the top is not a directory", ErrInvalid)
	}
	return w.file(parent, p, h, e)
}

// parent finds the directory of a path. The owner of directories made for it is that
// of the entry in the archive, whatever the options say.
func (w *tarWriter) parent(p string, h FileHeader) (*MTree, error) {
	m, at := w.root, "/"
	if p == "" {
		return m, nil
	}
	if w.to.AutocreateParents && m.MetaChecksum().IsZero() {
		if err := w.madeDir(m, at, h); err != nil {
			return nil, err
		}
	}
	parts := strings.Split(p, "/")
	for _, name := range parts[:len(parts)-1] {
		at = path.Join(at, name)
		sub, err := m.Dir(name, false)
		if errors.Is(err, ErrNotFound) && w.to.AutocreateParents {
			if sub, err = m.Dir(name, true); err == nil {
				err = w.madeDir(sub, at, h)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("parent directory: %w", err)
		}
		m = sub
		w.touch(m)
	}
	return m, nil
}

func (w *tarWriter) touch(m *MTree) {
	if w.to.Whiteouts {
		w.fresh[m] = true
	}
}

func (w *tarWriter) madeDir(m *MTree, p string, h FileHeader) error {
	d := FileHeader{UID: h.UID, GID: h.GID, Mode: defaultDir}
	if err := w.o.label(p, &d); err != nil {
		return err
	}
	return m.SetMeta(dirMetaOf(d))
}

func (w *tarWriter) dir(parent *MTree, p string, h FileHeader) error {
	m := parent
	if p != "" {
		var err error
		if m, err = parent.Dir(path.Base(p), true); err != nil {
			return err
		}
	}
	w.touch(m)
	return m.SetMeta(dirMetaOf(h))
}

// file stores a file that brings content, and puts hard links off to the end. A
// link with content, as cpio has, gives it to all links of its target.
func (w *tarWriter) file(parent *MTree, p string, h FileHeader, e *archiveEntry) error {
	name := path.Base(p)
	if e.linkTo != "" {
		to, err := w.finalPath(e.linkTo)
		if err != nil {
			return fmt.Errorf("hard link to %q: %w", clip(e.linkTo), err)
		}
		if _, ok := w.links[to]; !ok {
			w.order = append(w.order, to)
		}
		w.links[to] = append(w.links[to], tarLink{parent, name, e.size > 0})
		if e.size == 0 {
			return nil
		}
	}
	if _, err := parent.Dir(name, false); err == nil {
		return fmt.Errorf("file %q: a directory %w", clip(name), ErrExists)
	}
	if h.IsSymlink() || e.size > smallContent {
		return w.stream(parent, name, h, e)
	}
	return w.small(parent, name, h, e)
}

// stream stores one file while it is read.
func (w *tarWriter) stream(parent *MTree, name string, h FileHeader, e *archiveEntry) error {
	size := e.size
	if h.IsSymlink() {
		size = 0
	}
	sum, err := w.t.WriteContent(w.pool.ctx, h, size, &ctxReader{w.pool.ctx, e.content})
	if err == nil {
		w.pool.known(parent, name, sum)
	}
	return err
}

// small reads a file and leaves the rest to the workers.
func (w *tarWriter) small(parent *MTree, name string, h FileHeader, e *archiveEntry) error {
	select {
	case w.slots <- struct{}{}:
	case <-w.pool.ctx.Done():
		return context.Cause(w.pool.ctx)
	}
	buf := w.t.r.pools.buffer()
	release := func() {
		w.t.r.pools.buffers.Put(buf)
		<-w.slots
	}
	data := (*buf)[:e.size]
	if err := readExactly(e.content, data); err != nil {
		release()
		return err
	}
	return w.pool.submit(parent, name, poolJob{size: e.size, drop: release, run: func(ctx context.Context) (Checksum, error) {
		return w.t.writeBuffered(ctx, h, data)
	}})
}

// hardLinks gives every link the object of its target, or of the link that came with
// the content.
func (w *tarWriter) hardLinks() error {
	for _, target := range w.order {
		if err := w.hardLink(target, w.links[target]); err != nil {
			return fmt.Errorf("hard link to %q: %w", clip(target), err)
		}
	}
	return nil
}

func (w *tarWriter) hardLink(target string, links []tarLink) error {
	m := w.root
	if dir := path.Dir(target); dir != "." {
		for name := range strings.SplitSeq(dir, "/") {
			var err error
			if m, err = m.Dir(name, false); err != nil {
				return err
			}
		}
	}
	if i := slices.IndexFunc(links, func(l tarLink) bool { return l.payload }); i >= 0 {
		sum, ok := links[i].tree.File(links[i].name)
		if !ok {
			return fmt.Errorf("link %q: %w", clip(links[i].name), ErrNotFound)
		}
		if err := m.SetFile(path.Base(target), sum); err != nil {
			return err
		}
	}
	sum, ok := m.File(path.Base(target))
	if !ok {
		return fmt.Errorf("target: %w", ErrNotFound)
	}
	for _, l := range links {
		if err := l.tree.SetFile(l.name, sum); err != nil {
			return err
		}
	}
	return nil
}

// emptyTop makes the top directory of an archive without entries.
func (w *tarWriter) emptyTop() error {
	if !w.to.AutocreateParents || !w.root.MetaChecksum().IsZero() {
		return nil
	}
	h := FileHeader{Mode: defaultDir}
	if _, err := w.o.apply("/", &h, false); err != nil {
		return err
	}
	return w.root.SetMeta(dirMetaOf(h))
}

const opaqueName = ".wh..wh..opq"

// whiteout removes what lower layers brought, wherever in the archive it stands: of
// what the archive itself has only directories are in the tree yet.
func (w *tarWriter) whiteout(p string) error {
	m := w.root
	if dir := path.Dir(p); dir != "." {
		for name := range strings.SplitSeq(dir, "/") {
			sub, err := m.Dir(name, false)
			if errors.Is(err, ErrNotFound) {
				return nil // nothing below it
			}
			if err != nil {
				return err
			}
			m = sub
		}
	}
	if path.Base(p) == opaqueName {
		w.hide(m)
		return nil
	}
	name := strings.TrimPrefix(path.Base(p), ".wh.")
	if sub, err := m.Dir(name, false); err == nil && w.fresh[sub] {
		w.hide(sub)
		return nil
	}
	m.Remove(name)
	return nil
}

// hide empties a directory but for the directories of this archive.
func (w *tarWriter) hide(m *MTree) {
	for _, f := range m.Files() {
		m.Remove(f.Name)
	}
	for _, name := range m.Dirs() {
		if sub, err := m.Dir(name, false); err == nil && w.fresh[sub] {
			w.hide(sub)
			continue
		}
		m.Remove(name)
	}
}

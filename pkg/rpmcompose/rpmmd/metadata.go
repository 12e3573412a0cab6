// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Bounds of what a repository may make us read.
const (
	maxRepomd    = 16 << 20
	maxSignature = 1 << 20
	maxKeyFile   = 16 << 20
	maxList      = 2 << 30
)

// Metadata is a loaded repository. It is safe for concurrent use while the cache directory given to [Load]
// is open.
type Metadata struct {
	Repo     Repo
	Revision string
	// Checksum is the SHA-256 of repomd.xml, which pins everything else.
	Checksum string
	// Packages are in file order.
	Packages []Package

	base    string           // the address that answered
	digests []fetch.Checksum // of repomd.xml after the metalink, any of them
	client  *http.Client
	cache   *fsx.Dir
	options Options
	lists   map[string]list

	files fileSearch
}

// Load reads a repository: repomd.xml, its signature if the repository asks for one, and the list of
// packages. The lists are kept in cache by checksum; those of a local repository are read in place.
//
// An error names the repository and the file, and wraps [ErrSignature], [ErrSyntax], [fetch.ErrChecksum]
// or [fetch.ErrNotFound].
func Load(ctx context.Context, repo Repo, cache *fsx.Dir, o Options) (*Metadata, error) {
	m := &Metadata{Repo: repo, cache: cache, options: o}
	if err := m.load(ctx); err != nil {
		return nil, fmt.Errorf("load repository %s: %w", repo.ID, err)
	}
	return m, nil
}

func (m *Metadata) load(ctx context.Context) (err error) {
	if m.client, err = m.Repo.Client(m.options); err != nil {
		return err
	}
	if err := m.findBase(ctx); err != nil {
		return err
	}
	primary, _ := m.list("primary")
	if m.Packages, err = m.readParsed(primary); err == nil {
		return nil
	}
	return m.readPrimary(ctx, primary)
}

// readPrimary reads the list of packages while it is decompressed, and keeps its parsed form.
func (m *Metadata) readPrimary(ctx context.Context, l list) error {
	text, err := m.openList(ctx, "primary")
	if err != nil {
		return err
	}
	defer text.close()
	again := func() ([]byte, error) { return m.readText(ctx, "primary") }
	form, err := readPrimary(text, again, partSize)
	if err != nil {
		return fmt.Errorf("%s: read primary list: %w", l.location, err)
	}
	var kept sync.WaitGroup
	if text.n >= minParsed && len(form) <= maxParsed {
		kept.Go(func() { m.keepParsed(l, form) })
	}
	m.Packages, err = decodeParsedBody(form[parsedDigestEnd:], m.Repo.ID)
	kept.Wait()
	return err
}

// minParsed is the size of a list that is worth keeping in its parsed form, in bytes.
const minParsed = 1 << 20

// readParsed looks for the parsed form in the cache. Any error means that the list has to be read.
func (m *Metadata) readParsed(l list) ([]Package, error) {
	if _, err := l.checksum.Hash(); err != nil || m.cache == nil {
		return nil, errors.Join(fs.ErrNotExist, err)
	}
	data, err := m.cache.ReadFile(parsedName(l.checksum), maxParsed)
	if err != nil {
		return nil, err
	}
	return decodeParsed(data, m.Repo.ID)
}

// keepParsed writes the parsed form. That the disk is full, say, is no reason to fail: it only saves time.
func (m *Metadata) keepParsed(l list, form []byte) {
	if m.cache == nil {
		return
	}
	sealParsed(form)
	err := m.cache.MkdirAll("parsed", 0o755)
	if err == nil {
		err = m.cache.WriteFileAtomic(parsedName(l.checksum), form, 0o644)
	}
	if err != nil && m.options.Log != nil {
		m.options.Log.Debug("parsed list is not kept", "repository", m.Repo.ID, "error", err)
	}
}

func (m *Metadata) fetchOptions() fetch.Options {
	return fetch.Options{Client: m.client, Log: m.options.Log, Progress: m.options.Progress, Offline: m.options.Offline}
}

// findBase reads repomd.xml from the first address that answers with a good one.
func (m *Metadata) findBase(ctx context.Context) error {
	bases := m.Repo.BaseURLs
	if len(bases) == 0 {
		var err error
		if bases, err = m.mirrors(ctx); err != nil {
			return err
		}
		m.Repo.BaseURLs = bases
	}
	var last error
	for _, base := range bases {
		last = m.readRepomd(ctx, base)
		if last == nil || ctx.Err() != nil {
			break
		}
	}
	return last
}

func (m *Metadata) readRepomd(ctx context.Context, base string) error {
	address, err := fetch.Join(base, "repodata/repomd.xml")
	if err != nil {
		return err
	}
	data, err := m.get(ctx, address, maxRepomd)
	if err != nil {
		return err
	}
	if err := m.checkMetalink(data); err != nil {
		return fmt.Errorf("read %s: %w", address, err)
	}
	if m.Repo.RepoGPGCheck {
		if err := m.checkSignature(ctx, address, data); err != nil {
			return err
		}
	}
	m.Revision, m.lists, err = parseRepomd(data)
	if err != nil {
		return fmt.Errorf("read %s: %w", address, err)
	}
	if !m.Has("primary") {
		return fmt.Errorf("read %s: no primary list: %w", address, ErrSyntax)
	}
	sum := sha256.Sum256(data)
	m.Checksum, m.base = hex.EncodeToString(sum[:]), base
	return nil
}

// checkSignature demands a good repomd.xml.asc beside repomd.xml.
func (m *Metadata) checkSignature(ctx context.Context, address string, data []byte) error {
	sig, err := m.get(ctx, address+".asc", maxSignature)
	if errors.Is(err, fetch.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if err != nil {
		return err
	}
	kr, err := m.Repo.keyring(func(address string) ([]byte, error) { return m.get(ctx, address, maxKeyFile) })
	if err != nil {
		return err
	}
	if _, err := rpm.VerifyDetached(data, sig, kr, rpm.VerifyOptions{Time: m.options.Time, AllowSHA1: m.options.AllowSHA1}); err != nil {
		return fmt.Errorf("verify %s: %w: %w", address, ErrSignature, err)
	}
	return nil
}

// Keyring reads the repository's keys: those of its gpgkey addresses and its own Keys. Keys that came over the
// network are kept in cache, where an offline run finds them; nil keeps none.
func (r *Repo) Keyring(ctx context.Context, cache *fsx.Dir, o Options) (*rpm.Keyring, error) {
	client, err := r.Client(o)
	if err != nil {
		return nil, err
	}
	return r.keyring(func(address string) ([]byte, error) {
		return smallFile(ctx, cache, address, maxKeyFile, fetch.Options{Client: client, Log: o.Log, Offline: o.Offline})
	})
}

func (r *Repo) keyring(get func(address string) ([]byte, error)) (*rpm.Keyring, error) {
	files := append([][]byte(nil), r.Keys...)
	for _, address := range r.GPGKeys {
		data, err := get(address)
		if err != nil {
			return nil, fmt.Errorf("read key of repository %s: %w", r.ID, err)
		}
		files = append(files, data)
	}
	kr, err := rpm.LoadKeyring(files...)
	if err != nil {
		return nil, fmt.Errorf("read keys of repository %s: %w", r.ID, err)
	}
	return kr, nil
}

// Has says whether the repository offers a list, such as "filelists", "group" or "updateinfo".
func (m *Metadata) Has(kind string) bool {
	_, ok := m.list(kind)
	return ok
}

// list finds a list under its own name, or the zchunk form where that is all there is.
func (m *Metadata) list(kind string) (list, bool) {
	l, ok := m.lists[kind]
	if !ok {
		l, ok = m.lists[kind+"_zck"]
	}
	return l, ok
}

// readText brings a list, verifies it and gives its decompressed text.
func (m *Metadata) readText(ctx context.Context, kind string) ([]byte, error) {
	r, err := m.openList(ctx, kind)
	if err != nil {
		return nil, err
	}
	defer r.close()
	return r.readAll()
}

// openList brings a list, verifies it and gives a reader of its decompressed text.
func (m *Metadata) openList(ctx context.Context, kind string) (*openedList, error) {
	l, ok := m.list(kind)
	if !ok {
		return nil, fmt.Errorf("list %s: %w", kind, ErrNoList)
	}
	addresses, err := m.addresses(l.location)
	if err != nil {
		return nil, err
	}
	item := fetch.Item{URLs: addresses, Checksum: l.checksum, Size: l.size, Name: kind + " list"}
	files, err := fetch.Fetch(ctx, m.cache, []fetch.Item{item}, m.fetchOptions())
	if err != nil {
		return nil, err
	}
	r, err := l.open(files[0])
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", addresses[0], err)
	}
	r.address = addresses[0]
	return r, nil
}

// openedList gives the text of a list. The size that repomd.xml promises bounds what a small compressed file
// may grow to.
type openedList struct {
	address  string
	text     io.ReadCloser
	file     io.Closer
	packed   int64 // size of the file
	n        int64 // bytes given so far
	promised int64 // 0: unknown
}

// close frees the decompressor and closes the file, which was only read.
func (r *openedList) close() {
	_ = r.text.Close()
	_ = r.file.Close()
}

// Read gives the next bytes. The end is only an end where the size is right.
func (r *openedList) Read(p []byte) (int, error) {
	n, err := r.text.Read(p)
	r.n += int64(n)
	limit := int64(maxList)
	if r.promised > 0 {
		limit = min(limit, r.promised)
	}
	switch {
	case r.n > limit:
		err = fmt.Errorf("read %s: more than the %d bytes that repomd.xml promises: %w", r.address, limit, fetch.ErrChecksum)
	case errors.Is(err, io.EOF):
		if err := checkOpenSize(r.n, r.promised); err != nil {
			return n, fmt.Errorf("read %s: %w", r.address, err)
		}
		return n, io.EOF
	case err != nil:
		err = fmt.Errorf("read %s: offset %d: %w: %w", r.address, r.n, ErrSyntax, err)
	}
	return n, err
}

func (r *openedList) readAll() ([]byte, error) {
	buf := make([]byte, 0, 1<<20)
	if r.promised > 0 && r.promised <= 64*max(r.packed, 1) {
		buf = make([]byte, 0, min(r.promised, 256<<20)+1)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (l list) open(file fetch.File) (r *openedList, err error) {
	f, err := file.Open()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	r = &openedList{file: f, packed: file.Size, promised: l.openSize}
	magic := make([]byte, len(zchunkMagic))
	if n, _ := f.ReadAt(magic, 0); string(magic[:n]) == zchunkMagic {
		text, err := l.openZchunk(f, file.Size)
		if err != nil {
			return nil, err
		}
		// Its sizes have been checked; a compressed file in it has another one.
		r.text, r.promised = io.NopCloser(bytes.NewReader(text)), 0
		return r, nil
	}
	r.text, err = rpm.Decompress(f, "")
	return r, err
}

func checkOpenSize(got, promised int64) error {
	if promised > 0 && got != promised {
		return fmt.Errorf("%d bytes where repomd.xml promises %d: %w", got, promised, fetch.ErrChecksum)
	}
	return nil
}

// openZchunk gives the text of a zchunk file. A list named X.xml.gz.zck holds a compressed file.
func (l list) openZchunk(f io.ReaderAt, size int64) ([]byte, error) {
	limit := int64(maxList)
	if l.openSize > 0 {
		limit = min(limit, l.openSize)
	}
	raw := make([]byte, min(size, maxList))
	if _, err := f.ReadAt(raw, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	text, err := readZchunk(raw, limit)
	if err != nil {
		return nil, err
	}
	if err := checkOpenSize(int64(len(text)), l.openSize); err != nil {
		return nil, err
	}
	z, err := rpm.Decompress(bytes.NewReader(text), "")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	defer z.Close()
	inner, err := io.ReadAll(io.LimitReader(z, maxList+1))
	if err != nil || int64(len(inner)) > maxList {
		return nil, fmt.Errorf("read compressed list in zchunk: %w", errors.Join(ErrSyntax, err))
	}
	return inner, nil
}

// Item gives what [fetch.Fetch] needs to bring a package file.
func (m *Metadata) Item(p *Package) (fetch.Item, error) {
	item := fetch.Item{Checksum: p.Checksum, Size: p.Size, Name: p.NEVRA.String(), Client: m.client}
	var err error
	if p.Base != "" {
		var u string
		u, err = fetch.Join(p.Base, p.Location)
		item.URLs = []string{u}
	} else {
		item.URLs, err = m.addresses(p.Location)
	}
	if err != nil {
		return fetch.Item{}, fmt.Errorf("locate %s of repository %s: %w", p.NEVRA, m.Repo.ID, err)
	}
	return item, nil
}

// addresses are where a file of the repository lies: at the mirror that answered first, then at the others.
func (m *Metadata) addresses(location string) ([]string, error) {
	var out []string
	for i, b := range append([]string{m.base}, m.Repo.BaseURLs...) {
		if i > 0 && b == m.base {
			continue
		}
		u, err := fetch.Join(b, location)
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}

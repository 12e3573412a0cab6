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

	filesOnce sync.Once
	files     *fileIndex
	filesErr  error
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
	data, err := m.readText(ctx, "primary")
	if err != nil {
		return err
	}
	m.Packages, err = ParsePrimary(data, m.Repo.ID)
	if err != nil {
		return fmt.Errorf("%s: %w", primary.location, err)
	}
	if len(data) >= minParsed {
		m.keepParsed(primary)
	}
	return nil
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
func (m *Metadata) keepParsed(l list) {
	data, ok := encodeParsed(m.Packages)
	if !ok || m.cache == nil {
		return
	}
	err := m.cache.MkdirAll("parsed", 0o755)
	if err == nil {
		err = m.cache.WriteFileAtomic(parsedName(l.checksum), data, 0o644)
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

// Keyring reads the repository's keys: those of its gpgkey addresses and its own Keys.
func (r *Repo) Keyring(ctx context.Context, o Options) (*rpm.Keyring, error) {
	client, err := r.Client(o)
	if err != nil {
		return nil, err
	}
	return r.keyring(func(address string) ([]byte, error) {
		return fetch.Get(ctx, address, maxKeyFile, fetch.Options{Client: client, Log: o.Log})
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

// readText brings a list, verifies it and gives its decompressed text. The size that repomd.xml promises
// bounds what a small compressed file may grow to.
func (m *Metadata) readText(ctx context.Context, kind string) ([]byte, error) {
	l, ok := m.list(kind)
	if !ok {
		return nil, fmt.Errorf("list %s: %w", kind, ErrNoList)
	}
	addresses, err := m.addresses(l.location)
	if err != nil {
		return nil, err
	}
	address := addresses[0]
	item := fetch.Item{URLs: addresses, Checksum: l.checksum, Size: l.size, Name: kind + " list"}
	files, err := fetch.Fetch(ctx, m.cache, []fetch.Item{item}, m.fetchOptions())
	if err != nil {
		return nil, err
	}
	text, err := l.open(files[0])
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", address, err)
	}
	return text, nil
}

func (l list) open(file fetch.File) ([]byte, error) {
	f, err := file.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	limit := int64(maxList)
	if l.openSize > 0 {
		limit = min(limit, l.openSize)
	}
	magic := make([]byte, len(zchunkMagic))
	if n, _ := f.ReadAt(magic, 0); string(magic[:n]) == zchunkMagic {
		return l.openZchunk(f, file.Size, limit)
	}
	z, err := rpm.Decompress(f, "")
	if err != nil {
		return nil, err
	}
	defer z.Close()
	buf := make([]byte, 0, min(limit, 1<<20)+1)
	if l.openSize > 0 && l.openSize <= 64*max(file.Size, 1) {
		buf = make([]byte, 0, min(limit, 256<<20)+1)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := z.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return nil, fmt.Errorf("more than the %d bytes that repomd.xml promises: %w", limit, fetch.ErrChecksum)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("offset %d: %w: %w", len(buf), ErrSyntax, err)
		}
	}
	return buf, l.checkOpenSize(buf)
}

func (l list) checkOpenSize(text []byte) error {
	if l.openSize > 0 && int64(len(text)) != l.openSize {
		return fmt.Errorf("%d bytes where repomd.xml promises %d: %w", len(text), l.openSize, fetch.ErrChecksum)
	}
	return nil
}

// openZchunk gives the text of a zchunk file. A list named X.xml.gz.zck holds a compressed file.
func (l list) openZchunk(f io.ReaderAt, size, limit int64) ([]byte, error) {
	raw := make([]byte, min(size, maxList))
	if _, err := f.ReadAt(raw, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	text, err := readZchunk(raw, limit)
	if err != nil {
		return nil, err
	}
	if err := l.checkOpenSize(text); err != nil {
		return nil, err
	}
	z, err := rpm.Decompress(bytes.NewReader(text), "")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	defer z.Close()
	inner, err := io.ReadAll(io.LimitReader(z, maxList+1))
	if err != nil || len(inner) > maxList {
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

// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
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

	base    string // the address that answered
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

func (m *Metadata) load(ctx context.Context) error {
	if err := m.findBase(ctx); err != nil {
		return err
	}
	data, err := m.readText(ctx, "primary")
	if err != nil {
		return err
	}
	m.Packages, err = ParsePrimary(data, m.Repo.ID)
	if err != nil {
		return fmt.Errorf("%s: %w", m.lists["primary"].location, err)
	}
	return nil
}

func (m *Metadata) fetchOptions() fetch.Options {
	return fetch.Options{Client: m.options.Client, Log: m.options.Log, Progress: m.options.Progress}
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
	data, err := fetch.Get(ctx, address, maxRepomd, m.fetchOptions())
	if err != nil {
		return err
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
	if _, ok := m.lists["primary"]; !ok {
		return fmt.Errorf("read %s: no primary list: %w", address, ErrSyntax)
	}
	sum := sha256.Sum256(data)
	m.Checksum, m.base = hex.EncodeToString(sum[:]), base
	return nil
}

// checkSignature demands a good repomd.xml.asc beside repomd.xml.
func (m *Metadata) checkSignature(ctx context.Context, address string, data []byte) error {
	sig, err := fetch.Get(ctx, address+".asc", maxSignature, m.fetchOptions())
	if errors.Is(err, fetch.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if err != nil {
		return err
	}
	kr, err := m.Repo.Keyring(ctx, m.options)
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
	files := append([][]byte(nil), r.Keys...)
	for _, address := range r.GPGKeys {
		data, err := fetch.Get(ctx, address, maxKeyFile, fetch.Options{Client: o.Client, Log: o.Log})
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
	_, ok := m.lists[kind]
	return ok
}

// readText brings a list, verifies it and gives its decompressed text. The size that repomd.xml promises
// bounds what a small compressed file may grow to.
func (m *Metadata) readText(ctx context.Context, kind string) ([]byte, error) {
	l, ok := m.lists[kind]
	if !ok {
		return nil, fmt.Errorf("list %s: %w", kind, ErrNoList)
	}
	address, err := fetch.Join(m.base, l.location)
	if err != nil {
		return nil, err
	}
	item := fetch.Item{URLs: []string{address}, Checksum: l.checksum, Size: l.size, Name: kind + " list"}
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
	z, err := rpm.Decompress(f, "")
	if err != nil {
		return nil, err
	}
	defer z.Close()
	limit := int64(maxList)
	if l.openSize > 0 {
		limit = min(limit, l.openSize)
	}
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
	if l.openSize > 0 && int64(len(buf)) != l.openSize {
		return nil, fmt.Errorf("%d bytes where repomd.xml promises %d: %w", len(buf), l.openSize, fetch.ErrChecksum)
	}
	return buf, nil
}

// Item gives what [fetch.Fetch] needs to bring a package file.
func (m *Metadata) Item(p *Package) (fetch.Item, error) {
	item := fetch.Item{Checksum: p.Checksum, Size: p.Size, Name: p.NEVRA.String()}
	bases := append([]string{m.base}, m.Repo.BaseURLs...)
	if p.Base != "" {
		bases = []string{p.Base}
	}
	for i, b := range bases {
		if i > 0 && b == m.base {
			continue
		}
		u, err := fetch.Join(b, p.Location)
		if err != nil {
			return fetch.Item{}, fmt.Errorf("locate %s of repository %s: %w", p.NEVRA, m.Repo.ID, err)
		}
		item.URLs = append(item.URLs, u)
	}
	return item, nil
}

// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// importVersion changes with the rules of this package, so that a cache filled
// by older rules is filled again.
const importVersion = 2

// Keys of a package commit's metadata.
const (
	keyHeaderSHA256 = "rpmostree.metadata_sha256"
	keyNEVRA        = "rpmostree.nevra"
	keyRepodata     = "rpmostree.repodata_checksum"
	keyNoDocs       = "rpmostree.nodocs"
	keyLangs        = "hostctl.install-langs"
	keyIMA          = "hostctl.ima"
	keyVersion      = "hostctl.import-version"
	keyNotes        = "hostctl.import-notes"
)

// Options of an import; the zero value is usable.
type Options struct {
	Filter
	// RepodataChecksum, such as "sha256:HEX", is what the repository's metadata
	// says about the file; kept in the commit where not empty.
	RepodataChecksum string
}

// Result is an imported package.
type Result struct {
	Ref    string
	Commit ostree.Checksum
	Cached bool   // nothing had to be imported
	Notes  []Note // what was left out
}

// Ref gives the cache ref of a package: rpmostree/pkg/NAME/EVR.ARCH, in which
// "_" is doubled and other unusual bytes are written _XX.
func Ref(n rpm.NEVRA) string {
	return "rpmostree/pkg/" + quoteRef(n.Name) + "/" + quoteRef(n.EVR.String()+"."+n.Arch)
}

func quoteRef(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-':
			b.WriteByte(c)
		case c == '_':
			b.WriteString("__")
		default:
			fmt.Fprintf(&b, "_%02X", c)
		}
	}
	return b.String()
}

// Cached finds the commit of a package that was imported before with the same
// header and the same options. Where RepodataChecksum is given, the package's file
// must have had that checksum.
func Cached(repo *ostree.Repo, pkg *rpm.Package, o Options) (Result, bool, error) {
	ref := Ref(pkg.NEVRA())
	csum, err := repo.Resolve(ref)
	if errors.Is(err, ostree.ErrNotFound) {
		return Result{}, false, nil
	}
	if err != nil {
		return Result{}, false, fmt.Errorf("look up %s: %w", ref, err)
	}
	commit, err := repo.LoadCommit(csum)
	if err != nil {
		return Result{}, false, fmt.Errorf("look up %s: %w", ref, err)
	}
	want, have := metadata(pkg, o, nil), commit.Metadata
	keys := []string{keyHeaderSHA256, keyNoDocs, keyLangs, keyIMA, keyVersion}
	if o.RepodataChecksum != "" {
		keys = append(keys, keyRepodata)
	}
	for _, key := range keys {
		a, _ := want.Get(key)
		b, _ := have.Get(key)
		if a.Type() != b.Type() || !bytes.Equal(a.Bytes(), b.Bytes()) {
			return Result{}, false, nil
		}
	}
	return Result{Ref: ref, Commit: csum, Cached: true, Notes: readNotes(have)}, true, nil
}

// Import reads a package's payload, which starts at r, and stores it as a commit
// on Ref. Sizes and digests of all files are verified on the way; nothing of a
// bad package becomes visible. Errors name the package and the path.
func Import(ctx context.Context, txn *ostree.Txn, pkg *rpm.Package, r io.Reader, o Options) (Result, error) {
	res, err := importPackage(ctx, txn, pkg, r, o)
	if err != nil {
		return Result{}, fmt.Errorf("import %s: %w", pkg.NEVRA(), err)
	}
	return res, nil
}

func importPackage(ctx context.Context, txn *ostree.Txn, pkg *rpm.Package, r io.Reader, o Options) (Result, error) {
	if pkg.IsSource() {
		return Result{}, errors.New("is a source package")
	}
	if err := failpoint.Hit("importer.run"); err != nil {
		return Result{}, err
	}
	b := &build{ctx: ctx, txn: txn, files: pkg.Files(), root: ostree.NewMTree(), ima: o.IMA}
	if err := b.place(o.Filter); err != nil {
		return Result{}, err
	}
	if err := b.dirs(); err != nil {
		return Result{}, err
	}
	if err := b.payload(pkg, r); err != nil {
		return Result{}, err
	}
	if err := b.tmpfiles(pkg.NEVRA()); err != nil {
		return Result{}, err
	}
	tree, meta, err := txn.WriteTree(ctx, b.root)
	if err != nil {
		return Result{}, err
	}
	commit := ostree.Commit{Metadata: metadata(pkg, o, b.notes), Subject: pkg.NEVRA().String(),
		RootTree: tree, RootMeta: meta}
	if bt := pkg.BuildTime(); bt.Unix() > 0 {
		commit.Timestamp = uint64(bt.Unix())
	}
	csum, err := txn.WriteCommit(ctx, commit)
	if err != nil {
		return Result{}, err
	}
	ref := Ref(pkg.NEVRA())
	return Result{Ref: ref, Commit: csum, Notes: b.notes}, txn.SetRef(ref, csum)
}

// metadata is that of a package's commit.
func metadata(pkg *rpm.Package, o Options, notes []Note) gvariant.Dict {
	n := pkg.NEVRA()
	sum := sha256.Sum256(pkg.HeaderBytes)
	langs := slices.Clone(o.InstallLangs)
	slices.Sort(langs)
	var d gvariant.Dict
	d.Set(keyVersion, gvariant.Uint32(importVersion))
	d.Set(keyHeaderSHA256, gvariant.String(hex.EncodeToString(sum[:])))
	d.Set(keyNEVRA, gvariant.Tuple(gvariant.String(n.String()), gvariant.String(n.Name), gvariant.Uint64(uint64(n.EVR.Epoch)),
		gvariant.String(n.EVR.Version), gvariant.String(n.EVR.Release), gvariant.String(n.Arch)))
	d.Set(keyNoDocs, gvariant.Bool(o.NoDocs))
	if o.InstallLangs != nil {
		d.Set(keyLangs, gvariant.Strings(langs))
	}
	if o.IMA {
		d.Set(keyIMA, gvariant.Bool(true))
	}
	if o.RepodataChecksum != "" {
		d.Set(keyRepodata, gvariant.String(o.RepodataChecksum))
	}
	if len(notes) > 0 {
		flat := make([]string, 0, 2*len(notes))
		for _, note := range notes {
			flat = append(flat, note.Path, note.Reason)
		}
		d.Set(keyNotes, gvariant.Strings(flat))
	}
	d.Sort()
	return d
}

func readNotes(d gvariant.Dict) []Note {
	flat, _ := d.Strings(keyNotes)
	var out []Note
	for i := 0; i+1 < len(flat); i += 2 {
		out = append(out, Note{flat[i], flat[i+1]})
	}
	return out
}

// build is one import under way.
type build struct {
	ctx   context.Context
	txn   *ostree.Txn
	files []rpm.File
	where []Placement
	root  *ostree.MTree
	lines []string
	notes []Note
	ima   bool
}

// place decides about every file before anything is read.
func (b *build) place(filter Filter) error {
	b.where = make([]Placement, len(b.files))
	taken := map[string]int{}
	for i := range b.files {
		p, err := Place(&b.files[i], filter)
		if err != nil {
			return err
		}
		if other, ok := taken[p.Path]; ok && p.Kind == InTree && !b.files[i].IsDir() {
			return fmt.Errorf("%s and %s both would be /%s of the tree: %w", b.files[other].Path, b.files[i].Path, p.Path, ErrPath)
		}
		taken[p.Path] = i
		b.where[i] = p
		b.lines = append(b.lines, p.Lines...)
		if p.Note != "" {
			b.notes = append(b.notes, Note{b.files[i].Path, p.Note})
		}
	}
	return nil
}

var implicitDir = ostree.DirMeta{Mode: 0o040755}

// dirs makes the package's directories. Their owner must be able to write them:
// a compose as root would get along without, a later user of the tree would not.
func (b *build) dirs() error {
	if err := b.root.SetMeta(implicitDir); err != nil {
		return err
	}
	for i := range b.files {
		f, p := &b.files[i], &b.where[i]
		if p.Kind != InTree || !f.IsDir() {
			continue
		}
		m, err := b.dir(p.Path)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if err := m.SetMeta(ostree.DirMeta{Mode: ImportedMode(f)}); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return nil
}

// dir finds or makes a directory and those above it.
func (b *build) dir(name string) (*ostree.MTree, error) {
	m := b.root
	if name == "." {
		return m, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		sub, err := m.Dir(part, true)
		if err != nil {
			return nil, err
		}
		if sub.MetaChecksum().IsZero() {
			if err := sub.SetMeta(implicitDir); err != nil {
				return nil, err
			}
		}
		m = sub
	}
	return m, nil
}

// ImportedMode is the st_mode with which a file is stored: directories are
// writable by their owner, links have the usual bits, and what another user will
// own has no setuid and setgid bits until it does.
func ImportedMode(f *rpm.File) uint32 {
	switch {
	case f.IsSymlink():
		return rpm.ModeSymlink | 0o777
	case f.IsDir():
		return f.Mode | 0o200
	case !ownedByRoot(f):
		return f.Mode &^ 0o6000
	}
	return f.Mode
}

func (b *build) payload(pkg *rpm.Package, r io.Reader) error {
	if len(b.files) == 0 {
		return nil
	}
	pl, err := pkg.Payload(r)
	if err != nil {
		return err
	}
	defer pl.Close()
	for {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		i, content, err := pl.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		names := pl.Links(i)
		if names == nil {
			names = []int{i}
		}
		if err := b.store(names, i, content); err != nil {
			return fmt.Errorf("%s: %w", b.files[i].Path, err)
		}
	}
}

// store writes the content of one file for all names of its hard-link group.
func (b *build) store(names []int, carrier int, content io.Reader) error {
	var sum ostree.Checksum
	stored := false
	for _, i := range names {
		f, p := &b.files[i], &b.where[i]
		if p.Kind != InTree || f.IsDir() {
			continue
		}
		if !stored {
			var err error
			if sum, err = b.write(f, b.files[carrier].Size, content); err != nil {
				return err
			}
			stored = true
		}
		dir, err := b.dir(path.Dir(p.Path))
		if err != nil {
			return err
		}
		if err := dir.SetFile(path.Base(p.Path), sum); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) write(f *rpm.File, size int64, content io.Reader) (ostree.Checksum, error) {
	h := ostree.FileHeader{Mode: ImportedMode(f)}
	if f.IsSymlink() {
		h.Target = f.Link
		return b.txn.WriteContent(b.ctx, h, 0, strings.NewReader(""))
	}
	if f.Caps != "" && ownedByRoot(f) {
		value, err := EncodeCaps(f.Caps)
		if err != nil {
			return ostree.Checksum{}, err
		}
		if value != nil {
			h.Xattrs = append(h.Xattrs, ostree.Xattr{Name: CapabilityXattr, Value: value})
		}
	}
	if b.ima && len(f.Signature) > 0 {
		h.Xattrs = append(h.Xattrs, ostree.Xattr{Name: IMAXattr, Value: f.Signature})
	}
	return b.txn.WriteContent(b.ctx, h, size, content)
}

// tmpfiles stores the collected lines, each once, in order of paths.
func (b *build) tmpfiles(pkg rpm.NEVRA) error {
	if len(b.lines) == 0 {
		return nil
	}
	slices.SortFunc(b.lines, func(x, y string) int { return strings.Compare(x[2:], y[2:]) })
	text := "# Directories and links of the package " + pkg.Name + ", which a tree cannot hold.\n" +
		strings.Join(slices.Compact(b.lines), "\n") + "\n"
	sum, err := b.txn.WriteContent(b.ctx, ostree.FileHeader{Mode: rpm.ModeRegular | 0o644}, int64(len(text)), strings.NewReader(text))
	if err != nil {
		return err
	}
	dir, err := b.dir("usr/lib/tmpfiles.d")
	if err != nil {
		return err
	}
	return dir.SetFile(TmpfilesName(pkg), sum)
}

// TmpfilesName is the file in usr/lib/tmpfiles.d that an import makes. That of a
// 32-bit x86 package names the architecture: its 64-bit twin may be there too.
func TmpfilesName(pkg rpm.NEVRA) string {
	if len(pkg.Arch) == 4 && pkg.Arch[0] == 'i' && pkg.Arch[2:] == "86" {
		return "pkg-" + pkg.Name + "." + pkg.Arch + ".conf"
	}
	return "pkg-" + pkg.Name + ".conf"
}

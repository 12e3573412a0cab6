// SPDX-License-Identifier: Apache-2.0

package container

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// ImportOptions say how an image becomes a commit; the zero value sets no ref.
type ImportOptions struct {
	// Ref is set to the commit.
	Ref string
	// MaxBytes bounds the contents of all layers; 0 means DefaultMaxBytes.
	MaxBytes int64

	Log      *slog.Logger // nil discards
	Progress progress.Func
}

// DefaultMaxBytes bounds what an image may unpack to.
const DefaultMaxBytes = 64 << 30

// Imported tells what an image held.
type Imported struct {
	Commit  ostree.Checksum `json:"commit"`
	Digest  string          `json:"digest"` // of the manifest
	Layers  int             `json:"layers"`
	Objects int             `json:"objects"` // file objects
	Stats   ostree.Stats    `json:"-"`
}

// Import stores the commit of an image. Digests of layers and checksums of objects are
// verified, the commit is the one of the image's label, and complete; until then
// nothing is visible in the repository. Conditions are ErrImage and ErrNotCommit.
func Import(ctx context.Context, r *ostree.Repo, img *Image, o ImportOptions) (*Imported, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	im := &importer{img: img, o: o, left: o.MaxBytes, files: map[ostree.Checksum]struct{}{}, attributes: map[ostree.Checksum][]ostree.Xattr{}}
	stats, err := r.Update(ctx, func(ctx context.Context, txn *ostree.Txn) error {
		im.txn = txn
		return im.run(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("import image %s: %w", img.Digest, err)
	}
	return &Imported{Commit: im.commit, Digest: img.Digest, Layers: len(img.Manifest.Layers), Objects: len(im.files), Stats: stats}, nil
}

// importer is one import.
type importer struct {
	img    *Image
	o      ImportOptions
	txn    *ostree.Txn
	left   int64 // of MaxBytes
	commit ostree.Checksum
	found  bool // the commit object was there

	// files are those of the layers read so far: hard links may lead to them.
	files      map[ostree.Checksum]struct{}
	attributes map[ostree.Checksum][]ostree.Xattr // of file-xattrs objects
	stored     int64                              // bytes of attributes
	next       *pending
}

// pending are the attributes of the file object that must come next.
type pending struct {
	file   ostree.Checksum
	xattrs []ostree.Xattr
}

func (im *importer) run(ctx context.Context) error {
	if err := im.layout(); err != nil {
		return err
	}
	const task = "Reading layers"
	total := int64(len(im.img.Manifest.Layers))
	im.o.Progress.Emit(progress.Event{Task: task, Kind: progress.Begin, Total: total})
	for i := range im.img.Manifest.Layers {
		if err := im.layer(ctx, i); err != nil {
			return err
		}
		im.o.Progress.Emit(progress.Event{Task: task, Kind: progress.Update, Done: int64(i + 1), Total: total})
	}
	if !im.found {
		return fmt.Errorf("%w: commit %s is not in its first layer", ErrImage, im.commit)
	}
	if err := im.complete(ctx); err != nil {
		return err
	}
	im.o.Progress.Emit(progress.Event{Task: task, Kind: progress.End, Done: total, Total: total})
	if im.o.Ref == "" {
		return nil
	}
	return im.txn.SetRef(im.o.Ref, im.commit)
}

// layout checks the labels: which commit it is, and that it is all.
func (im *importer) layout() error {
	labels := im.img.Config.Config.Labels
	last, ok := labels[labelFinalDiffID]
	if !ok {
		return fmt.Errorf("%w: it has no label %s", ErrNotCommit, labelFinalDiffID)
	}
	at := slices.Index(im.img.Config.RootFS.DiffIDs, last)
	if at < 0 {
		return fmt.Errorf("%w: label %s names no layer", ErrImage, labelFinalDiffID)
	}
	if more := len(im.img.Manifest.Layers) - at - 1; more > 0 {
		return fmt.Errorf("%w: %d layers stand above it", ErrNotCommit, more)
	}
	sum, err := ostree.ParseChecksum(labels[labelCommit])
	if err != nil {
		return fmt.Errorf("%w: label %s: %w", ErrImage, labelCommit, err)
	}
	im.commit = sum
	return nil
}

func (im *importer) layer(ctx context.Context, i int) (err error) {
	l, err := im.img.openLayer(ctx, i, im.left)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	tr := tar.NewReader(l)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: layer %s: %w", ErrImage, l.desc.Digest, err)
		}
		if err := im.entry(ctx, entry{h, tr, i == 0}); err != nil {
			return fmt.Errorf("layer %s, entry %q: %w", l.desc.Digest, clip(h.Name), err)
		}
	}
	if im.next != nil {
		return fmt.Errorf("%w: layer %s ends before file object %s", ErrImage, l.desc.Digest, im.next.file)
	}
	if err := l.finish(); err != nil {
		return err
	}
	im.left -= l.plain.n
	return nil
}

// complete proves that the commit's closure came with the image: an object that was in
// the repository before does not count.
func (im *importer) complete(ctx context.Context) error {
	data, err := im.txn.LoadRaw(ostree.ObjectName{Checksum: im.commit, Type: ostree.TypeCommit})
	if err != nil {
		return err
	}
	c, err := ostree.ParseCommit(data)
	if err != nil {
		return err
	}
	seen := map[ostree.Checksum]bool{}
	metas := map[ostree.Checksum]bool{}
	todo := []ostree.TreeDir{{Tree: c.RootTree, Meta: c.RootMeta}}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if err := ctx.Err(); err != nil {
			return err
		}
		if !metas[d.Meta] {
			if ok, err := im.txn.Has(ostree.ObjectName{Checksum: d.Meta, Type: ostree.TypeDirMeta}); err != nil || !ok {
				return errors.Join(err, im.missing(d.Meta, ostree.TypeDirMeta))
			}
			metas[d.Meta] = true
		}
		if seen[d.Tree] {
			continue
		}
		seen[d.Tree] = true
		t, err := im.dirTree(d.Tree)
		if err != nil {
			return err
		}
		for _, f := range t.Files {
			if _, ok := im.files[f.Checksum]; !ok {
				return im.missing(f.Checksum, ostree.TypeFile)
			}
		}
		todo = append(todo, t.Dirs...)
	}
	return nil
}

func (im *importer) dirTree(c ostree.Checksum) (ostree.DirTree, error) {
	data, err := im.txn.LoadRaw(ostree.ObjectName{Checksum: c, Type: ostree.TypeDirTree})
	if errors.Is(err, ostree.ErrNotFound) {
		return ostree.DirTree{}, im.missing(c, ostree.TypeDirTree)
	}
	if err != nil {
		return ostree.DirTree{}, err
	}
	return ostree.ParseDirTree(data)
}

func (im *importer) missing(c ostree.Checksum, typ ostree.ObjectType) error {
	return fmt.Errorf("%w: object %s of commit %s is missing", ErrImage, ostree.ObjectName{Checksum: c, Type: typ}, im.commit)
}

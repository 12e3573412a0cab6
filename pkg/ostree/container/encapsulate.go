// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// EncapsulateOptions say what an image is like; the zero value packs everything but
// the directories into few layers.
type EncapsulateOptions struct {
	// Tag names the image in the layout; "" is a name like any other.
	Tag string
	// Architecture as in GOARCH; "" means that of this machine.
	Architecture string
	// Contents spreads the files over layers.
	Contents Contents
	// MaxLayers bounds their number, the first included; 0 means DefaultLayers.
	MaxLayers   int
	Compression Compression
	// Previous is the manifest of an earlier image of the system, whose split into
	// layers is kept; nil for none.
	Previous *Manifest
	// Base is the configuration to begin with; Labels and Cmd are added to it. A Cmd
	// of nil takes the commit's.
	Base   RunConfig
	Labels map[string]string
	Cmd    []string
	// CopyMeta and CopyMetaOptional are keys of the commit's metadata, of type string,
	// that become labels; those of CopyMeta must be there.
	CopyMeta, CopyMetaOptional []string

	Log      *slog.Logger // nil discards
	Progress progress.Func
}

// Layer is one layer of a new image.
type Layer struct {
	Descriptor
	DiffID  string `json:"diffid"`
	Title   string `json:"title"`
	Objects int    `json:"objects"` // file objects
	// Unpacked is the size before compression.
	Unpacked int64 `json:"unpacked"`
	// Kept tells that the previous image has the same layer.
	Kept bool `json:"kept"`
}

// Encapsulated tells what was made.
type Encapsulated struct {
	Commit ostree.Checksum `json:"commit"`
	// Manifest names the image: its digest is what registries list.
	Manifest Descriptor `json:"manifest"`
	Layers   []Layer    `json:"layers"`
}

// Size is the sum of the layers in bytes, and the part that the previous image lacks.
func (e *Encapsulated) Size() (all, fresh int64) {
	for _, l := range e.Layers {
		all += l.Descriptor.Size
		if !l.Kept {
			fresh += l.Descriptor.Size
		}
	}
	return all, fresh
}

// maxWorkers write layers at once; compression is the cost.
const maxWorkers = 8

// Encapsulate writes a commit as an image into the image layout dst, which is made if
// it is an empty folder. On an error the layout has the images that it had.
func Encapsulate(ctx context.Context, r *ostree.Repo, commit ostree.Checksum, dst *fsx.Dir, o EncapsulateOptions) (*Encapsulated, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Architecture == "" {
		o.Architecture = runtime.GOARCH
	}
	if o.MaxLayers == 0 {
		o.MaxLayers = DefaultLayers
	}
	out, err := encapsulate(ctx, r, commit, dst, o)
	if err != nil {
		return nil, fmt.Errorf("encapsulate %s: %w", commit, err)
	}
	return out, nil
}

func encapsulate(ctx context.Context, r *ostree.Repo, commit ostree.Checksum, dst *fsx.Dir, o EncapsulateOptions) (out *Encapsulated, err error) {
	if o.MaxLayers < 1 || o.MaxLayers > maxLayers {
		return nil, fmt.Errorf("%w: %d layers: want 1 to %d", ostree.ErrInvalid, o.MaxLayers, maxLayers)
	}
	t, err := scan(ctx, r, commit, o.Contents)
	if err != nil {
		return nil, err
	}
	labels, err := o.labels(t)
	if err != nil {
		return nil, err
	}
	for _, name := range t.skipped {
		o.Log.Warn("file is in the image's repository only", "path", name)
	}
	l, err := openLayout(ctx, dst)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	out = &Encapsulated{Commit: commit}
	if out.Layers, err = writeLayers(ctx, l, t, o); err != nil {
		return nil, err
	}
	out.Manifest, err = l.describe(t, out.Layers, labels, o)
	return out, err
}

// writeLayers writes all layers, several at once.
func writeLayers(ctx context.Context, l *layout, t *tree, o EncapsulateOptions) ([]Layer, error) {
	var previous [][]string
	kept := map[string]bool{}
	if o.Previous != nil {
		previous = previousPackages(o.Previous)
		for _, d := range o.Previous.Layers {
			kept[d.Digest] = true
		}
	}
	bins := pack(t.units, o.MaxLayers-1, previous)
	layers := make([]Layer, 1+len(bins))
	const task = "Writing layers"
	var done atomic.Int64
	o.Progress.Emit(progress.Event{Task: task, Kind: progress.Begin, Total: int64(len(layers))})
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(runtime.GOMAXPROCS(0), maxWorkers))
	for i := range layers {
		g.Go(func() error {
			job := layerJob{t: t, first: i == 0}
			layers[i].Title = "directories of commit " + t.commit.String()
			switch {
			case i > 0:
				layers[i].Title = bins[i-1].title(t.units)
				job.objects = objectsOf(t.units, bins[i-1])
			case len(bins) == 0:
				job.objects = t.objects
			}
			if err := job.write(ctx, l, o.Compression, &layers[i]); err != nil {
				return err
			}
			if i > 0 {
				layers[i].Annotations = map[string]string{labelComponents: bins[i-1].packages(t.units)}
			}
			layers[i].Kept = kept[layers[i].Digest]
			o.Progress.Emit(progress.Event{Task: task, Kind: progress.Update, Done: done.Add(1), Total: int64(len(layers)), Text: layers[i].Title})
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	o.Progress.Emit(progress.Event{Task: task, Kind: progress.End, Done: int64(len(layers)), Total: int64(len(layers))})
	return layers, nil
}

func objectsOf(units []unit, b bin) (out []*object) {
	for _, i := range b {
		out = append(out, units[i].objects...)
	}
	return out
}

type layerJob struct {
	t       *tree
	first   bool
	objects []*object
}

func (j layerJob) write(ctx context.Context, l *layout, c Compression, out *Layer) (err error) {
	b, err := l.newBlob(c)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.cancel())
		}
	}()
	w := newLayerWriter(j.t, b)
	if j.first {
		if err := w.structure(ctx); err != nil {
			return err
		}
	}
	if err := w.files(ctx, j.objects); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	out.Objects, out.Unpacked = len(j.objects), b.unpacked
	out.Descriptor, out.DiffID, err = b.finish()
	return err
}

// maxTime is the last second that the format of times has room for.
const maxTime = 253402300799

// describe writes configuration and manifest, and names them in the index.
func (l *layout) describe(t *tree, layers []Layer, labels map[string]string, o EncapsulateOptions) (Descriptor, error) {
	created := time.Unix(int64(min(t.obj.Timestamp, maxTime)), 0).UTC().Format(time.RFC3339)
	c := Config{Created: created, Architecture: o.Architecture, OS: "linux", Config: o.Base}
	c.RootFS.Type = "layers"
	m := Manifest{SchemaVersion: 2, MediaType: typeManifest}
	for _, layer := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, layer.DiffID)
		c.History = append(c.History, History{Created: created, CreatedBy: layer.Title})
		m.Layers = append(m.Layers, layer.Descriptor)
	}
	labels[labelFinalDiffID] = layers[len(layers)-1].DiffID
	m.Annotations = labels
	c.Config.Labels = maps.Clone(o.Base.Labels)
	if c.Config.Labels == nil {
		c.Config.Labels = map[string]string{}
	}
	maps.Copy(c.Config.Labels, labels)
	if cmd, ok := t.obj.Metadata.Strings("ostree.container-cmd"); ok {
		c.Config.Cmd = cmd
	}
	if o.Cmd != nil {
		c.Config.Cmd = o.Cmd
	}
	var err error
	if m.Config, err = l.writeJSON(typeConfig, c); err != nil {
		return Descriptor{}, err
	}
	desc, err := l.writeJSON(typeManifest, m)
	if err != nil {
		return Descriptor{}, err
	}
	return desc, l.commit(desc, o.Tag)
}

// labels says what the commit is, in the keys that bootc and rpm-ostree look for.
func (o EncapsulateOptions) labels(t *tree) (map[string]string, error) {
	out := map[string]string{}
	meta := t.obj.Metadata
	for _, k := range o.CopyMeta {
		v, ok := meta.Str(k)
		if !ok {
			return nil, fmt.Errorf("%w: its metadata has no string %q", ostree.ErrNotFound, k)
		}
		out[k] = v
	}
	for _, k := range append([]string{labelLinux}, o.CopyMetaOptional...) {
		if v, ok := meta.Str(k); ok {
			out[k] = v
		}
	}
	if bootable, ok := meta.Bool(labelBootable); ok {
		out[labelBootable] = fmt.Sprint(bootable)
		out[labelBootc] = "1"
	}
	if v, ok := meta.Str(labelVersion); ok {
		out[labelVersion], out[labelOCIVersion] = v, v
	}
	maps.Copy(out, o.Labels)
	out[labelCommit] = t.commit.String()
	return out, nil
}

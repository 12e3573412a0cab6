// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// The sizes that libostree uses where none is asked for, in bytes.
const (
	DefaultMinFallbackSize = 4_000_000
	DefaultMaxBsdiffSize   = 128_000_000
	DefaultMaxChunkSize    = 32_000_000
)

// GenerateOptions configure Generate; the zero value makes libostree's default
// choices.
type GenerateOptions struct {
	// From is the commit to start from; zero makes a delta from nothing.
	From ostree.Checksum
	To   ostree.Checksum
	// Inline puts the parts into the superblock, for a delta in one file.
	Inline bool
	// DisableBsdiff keeps to whole files and copied ranges.
	DisableBsdiff bool
	// IfNotExists does nothing where the repository has the delta.
	IfNotExists bool
	// Endianness of the superblock's numbers; LittleEndian unless BigEndian.
	Endianness Endianness
	// MinFallbackSize is the size in bytes beyond which a file that has nothing in
	// common with an old one is left to be fetched as an object; 0 packs all. Nil:
	// DefaultMinFallbackSize.
	MinFallbackSize *int64
	// MaxBsdiffSize bounds the old and the new file together, in bytes, for bsdiff.
	// Nil: DefaultMaxBsdiffSize.
	MaxBsdiffSize *int64
	// MaxChunkSize is the size in bytes, unpacked, at which a new part begins. Nil:
	// DefaultMaxChunkSize.
	MaxChunkSize *int64
	// Metadata of the superblock, before the keys that belong to the format.
	Metadata gvariant.Dict
	// Dir and Filename place the superblock elsewhere than in the repository; parts
	// go beside it unless Inline.
	Dir      *fsx.Dir
	Filename string
	// Sign gives the signatures of the finished superblock, a dictionary from
	// "ostree.sign.NAME" to aay. Nil leaves it unsigned.
	Sign func(ctx context.Context, superblock []byte) (gvariant.Dict, error)
	// Timestamp of the superblock; zero: now.
	Timestamp time.Time
	// Workers is how many files and parts are worked on at once; 0: one for each
	// processor. The result does not depend on it.
	Workers int
	// DisableXZ never runs the xz program and compresses with a slower encoder.
	DisableXZ bool
	Logger    *slog.Logger  // nil: discard
	Progress  progress.Func // nil: none
}

// GenerateResult tells what Generate did.
type GenerateResult struct {
	Delta   *Delta
	Existed bool // with IfNotExists: nothing was written, Delta is nil
	Stats   GenerateStats
}

// GenerateStats counts as libostree reports. Sizes are in bytes.
type GenerateStats struct {
	Modified                             int // files with a similar old one
	Metadata, Regular, Symlinks          int // new objects
	Rollsum, Bsdiff, Fallback            int // objects, by how they are packed
	RollsumSize                          int64
	Uncompressed, Compressed, LooseBytes int64
}

// Generate writes a static delta between two commits of the repository. Nothing
// appears under the superblock's name before everything else is durable.
func Generate(ctx context.Context, r *ostree.Repo, o GenerateOptions) (GenerateResult, error) {
	name := ostree.DeltaName{From: o.From, To: o.To}
	if o.IfNotExists {
		found, err := Exists(r, name)
		if found || err != nil {
			return GenerateResult{Existed: found}, err
		}
	}
	if err := o.complete(); err != nil {
		return GenerateResult{}, fmt.Errorf("generate delta %s: %w", name, err)
	}
	// Prune must not take away what is being packed.
	ctx, unlock, err := r.Lock(ctx, true)
	if err != nil {
		return GenerateResult{}, fmt.Errorf("generate delta %s: %w", name, err)
	}
	res, err := generate(ctx, r, name, o)
	if err = errors.Join(err, unlock()); err != nil {
		return res, fmt.Errorf("generate delta %s: %w", name, err)
	}
	return res, nil
}

func (o *GenerateOptions) complete() error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	switch o.Endianness {
	case Undeclared:
		o.Endianness = LittleEndian
	case LittleEndian, BigEndian:
	default:
		return fmt.Errorf("%w: endianness %q", ostree.ErrInvalid, byte(o.Endianness))
	}
	if o.Dir != nil && o.Filename == "" {
		return fmt.Errorf("%w: no file name", ostree.ErrInvalid)
	}
	if o.Timestamp.IsZero() {
		o.Timestamp = time.Now()
	}
	if o.To.IsZero() {
		return fmt.Errorf("%w: no target commit", ostree.ErrInvalid)
	}
	return nil
}

func sizeOr(p *int64, def int64) int64 {
	if p == nil {
		return def
	}
	return *p
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

const (
	summaryName = "summary"
	summarySig  = "summary.sig"
	summaryLock = "tmp/.summary-lock"
	summaryType = "(a(s(taya{sv}))a{sv})"
	summaryRef  = "(s(taya{sv}))"
)

// SummaryOptions add to what WriteSummary records by itself.
type SummaryOptions struct {
	// Metadata is added to the summary's dictionary, but for the keys that
	// WriteSummary sets.
	Metadata gvariant.Dict
	// Expires, if not zero, is recorded as ostree.summary.expires.
	Expires time.Time
	// Sign gives the dictionary of summary.sig for the summary's bytes. Without
	// it an old summary.sig is removed.
	Sign func(ctx context.Context, summary []byte) (gvariant.Dict, error)
}

// WriteSummary writes the file summary with all local refs, those of other
// collections and static deltas, then summary.sig; before them the indexes of deltas.
// Both are prepared first and then renamed, the signature last: a client that reads one
// old and one new file retries. Where core.auto-update-summary has a change of refs
// write the summary, nobody signs it: then there is no summary.sig until the next call
// with Sign.
func (r *Repo) WriteSummary(ctx context.Context, o SummaryOptions) error {
	unlock, err := r.lock(ctx, true)
	if err != nil {
		return err
	}
	err = r.writeSummaryLocked(ctx, o)
	if err = errors.Join(err, unlock()); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	return nil
}

// autoSummary follows a change of refs where the config asks for it.
func (r *Repo) autoSummary(ctx context.Context) error {
	if !r.opts.autoSummary {
		return nil
	}
	return r.WriteSummary(context.WithoutCancel(ctx), SummaryOptions{})
}

// writeSummaryLocked keeps writers apart, so that none overwrites a newer list of
// refs with an older one; only prune must not run meanwhile.
func (r *Repo) writeSummaryLocked(ctx context.Context, o SummaryOptions) error {
	lock, err := r.dir.Lock(ctx, summaryLock, false, r.opts.lockTimeout)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := r.reindexLocked(ctx, Checksum{}); err != nil {
		return err
	}
	data, err := r.summary(o)
	if err != nil {
		return err
	}
	var sig []byte
	if o.Sign != nil {
		d, err := o.Sign(ctx, data)
		if err != nil {
			return fmt.Errorf("sign: %w", err)
		}
		if sig, err = d.Marshal(); err != nil {
			return fmt.Errorf("sign: %w", err)
		}
	}
	return r.publishSummary(data, sig)
}

func (r *Repo) publishSummary(data, sig []byte) error {
	now := time.Now()
	sum, err := r.prepareFile(summaryName, data, now)
	if err != nil {
		return err
	}
	defer sum.Cancel()
	var sigFile *fsx.AtomicFile
	if sig != nil {
		if sigFile, err = r.prepareFile(summarySig, sig, now); err != nil {
			return err
		}
		defer sigFile.Cancel()
	}
	if err := failpoint.Hit("ostree.summary.prepared"); err != nil {
		return err
	}
	if sigFile == nil {
		// The old signature goes first: a crash leaves none that does not fit.
		if err := r.removeIfThere(r.dir, summarySig); err != nil {
			return err
		}
	}
	if err := sum.Commit(); err != nil {
		return err
	}
	if err := failpoint.Hit("ostree.summary.written"); err != nil {
		return err
	}
	if sigFile == nil {
		return nil
	}
	return sigFile.Commit()
}

// prepareFile writes the temporary file; both files get the same time, by which
// HTTP servers and their clients tell versions apart.
func (r *Repo) prepareFile(name string, data []byte, mtime time.Time) (*fsx.AtomicFile, error) {
	f, err := r.dir.CreateAtomic(name, 0o644)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(data); err != nil {
		f.Cancel()
		return nil, err
	}
	if err := sys.Futimens(int(f.Fd()), mtime); err != nil {
		f.Cancel()
		return nil, err
	}
	return f, nil
}

// summary builds the file: (a(s(taya{sv}))a{sv}).
func (r *Repo) summary(o SummaryOptions) ([]byte, error) {
	byCollection, err := r.summaryRefs()
	if err != nil {
		return nil, err
	}
	own := r.CollectionID()
	main, err := r.refList(byCollection[own])
	if err != nil {
		return nil, err
	}
	delete(byCollection, own)
	md := o.Metadata
	if !o.Expires.IsZero() {
		md.Set("ostree.summary.expires", gvariant.Uint64BE(uint64(o.Expires.Unix())))
	}
	if err := r.summaryMetadata(&md, own, byCollection); err != nil {
		return nil, err
	}
	v := gvariant.Tuple(main, asHashed(md).Value())
	return v.Bytes(), v.Err()
}

// summaryRefs gives the refs by collection; in a repository without an id the local
// ones are those of "". Remote-tracking refs are nobody's business unless the
// remote's collection is known.
func (r *Repo) summaryRefs() (map[string]map[string]Checksum, error) {
	own := r.CollectionID()
	all := map[string]map[string]Checksum{own: {}}
	if own == "" {
		if err := r.readRefs(headsDir, "", all[own]); err != nil {
			return nil, err
		}
	}
	refs, err := r.CollectionRefs(CollectionListOptions{})
	for ref, c := range refs {
		if all[ref.Collection] == nil {
			all[ref.Collection] = map[string]Checksum{}
		}
		all[ref.Collection][ref.Ref] = c
	}
	return all, err
}

func (r *Repo) refList(refs map[string]Checksum) (gvariant.Value, error) {
	var list []gvariant.Value
	for _, name := range sortedKeys(refs) {
		entry, err := r.refEntry(refs[name])
		if err != nil {
			return gvariant.Value{}, fmt.Errorf("ref %s: %w", name, err)
		}
		list = append(list, gvariant.Tuple(gvariant.String(name), entry))
	}
	return gvariant.Array(summaryRef, list...), nil
}

// refEntry describes a commit. The size is in the host's byte order, here
// little-endian, though its neighbours are big-endian: the format is like that.
func (r *Repo) refEntry(c Checksum) (gvariant.Value, error) {
	raw, err := r.LoadUnverified(ObjectName{c, TypeCommit}) // clients verify what they get
	if err != nil {
		return gvariant.Value{}, err
	}
	commit, err := ParseCommit(raw)
	if err != nil {
		return gvariant.Value{}, err
	}
	var d gvariant.Dict
	if commit.Timestamp <= maxTimestamp {
		d.Set("ostree.commit.timestamp", gvariant.Uint64BE(commit.Timestamp))
	}
	if v, ok := commit.Metadata.Str("version"); ok {
		d.Set("ostree.commit.version", gvariant.String(v))
	}
	return gvariant.Tuple(gvariant.Uint64(uint64(len(raw))), gvariant.ByteSlice(c[:]), asHashed(d).Value()), nil
}

// maxTimestamp is the end of the year 9999: later times are no dates.
const maxTimestamp = 253402300799

// summaryMetadata sets the keys that describe the repository.
func (r *Repo) summaryMetadata(md *gvariant.Dict, own string, others map[string]map[string]Checksum) error {
	if err := r.summaryDeltas(md); err != nil {
		return err
	}
	md.Set("ostree.summary.last-modified", gvariant.Uint64BE(uint64(time.Now().Unix())))
	mode, _ := r.cfg.Get("core", "mode")
	md.Set("ostree.summary.mode", gvariant.String(cmp.Or(mode, ModeBare.String())))
	md.Set("ostree.summary.tombstone-commits", gvariant.Bool(r.opts.tombstones))
	md.Set("ostree.summary.indexed-deltas", gvariant.Bool(true))
	if own != "" {
		md.Set("ostree.summary.collection-id", gvariant.String(own))
	}
	if len(others) == 0 {
		return nil
	}
	var list []gvariant.Value
	for _, name := range sortedKeys(others) {
		refs, err := r.refList(others[name])
		if err != nil {
			return err
		}
		list = append(list, gvariant.Entry(gvariant.String(name), refs))
	}
	md.Set("ostree.summary.collection-map", gvariant.Array("{sa"+summaryRef+"}", list...))
	return nil
}

func (r *Repo) summaryDeltas(md *gvariant.Dict) error {
	if off, err := r.cfg.BoolOr("core", "no-deltas-in-summary", false); off || err != nil {
		return err
	}
	names, err := r.Deltas()
	if err != nil || len(names) == 0 {
		return err
	}
	list, err := r.deltaDigests(names)
	md.Set(deltasKey, list.Value())
	return err
}

// SummaryRef is what a summary says about one ref.
type SummaryRef struct {
	Name       string
	Commit     Checksum
	CommitSize uint64 // of the commit object in bytes
	Metadata   gvariant.Dict
}

// Summary is a parsed summary file.
type Summary struct {
	Refs        []SummaryRef
	Collections map[string][]SummaryRef // of other collections
	Metadata    gvariant.Dict
}

// Ref finds a ref of the repository's own collection.
func (s Summary) Ref(name string) (SummaryRef, bool) {
	i := slices.IndexFunc(s.Refs, func(r SummaryRef) bool { return r.Name == name })
	if i < 0 {
		return SummaryRef{}, false
	}
	return s.Refs[i], true
}

// ParseSummary reads a summary file, strictly.
func ParseSummary(data []byte) (Summary, error) {
	v, err := gvariant.Parse(summaryType, data)
	if err != nil {
		return Summary{}, fmt.Errorf("%w: summary: %w", ErrCorrupt, err)
	}
	f := v.Children()
	var s Summary
	s.Metadata, _ = f[1].Dict()
	if s.Refs, err = parseRefList(f[0]); err != nil {
		return s, fmt.Errorf("%w: summary: %w", ErrCorrupt, err)
	}
	others, _ := s.Metadata.Get("ostree.summary.collection-map")
	if others.Type() != "a{sa"+summaryRef+"}" {
		return s, nil
	}
	s.Collections = map[string][]SummaryRef{}
	for _, e := range others.Children() {
		kv := e.Children()
		name, _ := kv[0].Str()
		if s.Collections[name], err = parseRefList(kv[1]); err != nil {
			return s, fmt.Errorf("%w: summary: collection %q: %w", ErrCorrupt, clip(name), err)
		}
	}
	return s, nil
}

func parseRefList(v gvariant.Value) ([]SummaryRef, error) {
	var out []SummaryRef
	for _, c := range v.Children() {
		f := c.Children()
		d := f[1].Children()
		var e SummaryRef
		e.Name, _ = f[0].Str()
		if err := CheckRef(e.Name); err != nil {
			return nil, err
		}
		e.CommitSize, _ = d[0].Uint64()
		var err error
		if e.Commit, err = checksumField(d[1]); err != nil {
			return nil, fmt.Errorf("ref %q: %w", e.Name, err)
		}
		e.Metadata, _ = d[2].Dict()
		if len(out) > 0 && strings.Compare(out[len(out)-1].Name, e.Name) >= 0 {
			return nil, fmt.Errorf("%w: ref %q out of order", ErrInvalid, e.Name)
		}
		out = append(out, e)
	}
	return out, nil
}

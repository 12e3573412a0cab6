// SPDX-License-Identifier: Apache-2.0

package ostree

import (
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
	// Metadata is added to the summary's dictionary; its keys win.
	Metadata gvariant.Dict
	// Expires, if not zero, is recorded as ostree.summary.expires.
	Expires time.Time
	// Sign gives the dictionary of summary.sig for the summary's bytes. Without
	// it an old summary.sig is removed.
	Sign func(ctx context.Context, summary []byte) (gvariant.Dict, error)
}

// WriteSummary writes the file summary with all local refs and static deltas,
// then summary.sig. Both are prepared first and then renamed, the signature
// last: a client that reads one old and one new file retries.
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

// writeSummaryLocked keeps writers apart, so that none overwrites a newer list of
// refs with an older one; only prune must not run meanwhile.
func (r *Repo) writeSummaryLocked(ctx context.Context, o SummaryOptions) error {
	lock, err := r.dir.Lock(ctx, summaryLock, false, r.opts.lockTimeout)
	if err != nil {
		return err
	}
	defer lock.Unlock()
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
	if err := sum.Commit(); err != nil {
		return err
	}
	if err := failpoint.Hit("ostree.summary.written"); err != nil {
		return err
	}
	if sigFile != nil {
		return sigFile.Commit()
	}
	return r.removeIfThere(r.dir, summarySig)
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
	if err := sys.Futimens(int(f.Fd()), mtime.Unix(), int64(mtime.Nanosecond())); err != nil {
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
	md, err := r.summaryMetadata(own, byCollection)
	if err != nil {
		return nil, err
	}
	if !o.Expires.IsZero() {
		md.Set("ostree.summary.expires", gvariant.Uint64BE(uint64(o.Expires.Unix())))
	}
	for _, e := range o.Metadata.Entries() {
		md.Set(e.Key, e.Value)
	}
	md.Sort()
	v := gvariant.Tuple(main, md.Value())
	return v.Bytes(), v.Err()
}

// summaryRefs gives the refs by collection; local ones belong to the
// repository's own, which may be "". Remote-tracking refs are nobody's business.
func (r *Repo) summaryRefs() (map[string]map[string]Checksum, error) {
	own := r.CollectionID()
	all := map[string]map[string]Checksum{own: {}}
	entries, err := r.dir.ReadDir(mirrorsDir)
	if err != nil && !isAbsent(err) {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() || !validComponent(e.Name) {
			continue
		}
		if all[e.Name] == nil {
			all[e.Name] = map[string]Checksum{}
		}
		if err := r.readRefs(mirrorsDir+"/"+e.Name, "", all[e.Name]); err != nil {
			return nil, err
		}
	}
	return all, r.readRefs(headsDir, "", all[own])
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
	raw, err := r.LoadRaw(ObjectName{c, TypeCommit})
	if err != nil {
		return gvariant.Value{}, err
	}
	commit, err := ParseCommit(raw)
	if err != nil {
		return gvariant.Value{}, err
	}
	var d gvariant.Dict
	d.Set("ostree.commit.timestamp", gvariant.Uint64BE(commit.Timestamp))
	if v, ok := commit.Metadata.Str("version"); ok {
		d.Set("ostree.commit.version", gvariant.String(v))
	}
	return gvariant.Tuple(gvariant.Uint64(uint64(len(raw))), gvariant.ByteSlice(c[:]), d.Value()), nil
}

func (r *Repo) summaryMetadata(own string, others map[string]map[string]Checksum) (gvariant.Dict, error) {
	var md gvariant.Dict
	md.Set("ostree.summary.last-modified", gvariant.Uint64BE(uint64(time.Now().Unix())))
	md.Set("ostree.summary.mode", gvariant.String(r.mode.String()))
	md.Set("ostree.summary.tombstone-commits", gvariant.Bool(r.opts.tombstones))
	if own != "" {
		md.Set("ostree.summary.collection-id", gvariant.String(own))
	}
	if noDeltas, _ := r.cfg.BoolOr("core", "no-deltas-in-summary", false); !noDeltas {
		deltas, err := r.summaryDeltas()
		if err != nil {
			return md, err
		}
		md.Set("ostree.static-deltas", deltas.Value())
	}
	if len(others) == 0 {
		return md, nil
	}
	var list []gvariant.Value
	for _, name := range sortedKeys(others) {
		refs, err := r.refList(others[name])
		if err != nil {
			return md, err
		}
		list = append(list, gvariant.Entry(gvariant.String(name), refs))
	}
	md.Set("ostree.summary.collection-map", gvariant.Array("{sa"+summaryRef+"}", list...))
	return md, nil
}

func (r *Repo) summaryDeltas() (gvariant.Dict, error) {
	var d gvariant.Dict
	names, err := r.Deltas()
	if err != nil {
		return d, err
	}
	for _, n := range names {
		sum, err := r.superblockSum(n)
		if err != nil {
			return d, err
		}
		d.Set(n.String(), gvariant.ByteSlice(sum[:]))
	}
	d.Sort()
	return d, nil
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

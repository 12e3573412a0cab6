// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// want is a commit to pull, and the ref to set, "" for none.
type want struct {
	ref    string
	commit ostree.Checksum
}

// resolve turns the request into commits.
func (p *puller) resolve(ctx context.Context) ([]want, error) {
	names := p.req.Refs
	if len(names) == 0 && !p.req.Mirror {
		if names = p.remote.Branches; len(names) == 0 {
			return nil, errors.New("no refs asked for, and the remote has no branches configured")
		}
	}
	if len(names) == 0 {
		return p.allRefs(ctx)
	}
	var wants []want
	var open []string
	for _, name := range names {
		w, resolved, err := parseWant(name)
		if err != nil {
			return nil, err
		}
		wants = append(wants, w)
		if !resolved {
			open = append(open, w.ref)
		}
	}
	if len(open) == 0 {
		return wants, nil
	}
	found, err := p.src.refs(ctx, open)
	if err != nil {
		return nil, err
	}
	for i := range wants {
		if wants[i].commit.IsZero() {
			wants[i].commit = found[wants[i].ref]
		}
	}
	return wants, nil
}

func (p *puller) allRefs(ctx context.Context) ([]want, error) {
	found, err := p.src.refs(ctx, nil)
	if err != nil {
		return nil, err
	}
	var wants []want
	for ref, c := range found {
		wants = append(wants, want{ref, c})
	}
	slices.SortFunc(wants, func(a, b want) int { return strings.Compare(a.ref, b.ref) })
	return wants, nil
}

// parseWant reads REF, CHECKSUM or REF@CHECKSUM.
func parseWant(s string) (w want, resolved bool, err error) {
	if c, err := ostree.ParseChecksum(s); err == nil {
		return want{commit: c}, true, nil
	}
	ref, sum, at := strings.Cut(s, "@")
	if err := ostree.CheckRef(ref); err != nil {
		return w, false, err
	}
	if !at {
		return want{ref: ref}, false, nil
	}
	c, err := ostree.ParseChecksum(sum)
	return want{ref, c}, true, err
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// summaryType is the serialised type of a repository's summary: refs with
// (commit size, commit checksum, metadata), then metadata.
const summaryType = "(a(s(taya{sv}))a{sv})"

// summary is what a pull needs of a summary file.
type summary struct {
	refs map[string]ostree.Checksum
	meta gvariant.Dict
}

// parseSummary reads a summary file, strictly: refs must be valid names in
// byte order.
func parseSummary(data []byte) (summary, error) {
	v, err := gvariant.Parse(summaryType, data)
	if err != nil {
		return summary{}, fmt.Errorf("parse summary: %w", err)
	}
	top := v.Children()
	s := summary{refs: map[string]ostree.Checksum{}}
	s.meta, _ = top[1].Dict()
	last := ""
	for _, entry := range top[0].Children() {
		pair := entry.Children()
		ref, _ := pair[0].Str()
		if err := ostree.CheckRef(ref); err != nil {
			return summary{}, fmt.Errorf("parse summary: %w", err)
		}
		if ref <= last {
			return summary{}, fmt.Errorf("parse summary: %w: ref %q is out of order", ostree.ErrInvalid, clip(ref))
		}
		last = ref
		raw, _ := pair[1].Children()[1].ByteSlice()
		c, err := ostree.ChecksumFromBytes(raw)
		if err != nil {
			return summary{}, fmt.Errorf("parse summary: ref %s: %w", clip(ref), err)
		}
		s.refs[ref] = c
	}
	return s, nil
}

// pick selects the wanted refs, or with nil all of them.
func (s summary) pick(refs []string, where string) (map[string]ostree.Checksum, error) {
	if refs == nil {
		return s.refs, nil
	}
	out := map[string]ostree.Checksum{}
	for _, ref := range refs {
		c, ok := s.refs[ref]
		if !ok {
			return nil, fmt.Errorf("ref %s: %w: %s does not list it", ref, ErrNotFound, where)
		}
		out[ref] = c
	}
	return out, nil
}

// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/delta"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// deltaSite is an archive with two commits and a delta between them.
type deltaSite struct {
	*site
	src           *ostree.Repo
	first, second ostree.Checksum
	name          ostree.DeltaName
}

// newDeltaSite makes the delta with the given options; From and To are filled in.
func newDeltaSite(t *testing.T, scratch bool, o delta.GenerateOptions) deltaSite {
	t.Helper()
	d := deltaSite{src: newRepo(t, ostree.ModeArchive)}
	d.first = commit(t, d.src, spec{ref: ref, files: 30, time: 1})
	d.second = commit(t, d.src, spec{ref: ref, files: 40, time: 2, parent: d.first})
	o.To = d.second
	if !scratch {
		o.From = d.first
	}
	res, err := delta.Generate(t.Context(), d.src, o)
	testutil.Must(t, err)
	d.name = res.Delta.Name
	testutil.Must(t, d.src.WriteSummary(t.Context(), ostree.SummaryOptions{}))
	d.site = serve(t, d.src)
	return d
}

// at gives a repository that has the first commit.
func (d deltaSite) at(t *testing.T) *ostree.Repo {
	t.Helper()
	dst := newRepo(t, bareMode())
	_, err := Pull(t.Context(), dst, d.remote(), Request{Refs: []string{ref + "@" + d.first.String()}, NoDeltas: true})
	testutil.Must(t, err)
	d.forget()
	return dst
}

// loose counts requests for file objects.
func (d deltaSite) loose() int {
	n := 0
	for path := range d.forget() {
		if strings.HasSuffix(path, ".filez") {
			n++
		}
	}
	return n
}

func TestPullByDelta(t *testing.T) {
	t.Parallel()
	none := int64(1)
	for name, o := range map[string]delta.GenerateOptions{
		"parts": {}, "inline": {Inline: true}, "big-endian": {Endianness: delta.BigEndian}, "fallbacks": {MinFallbackSize: &none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDeltaSite(t, false, o)
			for _, want := range []string{ref, d.second.String()} {
				dst := d.at(t)
				res, err := Pull(t.Context(), dst, d.remote(), Request{Refs: []string{want}, RequireDeltas: true})
				testutil.Must(t, err)
				loose := d.loose()
				if res.DeltaParts == 0 || loose != res.Delta.Fallbacks || (loose > 0) != (name == "fallbacks") {
					t.Errorf("%s: %d parts, %d loose files, plan %+v", want, res.DeltaParts, loose, res.Delta)
				}
				if partial, _ := dst.CommitPartial(d.second); partial {
					t.Error("the commit is marked as partial")
				}
				if diff := cmp.Diff(objects(t, d.src), objects(t, dst)); diff != "" {
					t.Error(diff)
				}
				testutil.Run(t, testutil.Tool(t, "ostree"), "fsck", "--repo="+dst.Dir().Path())
			}
		})
	}
}

// What deltas gave is in the repository before the walk looks for it there, as it would
// request it again.
func TestDeltaLandsBeforeWalk(t *testing.T) {
	t.Parallel()
	none := int64(1)
	for _, o := range []delta.GenerateOptions{{}, {MinFallbackSize: &none}} {
		d := newDeltaSite(t, false, o)
		dst := d.at(t)
		p, err := newPuller(dst, d.remote(), Request{Refs: []string{ref}, RequireDeltas: true})
		testutil.Must(t, err)
		testutil.Must(t, p.open(t.Context()))
		defer p.close(nil)
		wants, err := p.resolve(t.Context())
		testutil.Must(t, err)
		p.batch = newBatches(t.Context(), dst)
		_, err = p.admitAll(t.Context(), wants)
		testutil.Must(t, err)
		testutil.Must(t, p.applyDeltas(t.Context(), newWalk(p)))
		if diff := cmp.Diff(objects(t, d.src), objects(t, dst)); diff != "" {
			t.Error(diff)
		}
		testutil.Must(t, p.batch.finish())
	}
}

// TestDeltaChoice: the newest local commit counts, not only that of the ref; from
// nothing only for who has nothing.
func TestDeltaChoice(t *testing.T) {
	t.Parallel()
	d := newDeltaSite(t, true, delta.GenerateOptions{})
	empty := newRepo(t, bareMode())
	res, err := Pull(t.Context(), empty, d.remote(), Request{Refs: []string{ref}})
	testutil.Must(t, err)
	if res.DeltaParts == 0 || d.loose() != 0 {
		t.Errorf("a new repository did not use the delta from nothing: %+v", res)
	}
	res, err = Pull(t.Context(), d.at(t), d.remote(), Request{Refs: []string{ref}})
	testutil.Must(t, err)
	if res.DeltaParts != 0 || d.loose() != 10 {
		t.Errorf("a repository with most objects used the delta from nothing: %+v", res)
	}
	for name, req := range map[string]Request{
		"refused": {NoDeltas: true}, "metadata only": {CommitMetadataOnly: true}, "subpath": {Subpaths: []string{"/d1"}},
	} {
		req.Refs = []string{ref}
		d.forget()
		_, err := Pull(t.Context(), newRepo(t, bareMode()), d.remote(), req)
		testutil.Must(t, err)
		for path := range d.forget() {
			if isDelta(path[1:]) {
				t.Errorf("%s: asked for %s", name, path)
			}
		}
	}
	_, err = Pull(t.Context(), newRepo(t, ostree.ModeArchive), d.remote(), Request{Refs: []string{ref}, RequireDeltas: true})
	if !errors.Is(err, ErrNoDelta) {
		t.Errorf("deltas into an archive: %v", err)
	}
	_, err = Pull(t.Context(), newRepo(t, bareMode()), d.remote(), Request{Refs: []string{ref + "@" + d.first.String()}, RequireDeltas: true})
	if !errors.Is(err, ErrNoDelta) {
		t.Errorf("required and absent: %v", err)
	}
}

func TestDeltaDryRun(t *testing.T) {
	t.Parallel()
	d := newDeltaSite(t, false, delta.GenerateOptions{})
	dst := d.at(t)
	res, err := Pull(t.Context(), dst, d.remote(), Request{Refs: []string{ref}, RequireDeltas: true, DryRun: true})
	testutil.Must(t, err)
	if res.Delta.Parts != 1 || res.Delta.Size == 0 || res.Delta.UncompressedSize == 0 || res.DeltaParts != 0 || len(res.Refs) != 0 {
		t.Errorf("dry run: %+v", res)
	}
	if want := (Transfer{Known: true, Objects: 1, Bytes: res.Delta.Size}); res.Transfer != want {
		t.Errorf("transfer %+v, want %+v", res.Transfer, want)
	}
	if got, _ := dst.Resolve("o:" + ref); got != d.first {
		t.Error("the dry run moved the ref")
	}
	if has, _ := dst.Has(ostree.ObjectName{Checksum: d.second, Type: ostree.TypeCommit}); has {
		t.Error("the dry run stored the commit")
	}
}

// TestDamagedDelta falls back to objects, or fails where deltas are required.
func TestDamagedDelta(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"superblock", "0"} {
		d := newDeltaSite(t, false, delta.GenerateOptions{})
		name := filepath.Join(d.src.Dir().Path(), d.name.Path(), file)
		data, err := os.ReadFile(name)
		testutil.Must(t, err)
		data[len(data)/2] ^= 1
		testutil.Must(t, os.WriteFile(name, data, 0o644))
		dst := d.at(t)
		_, err = Pull(t.Context(), dst, d.remote(), Request{Refs: []string{ref}, RequireDeltas: true})
		if !errors.Is(err, ostree.ErrCorrupt) {
			t.Errorf("damaged %s: %v", file, err)
		}
		if got, _ := dst.Resolve("o:" + ref); got != d.first {
			t.Error("the failed pull moved the ref")
		}
		res, err := Pull(t.Context(), dst, d.remote(), Request{Refs: []string{ref}})
		testutil.Must(t, err)
		if res.Content == 0 || res.Refs["o:"+ref] != d.second {
			t.Errorf("damaged %s: %+v", file, res)
		}
	}
	// An unreachable part is no damage: the server is.
	d := newDeltaSite(t, false, delta.GenerateOptions{})
	d.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if !strings.HasSuffix(r.URL.Path, "/0") {
			return false
		}
		http.Error(w, "no", http.StatusInternalServerError)
		return true
	})
	net := quick()
	net.Retries = -1
	var status *StatusError
	if _, err := Pull(t.Context(), d.at(t), d.remote(), Request{Refs: []string{ref}, Network: net}); !errors.As(err, &status) || status.Status != 500 {
		t.Errorf("server error: %v", err)
	}
}

// deltaCheck accepts one signed superblock.
type deltaCheck struct{ seen int }

func (c *deltaCheck) VerifyDelta(_ []byte, sigs gvariant.Dict) error {
	c.seen++
	if sigs.Len() == 0 {
		return errors.New("no signatures")
	}
	return nil
}

func TestSignedDelta(t *testing.T) {
	t.Parallel()
	d := newDeltaSite(t, false, delta.GenerateOptions{})
	dst := d.at(t)
	cfg := dst.Config()
	testutil.Must(t, cfg.SetBool("core", "sign-verify-deltas", true))
	testutil.Must(t, dst.SetConfig(cfg))
	check := &deltaCheck{}
	_, err := Pull(t.Context(), dst, d.remote(), Request{Refs: []string{ref}, SignDelta: check})
	if !errors.Is(err, ErrSignature) || check.seen != 0 {
		t.Errorf("unsigned delta where one has to be signed: %v", err)
	}
}

// TestPullFromRealDelta applies what the real tool generated.
func TestPullFromRealDelta(t *testing.T) {
	t.Parallel()
	real := testutil.Tool(t, "ostree")
	src := newRepo(t, ostree.ModeArchive)
	first := commit(t, src, spec{ref: ref, files: 30, time: 1})
	second := commit(t, src, spec{ref: ref, files: 40, time: 2, parent: first})
	where := "--repo=" + src.Dir().Path()
	testutil.Run(t, real, "static-delta", where, "generate", "--from="+first.String(), "--to="+second.String())
	testutil.Run(t, real, "summary", where, "-u")
	d := deltaSite{site: serve(t, src), src: src, first: first, second: second}
	dst := d.at(t)
	res, err := Pull(t.Context(), dst, d.remote(), Request{Refs: []string{ref}, RequireDeltas: true})
	testutil.Must(t, err)
	if res.DeltaParts != 1 || d.loose() != 0 {
		t.Errorf("result: %+v", res)
	}
	testutil.Run(t, real, "fsck", "--repo="+dst.Dir().Path())
}

// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// bareModes are those that libostree applies deltas to.
var bareModes = []ostree.Mode{ostree.ModeBareUser, ostree.ModeBareUserOnly, ostree.ModeBare}

// TestLibostreeAppliesOurs: every kind of delta, pulled and applied offline by the
// real program, which then checks each object.
func TestLibostreeAppliesOurs(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	for name, o := range map[string]GenerateOptions{
		"plain": {}, "inline": {Inline: true}, "big endian": {Endianness: BigEndian}, "no bsdiff": {DisableBsdiff: true},
		"small chunks": {MaxChunkSize: size(100_000), DisableXZ: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, path, from, to := pair(t, ostree.ModeArchive)
			o.From, o.To = from, to
			res, err := Generate(t.Context(), r, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range bareModes {
				if m == ostree.ModeBare && os.Getuid() != 0 {
					continue
				}
				_, target := copyCommit(t, r, from, m)
				testutil.Run(t, "ostree", "--repo="+target, "static-delta", "apply-offline", path+"/"+res.Delta.Name.Path())
				testutil.Run(t, "ostree", "--repo="+target, "fsck")
				testutil.Run(t, "ostree", "--repo="+target, "ls", "-R", to.String())
			}
			testutil.Run(t, "ostree", "--repo="+path, "summary", "-u")
			_, target := copyCommit(t, r, from, ostree.ModeBareUser)
			testutil.Run(t, "ostree", "--repo="+target, "pull-local", "--require-static-deltas", path, to.String())
			testutil.Run(t, "ostree", "--repo="+target, "fsck", "-a")
		})
	}
}

func TestLibostreeShowsOurs(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r, path, from, to := pair(t, ostree.ModeArchive)
	for _, e := range []Endianness{LittleEndian, BigEndian} {
		o := GenerateOptions{From: from, To: to, Endianness: e, MinFallbackSize: size(2000), MaxChunkSize: size(50_000)}
		res, err := Generate(t.Context(), r, o)
		if err != nil {
			t.Fatal(err)
		}
		got := testutil.Run(t, "ostree", "--repo="+path, "static-delta", "show", res.Delta.Name.String())
		if !strings.Contains(got, "Endianness: "+e.String()+"\n") {
			t.Errorf("endianness %s:\n%s", e, got)
		}
		want := showText(t, r, res.Delta.Name)
		if !strings.Contains(got, want) {
			t.Errorf("libostree shows\n%s\nwe\n%s", got, want)
		}
	}
	if got := testutil.Run(t, "ostree", "--repo="+path, "static-delta", "list"); got != from.String()+"-"+to.String() {
		t.Errorf("list: %s", got)
	}
}

// TestWeApplyLibostrees is the reverse, both byte orders and inline.
func TestWeApplyLibostrees(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	for name, args := range map[string][]string{
		"plain": nil, "inline": {"--inline"}, "big": {"--set-endianness=B"}, "no bsdiff": {"--disable-bsdiff"},
		"chunks": {"--max-chunk-size=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, path, from, to := pair(t, ostree.ModeArchive)
			for _, start := range []ostree.Checksum{from, {}} {
				cmd := append([]string{"ostree", "--repo=" + path, "static-delta", "generate", "--to=" + to.String()}, args...)
				if start.IsZero() {
					cmd = append(cmd, "--empty")
				} else {
					cmd = append(cmd, "--from="+start.String())
				}
				testutil.Run(t, cmd...)
				n := ostree.DeltaName{From: start, To: to}
				for _, m := range append(bareModes, ostree.ModeArchive) {
					if m == ostree.ModeBare && os.Getuid() != 0 {
						continue
					}
					target, _ := copyCommit(t, r, start, m)
					if _, err := ApplyOffline(t.Context(), target, testutil.OpenDir(t, path+"/"+n.Path()), OfflineOptions{}); err != nil {
						t.Fatalf("%s in %s: %v", n, m, err)
					}
					same(t, r, target, to)
				}
			}
		})
	}
}

func TestIndexesAreLibostrees(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r, path, from, to := pair(t, ostree.ModeArchive)
	for _, o := range []GenerateOptions{{From: from, To: to}, {To: to}, {To: from}} {
		if _, err := Generate(t.Context(), r, o); err != nil {
			t.Fatal(err)
		}
	}
	if err := Reindex(t.Context(), r, ostree.Checksum{}); err != nil {
		t.Fatal(err)
	}
	ours := readIndexes(t, path)
	if len(ours) != 2 {
		t.Fatalf("indexes %d", len(ours))
	}
	if cfg := testutil.Run(t, "ostree", "--repo="+path, "config", "get", "core.indexed-deltas"); cfg != "true" {
		t.Errorf("indexed-deltas %q", cfg)
	}
	if err := os.RemoveAll(path + "/delta-indexes"); err != nil {
		t.Fatal(err)
	}
	testutil.Run(t, "ostree", "--repo="+path, "static-delta", "reindex")
	for name, data := range readIndexes(t, path) {
		if ours[name] != data {
			t.Errorf("%s differs from libostree's", name)
		}
	}
	entries, err := ParseIndex([]byte(ours[IndexPath(to)]), to)
	if err != nil || len(entries) != 2 || entries[1].Name.From == entries[0].Name.From {
		t.Errorf("entries %+v, %v", entries, err)
	}
	if list, err := Indexes(r); err != nil || len(list) != 2 {
		t.Errorf("list %v, %v", list, err)
	}
	if err := Delete(r, ostree.DeltaName{To: from}); err != nil {
		t.Fatal(err)
	}
	if err := Reindex(t.Context(), r, ostree.Checksum{}); err != nil {
		t.Fatal(err)
	}
	if got := readIndexes(t, path); len(got) != 1 {
		t.Errorf("left indexes %d", len(got))
	}
}

func readIndexes(t *testing.T, repo string) map[string]string {
	t.Helper()
	out := map[string]string{}
	names, err := filepath.Glob(repo + "/delta-indexes/*/*.index")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		data, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(repo, n)
		if err != nil {
			t.Fatal(err)
		}
		out[rel] = string(data)
	}
	return out
}

// showText prints the sums of a delta as libostree does.
func showText(t *testing.T, r *ostree.Repo, n ostree.DeltaName) string {
	t.Helper()
	d, err := Load(r, n)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	dir := testutil.OpenDir(t, r.Dir().Path()+"/"+n.Path())
	fmt.Fprintf(&b, "Number of parts: %d\n", len(d.Parts))
	for i, p := range d.Parts {
		fmt.Fprintf(&b, "PartMeta%d: nobjects=%d size=%d usize=%d\n", i, p.NumObjects(), p.Size, p.UncompressedSize)
		info, err := Inspect(t.Context(), r, dir, d, i)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "PartPayload%d: nmodes=%d nxattrs=%d blobsize=%d opsize=%d\n", i, info.Modes, info.Xattrs, info.Data, info.Ops)
		c := info.Counts
		fmt.Fprintf(&b, "PartPayloadOps%d: openspliceclose=%d open=%d write=%d setread=%d unsetread=%d close=%d bspatch=%d\n",
			i, c.Splice, c.Open, c.Write, c.SetSource, c.UnsetSource, c.Close, c.Patch)
	}
	return b.String()
}

// TestSignedFormat: what libostree signs we parse, what we wrap it reads.
func TestSignedFormat(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r, path, from, to := pair(t, ostree.ModeArchive)
	gen := exec.Command("ostree", "--repo="+path, "static-delta", "generate", "--sign-type=dummy", "--sign=key", "--from="+from.String(), to.String())
	gen.Env = append(os.Environ(), "OSTREE_DUMMY_SIGN_ENABLED=1")
	if out, err := gen.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n := ostree.DeltaName{From: from, To: to}
	file := path + "/" + n.Path() + "/superblock"
	d, err := Load(r, n)
	if err != nil || !d.Signed {
		t.Fatalf("signed %v", err)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := marshalSigned(d.SignedData, d.Signatures); err != nil || string(got) != string(want) {
		t.Errorf("signed superblock differs: %v", err)
	}
	if got, err := d.marshal(); err != nil || string(got) != string(d.SignedData) {
		t.Errorf("superblock differs: %v", err)
	}
	o := GenerateOptions{From: from, To: to, Sign: func(_ context.Context, _ []byte) (sigs gvariant.Dict, err error) {
		sigs.Set("ostree.sign.dummy", gvariant.ByteSlices([][]byte{[]byte("key")}))
		return sigs, nil
	}}
	if _, err := Generate(t.Context(), r, o); err != nil {
		t.Fatal(err)
	}
	verify := exec.Command("ostree", "--repo="+path, "static-delta", "verify", "--sign-type=dummy", n.String(), "key")
	verify.Env = gen.Env
	if out, err := verify.CombinedOutput(); err != nil || !strings.Contains(string(out), "Verification OK") {
		t.Errorf("%v: %s", err, out)
	}
}

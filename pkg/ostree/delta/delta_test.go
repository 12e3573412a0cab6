// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

var allModes = []ostree.Mode{ostree.ModeArchive, ostree.ModeBare, ostree.ModeBareUser, ostree.ModeBareUserOnly}

// variants are options whose deltas must all lead to the same commit.
func variants() map[string]GenerateOptions {
	return map[string]GenerateOptions{
		"plain": {}, "inline": {Inline: true}, "big endian": {Endianness: BigEndian}, "no bsdiff": {DisableBsdiff: true},
		"tiny bsdiff": {MaxBsdiffSize: size(0)}, "small chunks": {MaxChunkSize: size(100_000)}, "own encoder": {DisableXZ: true},
		"one worker": {Workers: 1},
	}
}

// TestRoundTrip makes each kind of delta once and applies it in every mode.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	r, _, from, to := pair(t, ostree.ModeArchive)
	for name, o := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.From, o.To = from, to
			if name == "plain" || name == "inline" {
				o.From = ostree.Checksum{}
				applyEverywhere(t, r, o)
				o.From = from
			}
			applyEverywhere(t, r, o)
		})
	}
}

func applyEverywhere(t *testing.T, r *ostree.Repo, o GenerateOptions) {
	t.Helper()
	o.Dir, o.Filename = testutil.OpenDir(t, t.TempDir()), "superblock"
	res, err := Generate(t.Context(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range allModes {
		if m == ostree.ModeBare && os.Getuid() != 0 {
			continue
		}
		target, _ := copyCommit(t, r, o.From, m)
		d, err := ApplyOffline(t.Context(), target, o.Dir, OfflineOptions{})
		if err != nil {
			t.Fatalf("from %s in %s: %v", o.From, m, err)
		}
		if d.Endianness != res.Delta.Endianness || len(d.Parts) != len(res.Delta.Parts) {
			t.Errorf("read %+v, wrote %+v", d.Endianness, res.Delta.Endianness)
		}
		same(t, r, target, o.To)
	}
}

func TestGenerateChoosesEncodings(t *testing.T) {
	t.Parallel()
	r, _, from, to := pair(t, ostree.ModeArchive)
	res, err := Generate(t.Context(), r, GenerateOptions{From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	if s := res.Stats; s.Bsdiff < 2 || s.Rollsum != 1 || s.Fallback != 0 {
		t.Errorf("encodings %+v", s)
	}
	if res.Stats.Compressed > 30_000 {
		t.Errorf("delta takes %d bytes", res.Stats.Compressed)
	}
	for name, o := range map[string]GenerateOptions{"disabled": {DisableBsdiff: true}, "none small enough": {MaxBsdiffSize: size(0)}} {
		o.From, o.To = from, to
		res, err := Generate(t.Context(), r, o)
		if err != nil {
			t.Fatal(err)
		}
		if res.Stats.Bsdiff != 0 || res.Stats.Rollsum < 2 {
			t.Errorf("bsdiff %s: %+v", name, res.Stats)
		}
	}
}

func TestGenerateIsDeterministic(t *testing.T) {
	t.Parallel()
	var first []byte
	for i := range 4 {
		r, path, from, to := pair(t, ostree.ModeArchive)
		o := GenerateOptions{From: from, To: to, Workers: i + 1, Timestamp: time.Unix(5, 0), MaxChunkSize: size(300_000)}
		res, err := Generate(t.Context(), r, o)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path + "/" + res.Delta.Name.Path() + "/superblock")
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if !bytes.Equal(data, first) {
			t.Fatalf("%d workers give another superblock", i+1)
		}
	}
}

func TestFallback(t *testing.T) {
	t.Parallel()
	r, path, _, to := pair(t, ostree.ModeArchive)
	res, err := Generate(t.Context(), r, GenerateOptions{To: to, MinFallbackSize: size(100_000)})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Delta.Fallbacks) != 2 || res.Stats.Fallback != 2 {
		t.Fatalf("fallbacks %+v", res.Delta.Fallbacks)
	}
	target, _ := newRepo(t, ostree.ModeBareUser)
	_, err = ApplyOffline(t.Context(), target, testutil.OpenDir(t, path+"/"+res.Delta.Name.Path()), OfflineOptions{})
	if !errors.Is(err, ErrFallback) {
		t.Fatalf("got %v", err)
	}
	if got, err := Load(r, res.Delta.Name); err != nil || got.Fallbacks[0] != res.Delta.Fallbacks[0] {
		t.Fatalf("read %+v, %v", got.Fallbacks, err)
	}
}

func TestApplyNeedsSource(t *testing.T) {
	t.Parallel()
	r, path, from, to := pair(t, ostree.ModeArchive)
	res, err := Generate(t.Context(), r, GenerateOptions{From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	target, _ := newRepo(t, ostree.ModeBareUser)
	if _, err := ApplyOffline(t.Context(), target, testutil.OpenDir(t, path+"/"+res.Delta.Name.Path()), OfflineOptions{}); !errors.Is(err, ErrNoSource) {
		t.Fatalf("got %v", err)
	}
}

// TestApplyRefusesDamage flips every bit of a sample of places in the superblock
// and the part: nothing wrong may get in.
func TestApplyRefusesDamage(t *testing.T) {
	t.Parallel()
	r, path, from, to := pair(t, ostree.ModeArchive)
	res, err := Generate(t.Context(), r, GenerateOptions{From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	target, _ := copyCommit(t, r, from, ostree.ModeBareUser)
	dir := path + "/" + res.Delta.Name.Path()
	part, err := os.ReadFile(dir + "/0")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string][]byte{"cut": part[:len(part)-1], "longer": append(bytes.Clone(part), 0), "empty": {}}
	for i := 0; i < len(part); i += len(part)/40 + 1 {
		bad := bytes.Clone(part)
		bad[i] ^= 1 << (i % 8)
		cases[fmt.Sprintf("byte %d", i)] = bad
	}
	for name, data := range cases {
		if err := os.WriteFile(dir+"/0", data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ApplyOffline(t.Context(), target, testutil.OpenDir(t, dir), OfflineOptions{}); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: got %v", name, err)
		}
		if found, _ := target.Has(ostree.ObjectName{Checksum: to, Type: ostree.TypeCommit}); found {
			t.Fatalf("%s: commit is there", name)
		}
	}
	if err := os.WriteFile(dir+"/0", part, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ApplyOffline(t.Context(), target, testutil.OpenDir(t, dir), OfflineOptions{}); err != nil {
		t.Fatalf("after all the refusals: %v", err)
	}
	same(t, r, target, to)
}

func TestMetadataSignatureAndFile(t *testing.T) {
	t.Parallel()
	r, path, from, to := pair(t, ostree.ModeArchive)
	_, err := r.Update(t.Context(), func(ctx context.Context, txn *ostree.Txn) error {
		var meta gvariant.Dict
		meta.Set("ostree.gpgsigs", gvariant.ByteSlices([][]byte{{1, 2}}))
		return txn.SetCommitMeta(ctx, to, meta)
	})
	if err != nil {
		t.Fatal(err)
	}
	var user gvariant.Dict
	user.Set("user.key", gvariant.String("value"))
	var signed []byte
	out := t.TempDir()
	o := GenerateOptions{From: from, To: to, Inline: true, Metadata: user, Dir: testutil.OpenDir(t, out), Filename: "some.delta"}
	o.Sign = func(_ context.Context, data []byte) (d gvariant.Dict, err error) {
		signed = data
		d.Set("ostree.sign.dummy", gvariant.ByteSlices([][]byte{[]byte("key")}))
		return d, nil
	}
	if _, err := Generate(t.Context(), r, o); err != nil {
		t.Fatal(err)
	}
	if names, _ := r.Deltas(); len(names) != 0 {
		t.Errorf("repository has deltas %v", names)
	}
	target, _ := copyCommit(t, r, from, ostree.ModeBareUserOnly)
	refused := errors.New("refused")
	verify := OfflineOptions{Superblock: "some.delta", Verify: func(*Delta) error { return refused }}
	if _, err := ApplyOffline(t.Context(), target, testutil.OpenDir(t, out), verify); !errors.Is(err, refused) {
		t.Fatalf("got %v", err)
	}
	d, err := ApplyOffline(t.Context(), target, testutil.OpenDir(t, out), OfflineOptions{Superblock: "some.delta"})
	if err != nil {
		t.Fatal(err)
	}
	if !d.Signed || !bytes.Equal(d.SignedData, signed) {
		t.Error("signed bytes differ")
	}
	if sigs, _ := d.Signatures.ByteSlices("ostree.sign.dummy"); len(sigs) != 1 {
		t.Errorf("signatures %v", d.Signatures.Keys())
	}
	if s, _ := d.Metadata.Str("user.key"); s != "value" || d.Metadata.Keys()[0] != "user.key" {
		t.Errorf("metadata %v", d.Metadata.Keys())
	}
	if meta, err := target.CommitMeta(to); err != nil || meta.Len() != 1 {
		t.Errorf("detached metadata %v, %v", meta.Keys(), err)
	}
	same(t, r, target, to)
	if entries, _ := os.ReadDir(path + "/deltas"); len(entries) != 0 {
		t.Errorf("left %v in the repository", entries)
	}
}

func TestRegenerateReplacesParts(t *testing.T) {
	t.Parallel()
	r, path, from, to := pair(t, ostree.ModeArchive)
	o := GenerateOptions{From: from, To: to, MaxChunkSize: size(50_000)}
	res, err := Generate(t.Context(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Delta.Parts) < 3 {
		t.Fatalf("%d parts", len(res.Delta.Parts))
	}
	o.IfNotExists = true
	if again, err := Generate(t.Context(), r, o); err != nil || !again.Existed {
		t.Fatalf("again: %+v, %v", again, err)
	}
	o = GenerateOptions{From: from, To: to, Inline: true}
	if res, err = Generate(t.Context(), r, o); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(path + "/" + res.Delta.Name.Path())
	if err != nil || len(entries) != 1 || entries[0].Name() != "superblock" {
		t.Errorf("left %v, %v", entries, err)
	}
	if err := Delete(r, res.Delta.Name); err != nil {
		t.Fatal(err)
	}
	if found, err := Exists(r, res.Delta.Name); found || err != nil {
		t.Errorf("deleted delta exists: %v", err)
	}
	if err := Delete(r, res.Delta.Name); !errors.Is(err, ostree.ErrNotFound) {
		t.Errorf("delete again: %v", err)
	}
}

// TestEmpty is the delta between commits of the same tree: one part, no objects.
func TestEmpty(t *testing.T) {
	t.Parallel()
	r, path := newRepo(t, ostree.ModeArchive)
	from := commitTree(t, r, ostree.Checksum{}, tree{"a": "b"})
	to := commitTree(t, r, from, tree{"a": "b"})
	res, err := Generate(t.Context(), r, GenerateOptions{From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Delta.Parts) != 1 || res.Delta.Parts[0].NumObjects() != 0 || res.Delta.Parts[0].UncompressedSize != 0 {
		t.Errorf("parts %+v", res.Delta.Parts)
	}
	target, _ := copyCommit(t, r, from, ostree.ModeBareUser)
	if _, err := ApplyOffline(t.Context(), target, testutil.OpenDir(t, path+"/"+res.Delta.Name.Path()), OfflineOptions{}); err != nil {
		t.Fatal(err)
	}
	same(t, r, target, to)
}

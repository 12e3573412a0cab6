// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// maskTime zeroes the time at which a summary was written, and that of the commit
// ostree-metadata, which was made by then, but perhaps in a second before.
func maskTime(t *testing.T, data []byte) []byte {
	t.Helper()
	s, err := ParseSummary(data)
	if err != nil {
		t.Fatal(err)
	}
	at, ok := s.Metadata.Uint64BE("ostree.summary.last-modified")
	if !ok || time.Since(time.Unix(int64(at), 0)).Abs() > time.Hour {
		t.Fatalf("last-modified = %d", at)
	}
	for made := at - 600; made <= at; made++ {
		data = bytes.ReplaceAll(data, binary.BigEndian.AppendUint64(nil, made), make([]byte, 8))
	}
	return data
}

func readRepoFile(t *testing.T, r *Repo, name string) []byte {
	t.Helper()
	data, err := r.Dir().ReadFile(name, 1<<24)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The summary of ostree and ours are the same bytes, dictionaries in the order of
// its hash tables included.
func TestInteropSummaryBytes(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	plain := func(t *testing.T, r *Repo) {}
	for name, c := range map[string]struct {
		options Options
		prepare func(t *testing.T, r *Repo)
		add     int
	}{
		"plain": {prepare: plain},
		"collections": {options: Options{CollectionID: "org.example.Main"}, add: 3, prepare: func(t *testing.T, r *Repo) {
			for _, id := range []string{"org.example.Main", "org.example.Other", "com.example.Third"} {
				c, err := r.Resolve("b")
				if err == nil {
					err = r.SetCollectionRef(t.Context(), CollectionRef{id, "mirrored/ref"}, c)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			run(t, "ostree", repoPath(r), "remote", "add", "--no-gpg-verify", "--collection-id=org.example.Remote", "origin", "file:///nowhere")
			run(t, "ostree", repoPath(r), "refs", "--create=origin:there", "b")
		}},
		"deltas": {add: 12, prepare: func(t *testing.T, r *Repo) {
			// One only: of several the order depends on the directory's.
			run(t, "ostree", repoPath(r), "static-delta", "generate", "--from=a/b", "--to=b")
			run(t, "ostree", repoPath(r), "config", "set", "core.tombstone-commits", "true")
		}},
		"no deltas": {add: 1, prepare: func(t *testing.T, r *Repo) {
			run(t, "ostree", repoPath(r), "static-delta", "generate", "--empty", "--to=b")
			run(t, "ostree", repoPath(r), "config", "set", "core.no-deltas-in-summary", "true")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newTestRepo(t, ModeArchive)
			if c.options.CollectionID != "" {
				if err := r.SetConfigValue("core", "collection-id", c.options.CollectionID); err != nil {
					t.Fatal(err)
				}
				r = reopen(t, r)
			}
			commitFiles(t, r, "b", Checksum{}, map[string]string{"x": "1"})
			commitFiles(t, r, "a/b", Checksum{}, map[string]string{"x": "2"})
			run(t, "ostree", repoPath(r), "commit", "--branch=v", "--tree=ref=b", "--timestamp=2023-11-14T22:13:20Z", "--add-metadata-string=version=7", "-s", "x")
			c.prepare(t, r)
			args := []string{repoPath(r), "summary", "-u"}
			var md gvariant.Dict
			for i := range c.add {
				key, value := fmt.Sprintf("key.of-%d", i*7), strings.Repeat("v", i)
				args = append(args, "--add-metadata="+key+"='"+value+"'")
				md.Set(key, gvariant.String(value))
			}
			run(t, "ostree", args...)
			// Before our own files are written: theirs must be found up to date.
			r = reopen(t, r)
			theirs, index := maskTime(t, readRepoFile(t, r, "summary")), indexFiles(t, r)
			if err := r.WriteSummary(t.Context(), SummaryOptions{Metadata: md}); err != nil {
				t.Fatal(err)
			}
			if ours := maskTime(t, readRepoFile(t, r, "summary")); !bytes.Equal(ours, theirs) {
				t.Errorf("summaries differ:\nours   %q\ntheirs %q", ours, theirs)
			}
			if diff := cmp.Diff(index, indexFiles(t, r)); diff != "" {
				t.Errorf("delta indexes (-ostree +ours):\n%s", diff)
			}
		})
	}
}

func indexFiles(t *testing.T, r *Repo) map[string]string {
	t.Helper()
	list, err := r.DeltaIndexes()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, c := range list {
		files[c.String()] = string(readRepoFile(t, r, DeltaIndexPath(c)))
	}
	return files
}

func reopen(t *testing.T, r *Repo) *Repo {
	t.Helper()
	again, err := Open(r.Dir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	return again
}

// An index goes when its last delta is gone.
func TestReindex(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r := newTestRepo(t, ModeArchive)
	c := commitFiles(t, r, "a", Checksum{}, map[string]string{"x": "1"})
	run(t, "ostree", repoPath(r), "static-delta", "generate", "--empty", "--to=a")
	if err := r.Dir().RemoveAll("delta-indexes"); err != nil {
		t.Fatal(err)
	}
	if err := r.ReindexDeltas(t.Context(), Checksum{}); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "ostree", repoPath(r), "static-delta", "indexes"); out != c.String() {
		t.Errorf("indexes = %q", out)
	}
	if n, err := r.PruneDeltas(t.Context(), c); n != 1 || err != nil {
		t.Errorf("pruned %d deltas, %v", n, err)
	}
	if err := r.WriteSummary(t.Context(), SummaryOptions{}); err != nil {
		t.Fatal(err)
	}
	if list, err := r.DeltaIndexes(); len(list) != 0 || err != nil {
		t.Errorf("indexes are left: %v, %v", list, err)
	}
	if out := run(t, "ostree", repoPath(r), "config", "get", "core.indexed-deltas"); out != "true" {
		t.Errorf("core.indexed-deltas = %q", out)
	}
}

// The commit of ostree-metadata differs from that of ostree by its time alone.
func TestInteropMetadataCommit(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r := newTestRepo(t, ModeArchive)
	if c, err := r.WriteMetadataCommit(t.Context(), MetadataCommitOptions{}); !c.IsZero() || err != nil {
		t.Errorf("without a collection: %s, %v", c, err)
	}
	run(t, "ostree", repoPath(r), "config", "set", "core.collection-id", "org.example.Main")
	r = reopen(t, r)
	run(t, "ostree", repoPath(r), "summary", "-u", "--add-metadata=map=@a{sv} {}", "--add-metadata=n=@t 7")
	theirs, err := r.Resolve("ostree-metadata")
	if err != nil {
		t.Fatal(err)
	}
	var md gvariant.Dict
	md.Set("map", gvariant.Array("{sv}"))
	md.Set("n", gvariant.Uint64(7))
	signed := false
	ours, err := r.WriteMetadataCommit(t.Context(), MetadataCommitOptions{Metadata: md, Sign: signNothing(&signed)})
	if err != nil || !signed {
		t.Fatal(err, signed)
	}
	a, b := loadCommit(t, r, theirs), loadCommit(t, r, ours)
	if b.Parent != theirs {
		t.Errorf("parent = %s", b.Parent)
	}
	b.Parent, b.Timestamp = a.Parent, a.Timestamp
	want, _ := a.Marshal()
	if got, err := b.Marshal(); !bytes.Equal(got, want) || err != nil {
		t.Errorf("commits differ:\nours   %q\ntheirs %q", got, want)
	}
	if err := b.VerifyBindings("org.example.Main", "ostree-metadata"); err != nil {
		t.Error(err)
	}
	run(t, "ostree", repoPath(r), "fsck", "--verify-bindings")
}

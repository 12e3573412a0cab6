// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

func refNames(list []RefEntry) []string {
	var names []string
	for _, e := range list {
		name := e.Name
		if e.Alias != "" {
			name += " -> " + e.Alias
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// What ListRefs gives is what ostree prints, for every kind of prefix.
func TestInteropListRefs(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r := newTestRepo(t, ModeArchive)
	ctx := t.Context()
	c := commitFiles(t, r, "os/x86/main", Checksum{}, map[string]string{"x": "1"})
	for _, spec := range []string{"plain", "os/arm/main", "origin:os/x86/main", "origin:up", "other:up"} {
		if err := r.SetRef(ctx, spec, c); err != nil {
			t.Fatal(err)
		}
	}
	for _, pair := range [][2]string{{"stable", "plain"}, {"os/stable/main", "os/x86/main"}, {"twice", "stable"}} {
		if err := r.SetAlias(ctx, pair[0], pair[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Dir().WriteFile("refs/heads/.hidden", []byte("?"), 0o644); err != nil {
		t.Fatal(err)
	}
	for args, o := range map[string]RefListOptions{
		"":                  {},
		"--list":            {},
		"-A":                {Aliases: true},
		"os":                {Prefix: "os", CutPrefix: true},
		"--list os":         {Prefix: "os"},
		"os/x86/main":       {Prefix: "os/x86/main", CutPrefix: true},
		"-A os":             {Prefix: "os", Aliases: true},
		"none":              {Prefix: "none"},
		"origin:":           {Prefix: "origin:", CutPrefix: true},
		"origin:.":          {Prefix: "origin:.", CutPrefix: true},
		"origin:os":         {Prefix: "origin:os", CutPrefix: true},
		"origin:up":         {Prefix: "origin:up", CutPrefix: true},
		"--list other:":     {Prefix: "other:"},
		"--list origin:os":  {Prefix: "origin:os"},
		"--list none:above": {Prefix: "none:above"},
	} {
		out := run(t, "ostree", append([]string{repoPath(r), "refs"}, strings.Fields(args)...)...)
		var want []string
		for line := range strings.Lines(out) {
			// Of a remote ostree prints ./REF where it should not.
			want = append(want, strings.Replace(strings.TrimSpace(line), ":./", ":", 1))
		}
		slices.Sort(want)
		list, err := r.ListRefs(o)
		if err != nil {
			t.Errorf("refs %s: %v", args, err)
		}
		if diff := cmp.Diff(want, refNames(list)); diff != "" {
			t.Errorf("refs %s (-ostree +ours):\n%s", args, diff)
		}
	}
	for _, name := range []string{"stable", "os/stable/main", "twice"} {
		if out := run(t, "ostree", repoPath(r), "rev-parse", name); out != c.String() {
			t.Errorf("alias %s: %s", name, out)
		}
	}
}

// The conditions, and the words for them, are those of ostree.
func TestInteropRefErrors(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r := newTestRepo(t, ModeArchive)
	ctx := t.Context()
	c := commitFiles(t, r, "os/main", Checksum{}, map[string]string{"x": "1"})
	list := func(o RefListOptions) error { _, err := r.ListRefs(o); return err }
	rev := func(s string) error { _, err := r.Resolve(s); return err }
	reset := func(ref, rev string) error { _, err := r.Reset(ctx, ref, rev); return err }
	collections := func(id string) error { _, err := r.CollectionRefs(CollectionListOptions{Collection: id}); return err }
	for args, x := range map[string]struct {
		got  error
		cond error
	}{
		"rev-parse none":                      {rev("none"), ErrNotFound},
		"rev-parse origin:none":               {rev("origin:none"), ErrNotFound},
		"rev-parse os":                        {rev("os"), ErrNotFound},
		"rev-parse os/main^":                  {rev("os/main^"), ErrNotFound},
		"rev-parse /x":                        {rev("/x"), ErrInvalid},
		"refs a//b":                           {list(RefListOptions{Prefix: "a//b"}), ErrInvalid},
		"refs -c nodots":                      {collections("nodots"), ErrInvalid},
		"refs -c --create=1a.b:x os/main":     {r.SetCollectionRef(ctx, CollectionRef{"1a.b", "x"}, c), ErrInvalid},
		"refs -A --create=r:x os/main":        {r.SetAlias(ctx, "r:x", "os/main"), ErrInvalid},
		"refs -A --create=x none":             {r.SetAlias(ctx, "x", "none"), ErrNotFound},
		"refs --create=.x os/main":            {r.SetRef(ctx, ".x", c), ErrInvalid},
		"refs --create=os os/main":            {r.SetRef(ctx, "os", c), ErrExists},
		"reset none os/main":                  {reset("none", "os/main"), ErrNotFound},
		"reset os/main none":                  {reset("os/main", "none"), ErrNotFound},
		"prune --only-branch=none":            {rev("none"), ErrNotFound},
		"prune --delete-commit=" + c.String(): {r.DeleteCommit(ctx, c), ErrExists},
	} {
		out, err := runFails(t, "ostree", append([]string{repoPath(r)}, strings.Fields(args)...)...)
		if err == nil {
			t.Errorf("ostree %s succeeds:\n%s", args, out)
			continue
		}
		theirs := strings.TrimPrefix(strings.TrimSpace(out), "error: ")
		if !errors.Is(x.got, x.cond) {
			t.Errorf("%s: %v is not %v", args, x.got, x.cond)
		}
		// A transaction adds which ref it was about.
		if x.got != nil && !strings.HasSuffix(x.got.Error(), theirs) {
			t.Errorf("%s:\nours   %v\nostree %s", args, x.got, theirs)
		}
	}
}

func TestAliasLoop(t *testing.T) {
	t.Parallel()
	r := newTestRepo(t, ModeArchive)
	ctx := t.Context()
	c := commitFiles(t, r, "a", Checksum{}, map[string]string{"x": "1"})
	if err := errors.Join(r.SetAlias(ctx, "d/b", "a"), r.SetAlias(ctx, "c", "d/b")); err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{{"a", "a"}, {"a", "c"}, {"d/b", "c"}} {
		if err := r.SetAlias(ctx, pair[0], pair[1]); !errors.Is(err, ErrInvalid) {
			t.Errorf("alias %s of %s: %v", pair[0], pair[1], err)
		}
	}
	if got, err := r.Resolve("c"); got != c || err != nil {
		t.Errorf("resolve = %s, %v", got, err)
	}
	if names, err := r.RefAliases("d/b"); !slices.Equal(names, []string{"c"}) || err != nil {
		t.Errorf("aliases = %v, %v", names, err)
	}
	if err := r.SetAlias(ctx, "d", "a"); !errors.Is(err, ErrExists) {
		t.Errorf("alias above refs: %v", err)
	}
	// What was an alias becomes a ref of its own.
	if err := r.SetRef(ctx, "c", c); err != nil {
		t.Fatal(err)
	}
	if names, err := r.RefAliases("d/b"); len(names) > 0 || err != nil {
		t.Errorf("aliases = %v, %v", names, err)
	}
}

func TestInteropCollectionRefs(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	r := newTestRepo(t, ModeArchive)
	ctx := t.Context()
	if err := r.SetConfigValue("core", "collection-id", "org.example.Main"); err != nil {
		t.Fatal(err)
	}
	run(t, "ostree", repoPath(r), "remote", "add", "--no-gpg-verify", "--collection-id=org.example.Up", "origin", "file:///nowhere")
	r = reopen(t, r)
	c := commitFiles(t, r, "a", Checksum{}, map[string]string{"x": "1"})
	for _, ref := range []CollectionRef{{"org.example.Main", "b"}, {"org.example.Other", "deep/er"}} {
		if err := r.SetCollectionRef(ctx, ref, c); err != nil {
			t.Fatal(err)
		}
	}
	for _, spec := range []string{"origin:up", "unknown:up"} {
		if err := r.SetRef(ctx, spec, c); err != nil {
			t.Fatal(err)
		}
	}
	all, err := r.CollectionRefs(CollectionListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for ref := range all {
		got = append(got, ref.String())
	}
	slices.Sort(got)
	want := strings.Split(run(t, "ostree", repoPath(r), "refs", "-c"), "\n")
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("collection refs (-ostree +ours):\n%s", diff)
	}
	for ref, local := range map[CollectionRef]bool{{"org.example.Main", "a"}: true, {"org.example.Up", "up"}: false, {"org.example.Other", "deep/er"}: false} {
		if sum, err := r.ResolveCollectionRef(ref, false); sum != c || err != nil {
			t.Errorf("%s = %s, %v", ref, sum, err)
		}
		if _, err := r.ResolveCollectionRef(ref, true); errors.Is(err, ErrNotFound) == local {
			t.Errorf("%s locally: %v", ref, err)
		}
	}
	if err := r.RemoveCollectionRef(ctx, CollectionRef{"org.example.Other", "deep/er"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ResolveCollectionRef(CollectionRef{"org.example.Other", "deep/er"}, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("a removed ref: %v", err)
	}
}

func TestCheckCollectionID(t *testing.T) {
	t.Parallel()
	for id, ok := range map[string]bool{
		"org.example.A": true, "a.b": true, "_a._b9": true, "": false, "a": false, ".a": false, "a.": false, "a..b": false,
		"a.9": false, "a.b-c": false, "a.b/c": false, "a.\u00fc": false, strings.Repeat("a.", 127) + "b": true, strings.Repeat("a.", 128) + "b": false,
	} {
		if err := CheckCollectionID(id); (err == nil) != ok || !ok && !errors.Is(err, ErrInvalid) {
			t.Errorf("collection id %q: %v", id, err)
		}
	}
}

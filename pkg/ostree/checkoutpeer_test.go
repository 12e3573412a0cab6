// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// optionsOf translates flags of ostree checkout as that program does.
func optionsOf(flags []string, tmp string) CheckoutOptions {
	has := func(f string) bool { return slices.Contains(flags, f) }
	o := CheckoutOptions{
		UserMode: has("-U"), RequireHardlinks: has("-H"), ForceCopy: has("-C"), BareUserOnlyDirs: has("-M"), Whiteouts: has("--whiteouts"),
		PassthroughWhiteouts: has("--process-passthrough-whiteouts"), AllowNoent: has("--allow-noent"),
	}
	o.UncompressedCache = !has("--disable-cache") && !o.RequireHardlinks && !o.ForceCopy && !o.Whiteouts && !o.BareUserOnlyDirs && !o.PassthroughWhiteouts
	switch {
	case has("--union"):
		o.Union = UnionOverwrite
	case has("--union-add"):
		o.Union, o.UncompressedCache = UnionAddFiles, false
	case has("--union-identical"):
		o.Union = UnionIdentical
	}
	for _, f := range flags {
		if p, ok := strings.CutPrefix(f, "--subpath="); ok {
			o.Subpath = p
		}
		if p, ok := strings.CutPrefix(f, "--skip-list="); ok {
			data, _ := os.ReadFile(p)
			lines := strings.Split(string(data), "\n")
			o.Filter = func(p string) bool { return !slices.Contains(lines, p) }
			o.UncompressedCache = false
		}
	}
	return o
}

// layout lists a tree with all that a checkout decides, links to the repository
// and times of the epoch included.
func layout(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		var st syscall.Stat_t
		if err := syscall.Lstat(p, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%q %o %d:%d rdev=%d epoch=%v", rel, st.Mode, st.Uid, st.Gid, st.Rdev, st.Mtim.Sec == 0)
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" linked=%v %s", st.Nlink > 1, sha(data).String()[:12])
		case syscall.S_IFLNK:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" linked=%v -> %s", st.Nlink > 1, target)
		}
		d := testutil.OpenDir(t, filepath.Dir(p))
		xattrs, err := d.Xattrs(filepath.Base(p))
		for _, x := range xattrs {
			if x.Name != userMetaXattr {
				line += fmt.Sprintf(" %s=%q", x.Name, x.Value)
			}
		}
		out = append(out, line)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var tmpNames = regexp.MustCompile(`(checkout-union-|\./tmp\.|\./\.tmp-|\.tmp-)[A-Za-z0-9]+`)

// peerCase is a checkout onto what before made.
type peerCase struct {
	name   string
	flags  []string
	before func(root string) error
	modes  []Mode // nil: all
	ref    string // "": base
}

// addLayers commits what the cases check out: base, a layer over it and one with
// the files that stand for deletions.
func addLayers(t *testing.T, r *Repo) {
	t.Helper()
	src := makeTree(t)
	d := testutil.OpenDir(t, src)
	steps := []error{
		d.WriteFile("usr/unreadable", []byte("u"), 0o200), d.MkdirAll("usr/world", 0o777), d.Chmod("usr/world", 0o2777), d.Chmod("usr/unreadable", 0o200),
	}
	layer := filepath.Join(t.TempDir(), "layer")
	for _, dir := range []string{"usr/bin", "usr/share", "etc"} {
		steps = append(steps, os.MkdirAll(filepath.Join(layer, dir), 0o755))
	}
	l := testutil.OpenDir(t, layer)
	steps = append(steps,
		l.WriteFile("usr/bin/tool", []byte("new\n"), 0o755), l.WriteFile("usr/bin/new", []byte("n"), 0o644), l.WriteFile("usr/empty", nil, 0o644),
		l.Symlink("elsewhere", "usr/dangling"), l.WriteFile("etc/conf", []byte("c"), 0o600))
	holes := filepath.Join(t.TempDir(), "holes")
	steps = append(steps, os.MkdirAll(filepath.Join(holes, "usr/lib"), 0o755), os.MkdirAll(filepath.Join(holes, "usr/bin"), 0o755))
	h := testutil.OpenDir(t, holes)
	steps = append(steps,
		h.WriteFile("usr/.wh.empty", nil, 0o644), h.WriteFile("usr/.wh.share", []byte("x"), 0o644), h.WriteFile("usr/lib/.wh..wh..opq", nil, 0o644),
		h.WriteFile("usr/lib/only", []byte("o"), 0o644), h.WriteFile("usr/bin/.ostree-wh.tool", nil, 0o640), h.WriteFile("usr/bin/.ostree-wh.gone", []byte("g"), 0o600))
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	for ref, dir := range map[string]string{"base": src, "layer": layer, "holes": holes} {
		commitDir(t, r, dir, ref, CommitOptions{CanonicalPermissions: false})
	}
}

func peerCases(skip string) []peerCase {
	put := func(name, content string) func(string) error {
		return func(root string) error {
			p := filepath.Join(root, name)
			return errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o644))
		}
	}
	mkdir := func(name string) func(string) error {
		return func(root string) error { return os.MkdirAll(filepath.Join(root, name), 0o711) }
	}
	link := func(target, name string) func(string) error {
		return func(root string) error {
			return errors.Join(os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755), os.MkdirAll(filepath.Join(root, "real"), 0o755), os.Symlink(target, filepath.Join(root, name)))
		}
	}
	linkable := []Mode{ModeBare, ModeBareUser, ModeBareUserOnly}
	cases := []peerCase{
		{name: "plain"}, {name: "user", flags: []string{"-U"}}, {name: "cache off", flags: []string{"-U", "--disable-cache"}}, {name: "copy", flags: []string{"-C"}},
		{name: "user copy", flags: []string{"-U", "-C"}}, {name: "links", flags: []string{"-H"}}, {name: "user links", flags: []string{"-U", "-H"}},
		{name: "dirs", flags: []string{"-M"}}, {name: "skip", flags: []string{"--skip-list=" + skip}}, {name: "skip below", flags: []string{"--skip-list=" + skip, "--subpath=/usr"}},
		{name: "subpath", flags: []string{"--subpath=/usr/lib"}}, {name: "subpath file", flags: []string{"--subpath=/usr/bin/tool"}},
		{name: "subpath link", flags: []string{"--subpath=/usr/dangling"}}, {name: "subpath file there", flags: []string{"--subpath=/usr/bin/tool"}, before: put("tool", "x")},
		{name: "subpath absent", flags: []string{"--subpath=/usr/no/such"}}, {name: "subpath through file", flags: []string{"--subpath=/usr/bin/tool/x"}},
		{name: "absent allowed", flags: []string{"--subpath=/nope", "--allow-noent"}}, {name: "through file allowed", flags: []string{"--subpath=/usr/empty/x", "--allow-noent"}},
		{name: "there", before: mkdir("x")}, {name: "add over", flags: []string{"--union-add"}, ref: "layer", before: put("usr/bin/tool", "mine")},
		{name: "over", flags: []string{"--union"}, ref: "layer", before: put("usr/bin/tool", "mine")}, {name: "over empty", flags: []string{"--union"}, ref: "layer", before: put("usr/empty", "mine")},
		{name: "copy over", flags: []string{"--union", "-C"}, ref: "layer", before: put("usr/bin/tool", "mine")},
		{name: "over directory", flags: []string{"--union"}, ref: "layer", before: mkdir("usr/bin/tool")}, {name: "over directory empty", flags: []string{"--union"}, ref: "layer", before: mkdir("usr/empty")},
		{name: "link over directory", flags: []string{"--union"}, ref: "layer", before: mkdir("usr/dangling")}, {name: "directory over file", flags: []string{"--union"}, ref: "layer", before: put("usr", "f")},
		{name: "add directory over file", flags: []string{"--union-add"}, ref: "layer", before: put("usr/bin", "f")}, {name: "through link", flags: []string{"--union"}, ref: "layer", before: link("../real", "usr/bin")},
		{name: "dangling", flags: []string{"--union"}, ref: "layer", before: link("nowhere", "usr/bin")},
		{name: "layer whiteouts", flags: []string{"--union", "--whiteouts"}, ref: "layer", before: mkdir("usr/bin/tool/sub")},
		{name: "link whiteouts", flags: []string{"--union", "--whiteouts"}, ref: "layer", before: mkdir("usr/dangling/sub")},
		{name: "passthrough", flags: []string{"--process-passthrough-whiteouts"}, ref: "holes"}, {name: "passthrough user", flags: []string{"-U", "--process-passthrough-whiteouts"}, ref: "holes"},
		{name: "passthrough over", flags: []string{"--union", "--process-passthrough-whiteouts"}, ref: "holes", before: put("usr/bin/tool", "f")},
		{name: "passthrough add", flags: []string{"--union-add", "--process-passthrough-whiteouts"}, ref: "holes", before: put("usr/bin/tool", "f")},
		{name: "holes as files", ref: "holes"},
	}
	for _, name := range []string{"usr/share/x", "usr/lib/old", "usr/keep"} {
		cases = append(cases, peerCase{name: "holes " + name, flags: []string{"--union", "--whiteouts"}, ref: "holes", before: put(name, "mine")})
	}
	for _, user := range []string{"", "-U"} {
		for _, before := range []struct {
			name string
			fn   func(string) error
		}{{"nothing", nil}, {"file", put("usr/bin/tool", "mine")}, {"same size", put("usr/bin/tool", "abc\n")}, {"empty", put("usr/empty", "x")}, {"link", put("usr/dangling", "x")}, {"dir", mkdir("usr/bin/new")}} {
			flags := []string{"-H", "--union-identical"}
			if user != "" {
				flags = append(flags, user)
			}
			cases = append(cases, peerCase{name: "identical " + user + before.name, flags: flags, ref: "layer", before: before.fn, modes: linkable})
		}
	}
	return cases
}

// Each kind of checkout leaves what libostree leaves, and fails in its words.
func TestPeerCheckout(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "ostree")
	needRoot(t)
	skip := filepath.Join(t.TempDir(), "skip")
	if err := os.WriteFile(skip, []byte("/usr/bin/\n/usr/empty\n/usr/share\n/lib/\n/bin/tool\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, mode := range allModes {
		r := newTestRepo(t, mode)
		if mode == ModeBareUserOnly {
			run(t, "ostree", repoPath(r), "config", "set", "core.fsync", "false")
		}
		addLayers(t, r)
		for _, c := range peerCases(skip) {
			if c.modes != nil && !slices.Contains(c.modes, mode) {
				continue
			}
			t.Run(mode.String()+" "+c.name, func(t *testing.T) { comparePeer(t, r, c) })
		}
	}
}

func comparePeer(t *testing.T, r *Repo, c peerCase) {
	tmp := t.TempDir()
	for _, who := range []string{"theirs", "ours"} {
		if c.before != nil {
			if err := c.before(filepath.Join(tmp, who)); err != nil {
				t.Fatal(err)
			}
		}
	}
	ref := c.ref
	if ref == "" {
		ref = "base"
	}
	cmd := exec.Command("ostree", append(append([]string{repoPath(r), "checkout"}, c.flags...), ref, filepath.Join(tmp, "theirs"))...)
	out, _ := cmd.CombinedOutput()
	want := strings.TrimPrefix(strings.TrimSpace(string(out)), "error: ")
	commit, err := r.ReadRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	if err := r.Checkout(t.Context(), commit, testutil.OpenDir(t, tmp), "ours", optionsOf(c.flags, tmp)); err != nil {
		got = err.Error()
	}
	if want, got := tmpNames.ReplaceAllString(want, "TMP"), tmpNames.ReplaceAllString(got, "TMP"); want != got {
		t.Errorf("error %q, libostree says %q", got, want)
	}
	if want != "" {
		return // how far either came before the error depends on the order
	}
	if diff := cmp.Diff(layout(t, filepath.Join(tmp, "theirs")), layout(t, filepath.Join(tmp, "ours"))); diff != "" {
		t.Errorf("layout differs (-libostree +ours):\n%s", diff)
	}
}

// SPDX-License-Identifier: Apache-2.0

package assemble_test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// world is a cache and a place for trees.
type world struct {
	t    *testing.T
	repo *ostree.Repo
	dst  *fsx.Dir
}

func newWorld(t *testing.T) *world {
	base := t.TempDir()
	return &world{t, rpmtest.Cache(t, base), rpmtest.Dir(t, base, "trees")}
}

func (w *world) layers(specs ...rpmtest.Spec) []assemble.Layer {
	w.t.Helper()
	var sources []importer.Source
	for _, s := range specs {
		sources = append(sources, rpmtest.Build(w.t, s))
	}
	res, err := importer.All(w.t.Context(), w.repo, sources, importer.AllOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []assemble.Layer
	for i := range res {
		out = append(out, assemble.Layer{Package: sources[i].Package, Commit: res[i].Commit})
	}
	return out
}

func (w *world) assemble(name string, layers []assemble.Layer, o assemble.Options) (*assemble.Result, error) {
	return assemble.Assemble(w.t.Context(), w.repo, layers, w.dst, name, o)
}

func (w *world) listing(name string) string {
	w.t.Helper()
	out, err := exec.Command("find", filepath.Join(w.dst.Path(), name), "-mindepth", "1", "-printf", "%P %m %l\n").Output()
	if err != nil {
		w.t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func file(name, p, content string) rpmtest.Spec {
	return rpmtest.Spec{Name: name, Install: "mkdir -p %{buildroot}" + filepath.Dir(p) + "\nprintf '" + content + "' > %{buildroot}" + p, Files: p}
}

var filesystem = rpmtest.Spec{Name: "filesystem", Install: `cd %{buildroot}
mkdir -p usr/bin usr/sbin usr/lib usr/lib64 etc boot var
for l in bin sbin lib lib64; do ln -s usr/$l $l; done`, Files: "/bin\n/sbin\n/lib\n/lib64\n%dir /usr\n%dir /usr/bin\n%dir /usr/sbin\n%dir /usr/lib\n%dir /usr/lib64\n%dir /etc\n%dir /boot"}

func TestUnionFollowsLinksInAnyOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.layers(filesystem, file("a", "/lib/a", "a"), file("b", "/usr/lib/b", "b"), file("c", "/etc/c.d/c", "c"),
		rpmtest.Spec{Name: "linkdir", Install: "mkdir -p %{buildroot}/usr/share/real; ln -s real %{buildroot}/usr/share/alias; echo r > %{buildroot}/usr/share/real/r", Files: "/usr/share/alias\n/usr/share/real"},
		file("through", "/usr/share/alias/t", "t"))
	if _, err := w.assemble("one", l, assemble.Options{}); err != nil {
		t.Fatal(err)
	}
	want := `bin 777 usr/bin
boot 755 
etc 777 usr/etc
lib 777 usr/lib
lib64 777 usr/lib64
sbin 777 usr/sbin
usr 755 
usr/bin 755 
usr/etc 755 
usr/etc/c.d 755 
usr/etc/c.d/c 644 
usr/lib 755 
usr/lib/a 644 
usr/lib/b 644 
usr/lib64 755 
usr/sbin 755 
usr/share 755 
usr/share/alias 777 real
usr/share/real 755 
usr/share/real/r 644 
usr/share/real/t 644 
var 755 `
	if diff := cmp.Diff(want, strings.TrimRight(w.listing("one"), "\n")); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	reversed := []assemble.Layer{l[5], l[4], l[3], l[2], l[1], l[0]}
	if _, err := w.assemble("two", reversed, assemble.Options{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w.listing("one"), w.listing("two")); diff != "" {
		t.Errorf("order matters (-forward +backward):\n%s", diff)
	}
	st, err := w.dst.Lstat("one/usr/lib/a")
	if err != nil || st.Nlink < 3 {
		t.Errorf("file has %d links, %v: it is not shared with the cache", st.Nlink, err)
	}
}

func TestTopLinksWithoutFilesystemPackage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.assemble("tree", w.layers(file("a", "/sbin/a", "a")), assemble.Options{}); err != nil {
		t.Fatal(err)
	}
	if target, err := w.dst.Readlink("tree/sbin"); err != nil || target != "usr/sbin" {
		t.Errorf("sbin leads to %q, %v", target, err)
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	owner := file("b", "/usr/share/x", "same")
	owner.Files = "%attr(644,root,mail) /usr/share/x"
	for _, tc := range []struct {
		name   string
		a, b   rpmtest.Spec
		ok     bool
		reason string
	}{
		{"equal files merge", file("a", "/usr/share/x", "same"), file("b", "/usr/share/x", "same"), true, ""},
		{"contents", file("a", "/usr/share/x", "one"), file("b", "/usr/share/x", "two"), false, "contents"},
		{"through a link", file("a", "/lib/x", "one"), file("b", "/usr/lib/x", "two"), false, "contents"},
		{"owners", file("a", "/usr/share/x", "same"), owner, false, "owners"},
		{"file and directory", file("a", "/usr/share/x", "one"), file("b", "/usr/share/x/y", "two"), false, "directory"},
		{"config", rpmtest.Spec{Name: "a", Install: "mkdir -p %{buildroot}/etc; echo 1 > %{buildroot}/etc/x", Files: "%config /etc/x"},
			rpmtest.Spec{Name: "b", Install: "mkdir -p %{buildroot}/etc; echo 2 > %{buildroot}/etc/x", Files: "%config /etc/x"}, false, "contents"},
		{"ghost gives way", rpmtest.Spec{Name: "a", Install: "mkdir -p %{buildroot}/etc; echo 1 > %{buildroot}/etc/x", Files: "%ghost /etc/x"},
			file("b", "/etc/x", "2"), true, ""},
		{"setup is add-only", file("setup", "/etc/x", "1"), file("b", "/etc/x", "2"), true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			layers := w.layers(tc.a, tc.b)
			_, err := w.assemble(strings.ReplaceAll(tc.name, " ", "-"), layers, assemble.Options{})
			if tc.ok {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var c *assemble.ConflictError
			if !errors.As(err, &c) || !errors.Is(err, assemble.ErrConflict) {
				t.Fatalf("got %v", err)
			}
			msg := err.Error()
			for _, part := range []string{"a-1.0-1.noarch", "b-1.0-1.noarch", "/x", tc.reason} {
				if !strings.Contains(msg, part) {
					t.Errorf("message lacks %q: %s", part, msg)
				}
			}
		})
	}
}

func TestSetupGivesWayInBothOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.layers(file("setup", "/etc/x", "default"), file("b", "/etc/x", "real"))
	for name, layers := range map[string][]assemble.Layer{"forward": l, "backward": {l[1], l[0]}} {
		if _, err := w.assemble(name, layers, assemble.Options{}); err != nil {
			t.Fatal(err)
		}
		if b, err := w.dst.ReadFile(name+"/usr/etc/x", 100); err != nil || string(b) != "real" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func TestLinkLoopsAndEscapes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link := func(name, target, at string) rpmtest.Spec {
		return rpmtest.Spec{Name: name, Install: "mkdir -p %{buildroot}" + filepath.Dir(at) + "; ln -s " + target + " %{buildroot}" + at, Files: at}
	}
	loop := w.layers(link("l1", "b", "/usr/share/a"), link("l2", "a", "/usr/share/b"), file("f", "/usr/share/a/x", "x"))
	if _, err := w.assemble("loop", loop, assemble.Options{}); !errors.Is(err, assemble.ErrLoop) {
		t.Errorf("got %v", err)
	}
	out := w.layers(link("o", "../../../../../../tmp", "/usr/share/out"), file("f", "/usr/share/out/x", "x"))
	if _, err := w.assemble("out", out, assemble.Options{}); err == nil || !strings.Contains(err.Error(), "leads to /tmp") {
		t.Errorf("got %v", err)
	}
}

func TestOwnersOwnedAndStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.layers(rpmtest.Spec{Name: "o", Install: "mkdir -p %{buildroot}/usr/bin %{buildroot}/etc/o %{buildroot}/var/lib/o; echo x > %{buildroot}/usr/bin/o; echo v > %{buildroot}/var/lib/o/v",
		Files: "%attr(4750,root,mail) /usr/bin/o\n%dir %attr(2770,o,o) /etc/o\n/var/lib/o/v"})
	res, err := w.assemble("tree", l, assemble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []assemble.Owner{
		{Path: "usr/bin/o", Package: "o", User: "root", Group: "mail", Mode: 0o104750},
		{Path: "usr/etc/o", Package: "o", User: "o", Group: "o", Mode: 0o42770},
	}
	if diff := cmp.Diff(want, res.Owners); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]string{"o": {"usr/bin/o"}}, res.Owned); diff != "" {
		t.Errorf("owned (-want +got):\n%s", diff)
	}
	files := l[0].Package.Files()
	for i, f := range files {
		want := rpm.StateNormal
		if f.Path == "/var/lib/o/v" {
			want = rpm.StateNotInstalled
		}
		if res.States[0][i] != want {
			t.Errorf("%s: state %d, want %d", f.Path, res.States[0][i], want)
		}
	}
	if st, err := w.dst.Lstat("tree/usr/bin/o"); err != nil || st.Mode&0o7777 != 0o750 {
		t.Errorf("mode %o, %v: setuid before the owner is set", st.Mode, err)
	}
}

// elf is what rpm takes for a program of a word size: 1 for 32 bits, 2 for 64.
func elf(class, machine int) string {
	return fmt.Sprintf(`\177ELF\%03o\001\001\000\000\000\000\000\000\000\000\000\002\000\%03o\000\001\000\000\000`, class, machine) +
		strings.Repeat(`\000`, 40)
}

// Of two programs under one path the 64-bit one is there, whatever the order of
// installation; equal files are shared, others conflict.
func TestMultilibColors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	twin := func(arch, content, extra string) rpmtest.Spec {
		return rpmtest.Spec{Name: "lib", Arch: arch, Install: "mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/share/lib %{buildroot}/var/lib/" + arch + `
printf '` + content + `' > %{buildroot}/usr/bin/lib
chmod 755 %{buildroot}/usr/bin/lib
printf '` + extra + `' > %{buildroot}/usr/share/lib/doc`, Files: "/usr/bin/lib\n/usr/share/lib\n/var/lib/" + arch}
	}
	l := w.layers(twin("i686", elf(1, 3), "same"), twin("x86_64", elf(2, 62), "same"))
	states := func(res *assemble.Result, layer int, p *rpm.Package) rpm.FileState {
		i := slices.IndexFunc(p.Files(), func(f rpm.File) bool { return f.Path == "/usr/bin/lib" })
		return res.States[layer][i]
	}
	for name, order := range map[string][]int{"small-first": {0, 1}, "large-first": {1, 0}} {
		res, err := w.assemble(name, []assemble.Layer{l[order[0]], l[order[1]]}, assemble.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.dst.ReadFile(name+"/usr/bin/lib", 1<<10)
		if err != nil || len(b) < 5 || b[4] != 2 {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		small, large := slices.Index(order, 0), slices.Index(order, 1)
		if a, b := states(res, small, l[0].Package), states(res, large, l[1].Package); a != rpm.StateWrongColor || b != rpm.StateNormal {
			t.Errorf("%s: states %v and %v", name, a, b)
		}
		for _, f := range []string{"pkg-lib.i686.conf", "pkg-lib.conf"} {
			if ok, err := w.dst.Exists(name + "/usr/lib/tmpfiles.d/" + f); err != nil || !ok {
				t.Errorf("%s: %s: %v, %v", name, f, ok, err)
			}
		}
	}
	other := w.layers(twin("i686", elf(1, 3), "other"))
	var conflict *assemble.ConflictError
	_, err := w.assemble("conflict", []assemble.Layer{other[0], l[1]}, assemble.Options{})
	if !errors.As(err, &conflict) || len(conflict.Conflicts) != 1 || conflict.Conflicts[0].Path != "/usr/share/lib/doc" ||
		conflict.Conflicts[0].A != "lib-1.0-1.i686" || conflict.Conflicts[0].B != "lib-1.0-1.x86_64" {
		t.Errorf("got %v", err)
	}
}

func TestSeedKeepsIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.layers(file("setup", "/etc/passwd", `root:x:0:0::/:/bin/sh\nmail:x:8:8::/:/bin/false\nnew:x:20:20::/:/bin/false\n`))
	seed := assemble.Accounts{Passwd: "root:x:0:0::/:/bin/sh\nmail:x:77:77::/:/bin/false\nold:x:500:500::/:/bin/false\n"}
	if _, err := w.assemble("tree", l, assemble.Options{Seed: seed}); err != nil {
		t.Fatal(err)
	}
	b, err := w.dst.ReadFile("tree/usr/etc/passwd", 4096)
	if err != nil {
		t.Fatal(err)
	}
	want := "root:x:0:0::/:/bin/sh\nmail:x:77:77::/:/bin/false\nold:x:500:500::/:/bin/false\nnew:x:20:20::/:/bin/false\n"
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("passwd (-want +got):\n%s", diff)
	}
	// The cache's file is another one.
	if _, err := w.assemble("again", l, assemble.Options{}); err != nil {
		t.Fatal(err)
	}
	if b, err := w.dst.ReadFile("again/usr/etc/passwd", 4096); err != nil || strings.Contains(string(b), "old") {
		t.Errorf("the seed reached the cache: %q, %v", b, err)
	}
}

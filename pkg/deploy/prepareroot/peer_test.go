// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// look runs in the new root. It tells what is at each place, and whether it takes
// a file.
const look = `for p in . usr etc var sysroot sysroot/ostree/repo sysroot/tmp boot; do
	w=refused
	if (: >/sysroot/$p/.probe) 2>/dev/null; then w=written; rm /sysroot/$p/.probe; fi
	echo "$p $w $(ls -A /sysroot/$p | grep -v ostree.cfs | sort | tr '\n' ' ')"
done
for p in . usr etc var; do echo "$p is $(stat -f -c %T /sysroot/$p)"; done
cat /sysroot/usr/bin/tool /sysroot/etc/conf
stat -c '%n %A %u %g %h' /sysroot/usr/bin/tool /sysroot/usr/bin
if [ -d /sysroot.tmp ]; then rmdir /sysroot.tmp; fi
readlink /run/systemd/volatile-root | sed s/[0-9]*:[0-9]*/DISK/
`

// enterInitramfs makes SCRATCH look like an initramfs with the sysroot ROOT mounted.
const enterInitramfs = `set -e
mount --make-rprivate /
mount --bind "$SCRATCH" "$SCRATCH"
cd "$SCRATCH"
mkdir -p usr proc dev run sysroot etc/ostree prog
for l in bin sbin lib lib64; do [ ! -L /$l ] || ln -sf usr/$l $l; done
mount --rbind /usr usr
mount --bind /proc proc
mount --bind /dev dev
mount -t tmpfs run run
mount --bind "$ROOT" sysroot
mount --bind "$PROG" prog
mount --bind "$CMDLINE" proc/cmdline
chroot . /prog/prepare-root /sysroot >&2
chroot . /bin/sh -c "$LOOK"
cp run/ostree-booted "$MARK"
`

// initramfs runs a prepare-root program on a sysroot, in a mount namespace of its own,
// and gives what it made.
func initramfs(t *testing.T, program, root, target, config string) (tree string, mark map[string]string, err error) {
	t.Helper()
	dir := t.TempDir()
	scratch, prog := filepath.Join(dir, "scratch"), filepath.Join(dir, "prog")
	testutil.Must(t, os.MkdirAll(filepath.Join(scratch, "etc/ostree"), 0o755))
	testutil.Must(t, os.Mkdir(prog, 0o755))
	testutil.Must(t, os.WriteFile(filepath.Join(scratch, "etc/ostree/prepare-root.conf"), []byte(config), 0o644))
	data, err := os.ReadFile(program)
	testutil.Must(t, err)
	testutil.Must(t, os.WriteFile(filepath.Join(prog, "prepare-root"), data, 0o755))
	cmdline := filepath.Join(dir, "cmdline")
	testutil.Must(t, os.WriteFile(cmdline, []byte("quiet ostree="+target+" rw\n"), 0o644))
	cmd := exec.Command("unshare", "--mount", "sh", "-c", enterInitramfs)
	cmd.Env = append(os.Environ(), "SCRATCH="+scratch, "ROOT="+root, "PROG="+prog, "CMDLINE="+cmdline, "LOOK="+look,
		"MARK="+filepath.Join(dir, "mark"))
	var out, errout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errout
	if err := cmd.Run(); err != nil {
		return "", nil, fmt.Errorf("%w: %s", err, errout.String())
	}
	raw, err := os.ReadFile(filepath.Join(dir, "mark"))
	testutil.Must(t, err)
	d, err := gvariant.ParseDict(raw)
	testutil.Must(t, err)
	mark = map[string]string{}
	for _, e := range d.Entries() {
		mark[e.Key] = e.Value.Text(gvariant.TextOptions{})
		if e.Key == "transient-etc" { // libostree draws a name
			mark[e.Key] = e.Value.Type()
		}
	}
	return out.String(), mark, nil
}

// writeImage gives the only deployment of a sysroot its composefs image.
func writeImage(t *testing.T, root string, o ostree.ComposefsOptions) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(root, "ostree/deploy/os/deploy/*.0"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("deployments: %v, %v", dirs, err)
	}
	clearImmutable(t, root)
	repo, err := ostree.Open(testutil.OpenDir(t, filepath.Join(root, "ostree/repo")), ostree.Options{})
	testutil.Must(t, err)
	defer repo.Close()
	c, err := ostree.ParseChecksum(strings.TrimSuffix(filepath.Base(dirs[0]), ".0"))
	testutil.Must(t, err)
	var img bytes.Buffer
	_, err = repo.WriteComposefs(t.Context(), c, &img, o)
	testutil.Must(t, err)
	testutil.Must(t, os.WriteFile(filepath.Join(dirs[0], ImageName), img.Bytes(), 0o644))
}

// ourProgram builds hostctl-prepare-root.
func ourProgram(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "hostctl-prepare-root")
	out, err := exec.Command(testutil.Tool(t, "go"), "build", "-o", name, "../../../cmd/hostctl/prepare-root").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return name
}

// configs are all the modes, with a part of what is to be seen then.
var configs = []struct {
	name, config string
	repo         string // of the repository's configuration
	composefs    bool   // the deployment has an image
	want         []string
}{
	{name: "none", want: []string{"usr refused", "etc written", "var written"}},
	{name: "old read-only sysroot", repo: "readonly=true", want: []string{". refused", "sysroot refused", "etc written", "var written"}},
	{name: "read-only sysroot", config: "[sysroot]\nreadonly=true\n", want: []string{". refused", "sysroot refused", "etc written"}},
	{name: "transient etc", config: "[sysroot]\nreadonly=true\n[etc]\ntransient=true\n", want: []string{"etc is overlay"}},
	{
		name: "composefs", config: "[composefs]\nenabled=yes\n", composefs: true,
		want: []string{". refused", "usr refused", "etc written", "var written", "sysroot refused", ". is overlay"},
	},
	{
		name: "composefs, writable sysroot", config: "[composefs]\nenabled=yes\n[sysroot]\nreadonly=false\n", composefs: true,
		want: []string{". refused", "sysroot written"},
	},
	{name: "composefs, maybe", config: "[composefs]\nenabled=maybe\n", composefs: true, want: []string{". is overlay"}},
	{name: "no composefs, maybe", config: "[composefs]\nenabled=maybe\n", want: []string{"usr refused"}},
	{
		name: "transient root", config: "[composefs]\nenabled=yes\n[root]\ntransient=true\n", composefs: true,
		want: []string{". written", "usr written", "sysroot refused"},
	},
	{
		name: "transient root, read-only", config: "[composefs]\nenabled=yes\n[root]\ntransient-ro=true\n", composefs: true,
		want: []string{". refused", "usr refused", "etc written"},
	},
	{
		name: "all transient", config: "[composefs]\nenabled=yes\n[root]\ntransient=true\n[etc]\ntransient=true\n", composefs: true,
		want: []string{". written", "etc is overlay"},
	},
}

// peer finds libostree's program; a recent one knows prepare-root.conf.
func peer(t *testing.T) (name string, recent bool) {
	t.Helper()
	name = os.Getenv("HOSTCTL_PREPARE_ROOT")
	if name == "" {
		name = "/usr/lib/ostree/ostree-prepare-root"
	}
	data, err := os.ReadFile(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no ostree-prepare-root to compare with: run dist/setup.sh test: %v", err)
		}
		return "", false
	}
	return name, bytes.Contains(data, []byte("composefs"))
}

// shared drops where we differ: libostree may leave /var and, since 2025, /boot to a
// generator, and has /sysroot/tmp, where the /tmp of many trees leads, read-only.
func shared(tree string) string {
	var out strings.Builder
	for line := range strings.Lines(tree) {
		name, _, _ := strings.Cut(line, " ")
		if !slices.Contains([]string{"boot", "var", "sysroot/tmp"}, name) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// The root that our program makes is what the configuration asks for, and that of
// libostree's program, where there is one.
func TestRoots(t *testing.T) {
	t.Parallel()
	testutil.Root(t, "mounting needs root")
	testutil.Tool(t, "ostree")
	testutil.Tool(t, "unshare")
	ours := ourProgram(t)
	theirs, recent := peer(t)
	for _, tt := range configs {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root, target := makeSysroot(t, t.TempDir())
			if tt.repo != "" {
				cfg := filepath.Join(root, "ostree/repo/config")
				data, err := os.ReadFile(cfg)
				testutil.Must(t, err)
				testutil.Must(t, os.WriteFile(cfg, bytes.Replace(data, []byte("[sysroot]\n"), []byte("[sysroot]\n"+tt.repo+"\n"), 1), 0o644))
			}
			if tt.composefs {
				writeImage(t, root, ostree.ComposefsOptions{NoVerity: true})
			}
			tree, mark, err := initramfs(t, ours, root, target, tt.config)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range append([]string{"boot written boot loader", "sysroot/tmp written", "var written "}, tt.want...) {
				if !strings.Contains("\n"+tree, "\n"+w) {
					t.Errorf("not %q:\n%s", w, tree)
				}
			}
			if tt.composefs != (mark["composefs"] == "true") {
				t.Errorf("boot mark: %v", mark)
			}
			if theirs == "" || !recent && tt.config != "" {
				return
			}
			wantTree, wantMark, err := initramfs(t, theirs, root, target, tt.config)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(shared(wantTree), shared(tree)); diff != "" {
				t.Errorf("root differs (-libostree +ours):\n%s", diff)
			}
			if diff := cmp.Diff(wantMark, mark); recent && diff != "" {
				t.Errorf("boot mark differs (-libostree +ours):\n%s", diff)
			}
		})
	}
}

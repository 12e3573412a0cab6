// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// ukiOf is a unified kernel image of kernel k with more sections.
func ukiOf(k string, more ...[2]string) string {
	return string(testutil.EFI(true, append([][2]string{{".linux", "kernel " + k}, {".initrd", "initramfs " + k}, {".uname", k}}, more...)...))
}

// ukiRelease is release with a unified kernel image only.
func ukiRelease(v, k string, more ...[2]string) osTree {
	dir := "usr/lib/modules/" + k + "/"
	return release(v, k).with(dir+"vmlinuz", "").with(dir+"initramfs.img", "").with(dir+k+".efi", ukiOf(k, more...))
}

// TestUKI: an image is installed as it is, upgraded to another and back; the
// menu's arguments begin as those inside.
func TestUKI(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{Bootloader: bootloader.SystemdBoot})
	addon := string(testutil.EFI(true, [2]string{".cmdline", "addon"}))
	v1 := ukiRelease("1", "6.1", [2]string{".cmdline", "quiet splash\n"}).with("usr/lib/modules/6.1/6.1.efi.extra.d/a.addon.efi", addon)
	d1 := b.deploy(b.commit("testos/main", "1", v1), Retention{})
	installed := func(d Deployment, k string, tree osTree) {
		t.Helper()
		for _, name := range []string{k + ".efi", k + ".efi.extra.d/a.addon.efi"} {
			want, ok := tree["usr/lib/modules/"+k+"/"+name]
			if ok && b.read("boot", d.bootDir(), name) != want {
				t.Errorf("%s is not the tree's", name)
			}
		}
	}
	entry := func() string {
		t.Helper()
		st := b.load()
		return b.read("boot/loader/entries", map[int]string{0: "ostree-0-", 1: "ostree-1-"}[st.BootVersion]+map[int]string{1: "1", 2: "2"}[len(st.Deployments)]+".conf")
	}
	installed(d1, "6.1", v1)
	want := "title TestOS 1 (ostree:0)\nversion 1\noptions root=LABEL=x rw quiet splash ostree=" + d1.bootLink(b.load().BootVersion) +
		"\nlinux /" + d1.bootDir() + "/6.1.efi\n"
	if d := cmp.Diff(want, entry()); d != "" {
		t.Error(d)
	}
	b.boot(d1)

	b.locked(func(l *Locked) {
		_, err := l.Write(t.Context(), WithKargs(b.load().Deployments, 0, bls.Kargs{"root=LABEL=x", "rw", "quiet", "mine"}))
		testutil.Must(t, err)
	})
	v2 := ukiRelease("2", "6.2", [2]string{".cmdline", "splash more"})
	c2 := b.commit("testos/main", "2", v2)
	b.locked(func(l *Locked) {
		_, err := l.Stage(t.Context(), Request{Stateroot: "testos", Commit: c2, Origin: NewOrigin("testos/main")}, StageOptions{})
		testutil.Must(t, err)
	})
	if st := b.load(); !st.Deployments[0].Staged || !st.Deployments[0].UKI || !st.Deployments[1].UKI {
		t.Errorf("%+v", st.Deployments)
	}
	b.locked(func(l *Locked) {
		_, err := l.FinalizeStaged(t.Context(), Retention{})
		testutil.Must(t, err)
	})
	st := b.load()
	d2 := st.Deployments[0]
	installed(d2, "6.2", v2)
	// splash was deleted by hand and both bring it; quiet went with the old image.
	if got := d2.Kargs.String(); got != "root=LABEL=x rw mine more" || !d2.UKI {
		t.Errorf("%q %v", got, d2.UKI)
	}
	sum := sha256.Sum256([]byte(v2["usr/lib/modules/6.2/6.2.efi"]))
	if got := hex.EncodeToString(sum[:]); got != d2.BootChecksum {
		t.Errorf("boot checksum %s, want %s", d2.BootChecksum, got)
	}

	b.locked(func(l *Locked) {
		_, err := l.Rollback(t.Context())
		testutil.Must(t, err)
	})
	if got := names(b.load().Deployments); got != "1.0* 2.0" || !strings.Contains(entry(), "/6.1.efi\n") {
		t.Errorf("%s\n%s", got, entry())
	}
	installed(d1, "6.1", v1)

	// A plain kernel, and an image without initramfs.
	b.deploy(b.commit("testos/main", "3", release("3", "6.3")), Retention{})
	if st := b.load(); st.Deployments[0].UKI || !strings.Contains(entry(), "/initramfs-6.3.img\n") {
		t.Errorf("%s", entry())
	}
	bare := ukiRelease("4", "6.4").with("usr/lib/modules/6.4/6.4.efi", string(testutil.EFI(false, [2]string{".linux", "kernel"})))
	b.deploy(b.commit("testos/main", "4", bare), Retention{})
	if !strings.Contains(entry(), "/usr/lib/ostree/ostree-prepare-root\n") {
		t.Errorf("%s", entry())
	}
}

func TestUKIPlaces(t *testing.T) {
	t.Parallel()
	plain := release("1", "6.1")
	const dir = "usr/lib/modules/6.1/"
	for _, c := range []struct {
		name       string
		tree       osTree
		sd, none   string // source under systemd-boot, and where the loader is not known
		sdErr, err error
	}{
		{name: "no image", tree: plain, sd: dir + "vmlinuz", none: dir + "vmlinuz"},
		{name: "both", tree: plain.with(dir+"6.1.efi", ukiOf("6.1")), sd: dir + "6.1.efi", none: dir + "vmlinuz"},
		{name: "another name", tree: plain.with(dir+"vmlinuz-virt.efi", ukiOf("6.1")), sd: dir + "vmlinuz-virt.efi", none: dir + "vmlinuz"},
		{name: "two names", tree: plain.with(dir+"a.efi", ukiOf("6.1")).with(dir+"b.efi", ukiOf("6.1")), sdErr: ErrInvalidCommit, none: dir + "vmlinuz"},
		{name: "one counts", tree: plain.with(dir+"6.1.efi", ukiOf("6.1")).with(dir+"b.efi", ukiOf("6.1")), sd: dir + "6.1.efi", none: dir + "vmlinuz"},
		{name: "two kernels", tree: ukiRelease("1", "6.1").with("usr/lib/modules/6.2/6.2.efi", ukiOf("6.2")), sdErr: ErrInvalidCommit, err: ErrInvalidCommit},
		{name: "only", tree: ukiRelease("1", "6.1"), sd: dir + "6.1.efi", none: dir + "6.1.efi"},
		{name: "vmlinuz", tree: plain.with(dir+"initramfs.img", "").with(dir+"vmlinuz", ukiOf("6.1")), sd: dir + "vmlinuz", none: dir + "vmlinuz"},
		{name: "of bootc", tree: osTree{ukiDir + "/x.efi": ukiOf("6.1")}, sd: ukiDir + "/x.efi", none: ukiDir + "/x.efi"},
		{name: "another program", tree: plain.with(dir+"x.efi", string(testutil.EFI(true, [2]string{".text", "code"}))), sd: dir + "vmlinuz", none: dir + "vmlinuz"},
		{name: "damaged", tree: plain.with(dir+"6.1.efi", "MZ"), sdErr: ErrInvalidCommit, none: dir + "vmlinuz"},
		{name: "other modules", tree: plain.with(dir+"6.1.efi", ukiOf("6.2")), sdErr: ErrInvalidCommit, none: dir + "vmlinuz"},
		{name: "bad version", tree: osTree{ukiDir + "/x.efi": ukiOf("../6.1")}, sdErr: ErrInvalidCommit, err: ErrInvalidCommit},
		{name: "nothing", tree: osTree{dir + "modules.dep": "x"}, sdErr: ErrNoKernel, err: ErrNoKernel},
	} {
		root := t.TempDir()
		for name, data := range c.tree {
			testutil.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
			testutil.Must(t, os.WriteFile(filepath.Join(root, name), []byte(data), 0o644))
		}
		tree := dirTree{testutil.OpenDir(t, root)}
		for _, x := range []struct {
			kind bootloader.Kind
			want string
			err  error
		}{{bootloader.SystemdBoot, c.sd, c.sdErr}, {bootloader.None, c.none, c.err}} {
			k, err := chooseKernel(tree, x.kind)
			if !errors.Is(err, x.err) || err == nil && k.vmlinuz.source != x.want || err == nil && (k.uki != nil) != (k.vmlinuz.name == "6.1.efi") {
				t.Errorf("%s, %s: %q (%s) %v", c.name, x.kind, k.vmlinuz.source, k.vmlinuz.name, err)
			}
		}
		k, err := chooseKernel(tree, bootloader.GRUB2)
		_, plainKernel := c.tree[dir+"initramfs.img"]
		if plainKernel && (err != nil || k.uki != nil) || !plainKernel && err == nil {
			t.Errorf("%s, GRUB: %q %v", c.name, k.vmlinuz.source, err)
		}
		if c.name == "only" && !errors.Is(err, ErrUKI) {
			t.Errorf("%s, GRUB: %v", c.name, err)
		}
	}
}

func TestUKIRefused(t *testing.T) {
	t.Parallel()
	const variable = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	cmdline := [2]string{".cmdline", "quiet"}
	for _, c := range []struct {
		name, secure string
		tree         osTree
		overlays     []string
		want         error
		text         string
	}{
		{name: "Secure Boot off", secure: "\x06\x00\x00\x00\x00", tree: ukiRelease("1", "6.1", cmdline)},
		{name: "no such variable", tree: ukiRelease("1", "6.1", cmdline)},
		{name: "no command line", secure: "\x06\x00\x00\x00\x01", tree: ukiRelease("1", "6.1")},
		{name: "Secure Boot", secure: "\x06\x00\x00\x00\x01", tree: ukiRelease("1", "6.1", cmdline), want: ErrUKI, text: "6.1.efi: unified kernel image cannot be booted here: it has a command line of its own"},
		{name: "empty command line", secure: "\x06\x00\x00\x00\x01", tree: ukiRelease("1", "6.1", [2]string{".cmdline", ""}), want: ErrUKI, text: "without .cmdline"},
		{name: "ostree=", tree: ukiRelease("1", "6.1", [2]string{".cmdline", "ostree=/x"}), want: ErrInvalidKargs, text: "command line of usr/lib/modules/6.1/6.1.efi"},
		{name: "overlay", tree: ukiRelease("1", "6.1"), overlays: []string{strings.Repeat("a", 64)}, want: ErrUKI, text: "overlay initrds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, InitOptions{Bootloader: bootloader.SystemdBoot})
			vars := t.TempDir()
			if c.secure != "" {
				testutil.Must(t, os.WriteFile(filepath.Join(vars, variable), []byte(c.secure), 0o644))
			}
			b.o.EFIVars = testutil.OpenDir(t, vars)
			req := Request{Stateroot: "testos", Commit: b.commit("testos/main", "1", c.tree), Overlays: c.overlays}
			_, preview := b.sysroot().Preview(t.Context(), req)
			b.locked(func(l *Locked) {
				_, _, deploy := l.Deploy(t.Context(), req)
				for _, err := range []error{preview, deploy} {
					if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
						t.Errorf("%v, want %v", err, c.want)
					}
				}
			})
		})
	}
}

// TestWrittenWrong: a copy that is not what was copied is found and removed.
func TestWrittenWrong(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	testutil.Must(t, os.WriteFile(filepath.Join(root, "x.efi.tmp"), []byte("as written"), 0o644))
	s := &Sysroot{boot: testutil.OpenDir(t, root)}
	sum := sha256.New()
	sum.Write([]byte("as written"))
	testutil.Must(t, s.sameOnDisk("x.efi.tmp", sum))
	sum.Write([]byte("!"))
	if err := s.sameOnDisk("x.efi.tmp", sum); !errors.Is(err, errWrittenWrong) {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(root, "x.efi.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

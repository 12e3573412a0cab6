// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/deploy"
)

// The test binary runs itself with these: one change of a machine's boot order.
const (
	changeEnv = "HOSTCTL_TEST_CHANGE"
	placeEnv  = "HOSTCTL_TEST_PLACE"
	fatEnv    = "HOSTCTL_TEST_FAT"
	// With this it is zipl for the machine at that place.
	ziplEnv = "HOSTCTL_TEST_ZIPL"
)

func TestMain(m *testing.M) {
	if place := os.Getenv(ziplEnv); place != "" {
		if err := runZipl(place); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		return
	}
	change := os.Getenv(changeEnv)
	if change == "" {
		os.Exit(m.Run())
	}
	if err := runChange(context.Background(), os.Getenv(placeEnv), os.Getenv(fatEnv) != "", change, false); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// otherKernel is that of another system on the machine, called other.
const (
	otherKernel = "kernel of another system"
	other       = "the other system"
)

// loader is a boot loader to be tested: how /boot is set up for it, and its model.
type loader struct {
	name     string
	kind     bootloader.Kind
	fat      bool
	files    map[string]string
	links    map[string]string
	firmware firmware
	// uki makes each kernel one file with its initramfs.
	uki bool
	// initrds is how many files besides the kernel it can load; 0: any number.
	initrds int
}

func loaders() []loader {
	const foreign = "title Another system\nlinux /other/vmlinuz\n"
	return []loader{
		{name: "none", kind: bootloader.None, firmware: blsReader},
		{name: "grub2", kind: bootloader.GRUB2, files: map[string]string{"grub2/grub.cfg": "source /loader/grub.cfg\n"}, firmware: grubBoot},
		{name: "syslinux", kind: bootloader.Syslinux, links: map[string]string{"syslinux/syslinux.cfg": "../loader/syslinux.cfg"}, firmware: extlinuxBoot},
		extlinuxLoader(),
		{name: "uboot", kind: bootloader.UBoot, firmware: ubootBoot, initrds: 1},
		{name: "zipl", kind: bootloader.Zipl, firmware: ziplBoot},
		{name: "systemd-boot", kind: bootloader.SystemdBoot, fat: true, firmware: systemdBoot,
			files: map[string]string{"loader/loader.conf": "timeout 3\neditor no\n", "loader/entries/another.conf": foreign, "other/vmlinuz": otherKernel}},
		{name: "systemd-boot with UKIs", kind: bootloader.SystemdBoot, fat: true, firmware: stub(systemdBoot), uki: true, initrds: 1,
			files: map[string]string{"loader/loader.conf": "timeout 3\n", "loader/keys/auto/db.auth": "key", "EFI/Linux/theirs.efi": otherKernel,
				"loader/entries/another.conf": foreign, "other/vmlinuz": otherKernel}},
		{name: "none on FAT", kind: bootloader.None, fat: true, firmware: systemdBoot},
		{name: "grub2 on FAT", kind: bootloader.GRUB2, fat: true, firmware: grubBoot,
			files: map[string]string{"grub2/grub.cfg": "source /loader/grub.cfg\n", "loader/entries/another.conf": foreign}},
	}
}

// extlinuxLoader is EXTLINUX as its installer leaves it, which can make trials.
func extlinuxLoader() loader {
	return loader{name: "extlinux", kind: bootloader.Syslinux, firmware: extlinuxBoot, files: map[string]string{
		"syslinux/syslinux.cfg": "UI menu.c32\nTIMEOUT 10\nINCLUDE /loader/syslinux.cfg\n", advFile: extlinuxFile()}}
}

// machine is a scratch system with its root filesystem and /boot.
type machine struct {
	t     testing.TB
	place string
	loader
}

func newMachine(t testing.TB, l loader) *machine {
	t.Helper()
	testutil.Root(t, "a bare repository needs root")
	testutil.Tool(t, "ostree")
	m := &machine{t: t, place: filepath.Join(t.TempDir(), "machine"), loader: l}
	for _, dir := range []string{rootFolder, bootFolder} {
		testutil.Must(t, os.MkdirAll(filepath.Join(m.place, dir), 0o755))
	}
	testutil.Must(t, deploy.InitSysroot(t.Context(), testutil.OpenDir(t, m.path(rootFolder)), deploy.InitOptions{Bootloader: l.kind}))
	for name, data := range l.files {
		testutil.Must(t, os.MkdirAll(filepath.Dir(m.path(bootFolder, name)), 0o755))
		testutil.Must(t, os.WriteFile(m.path(bootFolder, name), []byte(data), 0o644))
	}
	for name, target := range l.links {
		testutil.Must(t, os.MkdirAll(filepath.Dir(m.path(bootFolder, name)), 0o755))
		testutil.Must(t, os.Symlink(target, m.path(bootFolder, name)))
	}
	m.commit("1", "a")
	m.commit("2", "b")
	m.commit("3", "b") // the kernel of 2
	m.commit("4", "c")
	return m
}

func (m *machine) path(parts ...string) string {
	return filepath.Join(append([]string{m.place}, parts...)...)
}

// kernelOf and initramfsOf are more than a sector.
func kernelOf(k string) string    { return strings.Repeat("kernel "+k+" ", 150) }
func initramfsOf(k string) string { return strings.Repeat("initramfs "+k+" ", 120) }
func overlay() string             { return strings.Repeat("overlay ", 100) }

// commit makes version v with kernel k, on the branch vV.
func (m *machine) commit(v, k string) {
	m.t.Helper()
	tree := m.t.TempDir()
	files := map[string]string{
		"usr/lib/os-release": "PRETTY_NAME=\"TestOS " + v + "\"\n", "usr/bin/tool": v + k,
		"usr/etc/fixed.conf": "fixed", "var/lib/state": "x", "sysroot/ostree/x": "", "proc/x": "",
	}
	dir := "usr/lib/modules/" + k + "/"
	if m.uki {
		files[dir+k+".efi"] = string(testutil.EFI(true, [2]string{".linux", kernelOf(k)}, [2]string{".initrd", initramfsOf(k)}, [2]string{".uname", k}))
	} else {
		files[dir+"vmlinuz"], files[dir+"initramfs.img"] = kernelOf(k), initramfsOf(k)
	}
	for name, data := range files {
		testutil.Must(m.t, os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755))
		testutil.Must(m.t, os.WriteFile(filepath.Join(tree, name), []byte(data), 0o644))
	}
	testutil.Run(m.t, "ostree", "commit", "--repo="+m.path(rootFolder, "ostree/repo"), "--branch=v"+v, "--tree=dir="+tree,
		"--no-xattrs", "--add-metadata-string=version="+v)
}

// change runs a change here, with nothing synced.
func (m *machine) change(what string) error {
	return runChange(m.t.Context(), m.place, m.fat, what, true)
}

func (m *machine) must(changes ...string) {
	m.t.Helper()
	for _, c := range changes {
		if err := m.change(c); err != nil {
			m.t.Fatalf("%s: %s: %v", m.name, c, err)
		}
	}
}

func (m *machine) env(change string) []string {
	env := []string{"env", changeEnv + "=" + change, placeEnv + "=" + m.place}
	if m.fat {
		env = append(env, fatEnv+"=1")
	}
	return env
}

// boot says what the machine as it is boots.
func (m *machine) boot() (string, error) {
	d, err := readDisk(m.place)
	testutil.Must(m.t, err)
	b := bootCheck{r: &replay{disk: d}}
	got, err := m.firmware(linkVolume{names: b.bootView()})
	if err != nil {
		return "", err
	}
	arg, _ := bls.ParseKargs(got.options).Value("ostree")
	return describe(m.loader, got, b.rootView()[arg])
}

// describe names what boots: version and kernel, arguments and overlays; an error
// where they do not belong together.
func describe(l loader, b booted, version string) (string, error) {
	if string(b.kernel) == otherKernel {
		return other, nil
	}
	if version == "" {
		return "", errors.New("the deployment is not whole")
	}
	want := []string{initramfsOf(version[1:])}
	for len(want) < len(b.initrds) {
		want = append(want, overlay())
	}
	var got []string
	for _, data := range b.initrds {
		got = append(got, string(data))
	}
	if string(b.kernel) != kernelOf(version[1:]) || !slices.Equal(got, want) {
		return "", fmt.Errorf("kernel or initramfs is not that of %s", version)
	}
	return fmt.Sprintf("%s %s %d", version, bls.ParseKargs(b.options).Without("ostree"), len(b.initrds)), nil
}

// runChange changes the machine at place: a version to upgrade to, or a verb.
func runChange(ctx context.Context, place string, fat bool, change string, scratch bool) error {
	switch change {
	case "binaries":
		return updateBinaries(ctx, place)
	case "end trial":
		return endTrial(ctx, place)
	}
	var dirs []*fsx.Dir
	for _, name := range []string{rootFolder, bootFolder} {
		d, err := fsx.OpenDir(filepath.Join(place, name))
		if err != nil {
			return err
		}
		defer d.Close()
		dirs = append(dirs, d)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s, err := deploy.Open(dirs[0], deploy.Options{Boot: dirs[1], FATBoot: fat, DisableFsync: scratch, Mutable: true,
		Zipl: []string{"env", ziplEnv + "=" + place, self}})
	if err != nil {
		return err
	}
	defer s.Close()
	return s.WithLock(ctx, func(l *deploy.Locked) error {
		if err := l.InitStateroot(ctx, "os"); err != nil {
			return err
		}
		if err := applyChange(ctx, l, change); err != nil {
			return err
		}
		_, err := l.Cleanup(ctx)
		return err
	})
}

func applyChange(ctx context.Context, l *deploy.Locked, change string) error {
	st, err := l.Sysroot().Load(ctx)
	if err != nil {
		return err
	}
	var order []deploy.Deployment
	switch verb, arg, _ := strings.Cut(change, " "); verb {
	case "cleanup":
		return nil
	case "upgrade", "overlay", "try":
		return upgrade(ctx, l, st, verb, arg)
	case "rollback":
		_, err := l.Rollback(ctx)
		return err
	case "reorder":
		order, err = deploy.PlanDefault(st, 1)
	case "kargs":
		order = deploy.WithKargs(st.Deployments, 0, st.Deployments[0].Kargs.Append(arg))
	case "undeploy":
		order, err = deploy.PlanUndeploy(st, 1)
	default:
		return fmt.Errorf("unknown change %q", change)
	}
	if err != nil {
		return err
	}
	_, err = l.Write(ctx, order)
	return err
}

func upgrade(ctx context.Context, l *deploy.Locked, st deploy.State, verb, version string) error {
	sum, err := l.Sysroot().Repo().ReadRef("v" + version)
	if err != nil {
		return err
	}
	req := deploy.Request{Stateroot: "os", Commit: sum, Origin: deploy.NewOrigin("v" + version)}
	merge, ok := st.Merge("os")
	var mp *deploy.Deployment
	if ok {
		mp = &merge
	} else {
		req.Kargs = bls.Kargs{"root=x", "rw"}
	}
	if verb == "overlay" {
		name, err := l.AddOverlayInitrd(ctx, strings.NewReader(overlay()))
		if err != nil {
			return err
		}
		req.Overlays = []string{name}
	}
	d, _, err := l.Deploy(ctx, req)
	if err != nil {
		return err
	}
	if verb == "try" {
		if err := l.BeginTrial(ctx, d, 1); err != nil {
			return err
		}
	}
	_, err = l.Write(ctx, deploy.Retention{}.Order(st, d, mp))
	return err
}

// runZipl is the stand-in for zipl, which notes where the default entry's kernel and
// initramfs are, and its options.
func runZipl(place string) error {
	boot, err := fsx.OpenDir(filepath.Join(place, bootFolder))
	if err != nil {
		return err
	}
	defer boot.Close()
	sw := bootloader.LinkSwitch{}
	version, err := sw.Active(boot)
	if err != nil {
		return err
	}
	entries, _, _, err := bootloader.ReadMenu(boot, sw, version)
	if err != nil || len(entries) == 0 {
		return fmt.Errorf("no entries: %v", err)
	}
	e := entries[0]
	for _, name := range append([]string{e.Linux}, e.Initrd...) {
		if ok, err := boot.Exists(strings.TrimPrefix(name, "/")); err != nil || !ok {
			return fmt.Errorf("%s: %v", name, err)
		}
	}
	return boot.WriteFileAtomic("bootmap", []byte(e.Linux+"\n"+strings.Join(e.Initrd, " ")+"\n"+e.Options+"\n"), 0o600)
}

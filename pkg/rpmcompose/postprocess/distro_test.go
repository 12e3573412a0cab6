// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmdb"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// closure takes the wanted packages and what they require, required ones first.
func closure(all []importer.Source, want []string) []importer.Source {
	providers := map[string][]int{}
	for i, s := range all {
		for _, p := range s.Package.Provides() {
			providers[p.Name] = append(providers[p.Name], i)
		}
		for _, f := range s.Package.Files() {
			providers[f.Path] = append(providers[f.Path], i)
		}
		providers[s.Package.Name()] = append(providers[s.Package.Name()], i)
	}
	seen := map[int]bool{}
	var out []importer.Source
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		reqs := s(all[i].Package.Requires())
		for _, r := range reqs {
			if list := providers[r]; len(list) > 0 && !slices.ContainsFunc(list, func(j int) bool { return seen[j] }) {
				visit(list[0])
			}
		}
		out = append(out, all[i])
	}
	for _, name := range append([]string{"setup", "filesystem", "testdistro-release", "testdistro-config", "basesystem"}, want...) {
		if list := providers[name]; len(list) > 0 {
			visit(list[0])
		}
	}
	return out
}

func s(deps []rpm.Dep) []string {
	var out []string
	for _, d := range deps {
		out = append(out, d.Name)
	}
	slices.Sort(out)
	return out
}

// distro gives the packages of the test distribution.
func distro(t *testing.T) []importer.Source {
	t.Helper()
	dir := os.Getenv("HOSTCTL_TESTDISTRO")
	if dir == "" {
		t.Skip("HOSTCTL_TESTDISTRO does not name a built test distribution")
	}
	files, err := filepath.Glob(filepath.Join(dir, "Packages", "*.rpm"))
	testutil.Must(t, err)
	if len(files) == 0 {
		t.Fatalf("no packages in %s", dir)
	}
	var all []importer.Source
	for _, f := range files {
		all = append(all, rpmtest.Open(t, f))
	}
	return all
}

var standard = strings.Fields(`testdistro-extras testdistro-opt testdistro-var testdistro-autologin alternatives bash-completion
man-db less vim-tiny procps psmisc linux-image-amd64 dracut kmod grub-pc-bin grub-efi-amd64-bin grub2-common systemd systemd-sysv
systemd-resolved systemd-timesyncd libpam-systemd libnss-systemd libnss-resolve libnss-myhostname udev dbus polkitd e2fsprogs
dosfstools fdisk parted dmsetup iproute2 iputils-ping nftables netbase openssh-server openssh-client ca-certificates curl rsync
tcpdump podman crun netavark aardvark-dns uidmap fuse-overlayfs slirp4netns python3 perl git sudo gpg gpg-agent zstd cpio xz-utils
bzip2 zip unzip tzdata jq strace tmux lsof file acl attr libsasl2-modules bubblewrap pciutils hostctl`)

// The real thing, twice: the trees must be equal, and rpm itself finds owners,
// modes, capabilities and contents as the packages want them.
func TestDistro(t *testing.T) {
	rpmtest.Needs(t, "bwrap", "rpm")
	all := distro(t)
	base := os.Getenv("HOSTCTL_TESTDISTRO_WORK")
	if base == "" {
		base = t.TempDir()
	}
	pkgs := closure(all, standard)
	t.Logf("%d packages", len(pkgs))
	repo, err := ostree.Create(rpmtest.Dir(t, filepath.Join(base, "cache")), ostree.ModeBare, ostree.Options{})
	testutil.Must(t, err)
	defer repo.Close()
	var trees []map[string]string
	for _, name := range []string{"work0", "work1"} {
		root := composeDistro(t, repo, pkgs, rpmtest.Dir(t, filepath.Join(base, name)))
		trees = append(trees, snapshot(t, root))
		verifyWithRPM(t, root, len(pkgs))
	}
	if diff := cmp.Diff(trees[0], trees[1]); diff != "" {
		t.Errorf("two runs differ (-first +second):\n%s", diff)
	}
}

func composeDistro(t *testing.T, repo *ostree.Repo, pkgs []importer.Source, work *fsx.Dir) string {
	ctx := context.Background()
	start := time.Now()
	imported, err := importer.All(ctx, repo, pkgs, importer.AllOptions{})
	testutil.Must(t, err)
	t.Logf("import: %s", time.Since(start))
	var layers []assemble.Layer
	var headers []*rpm.Package
	for i, s := range pkgs {
		layers = append(layers, assemble.Layer{Package: s.Package, Commit: imported[i].Commit})
		headers = append(headers, s.Package)
	}
	testutil.Must(t, work.RemoveAll("rootfs"))
	res, err := assemble.Assemble(ctx, repo, layers, work, "rootfs", assemble.Options{})
	testutil.Must(t, err)
	t.Logf("assemble: union %s checkout %s, %d files, %d owners", res.Union, res.Checkout, res.Files, len(res.Owners))
	root, err := work.OpenDir("rootfs")
	testutil.Must(t, err)
	defer root.Close()
	start = time.Now()
	sandbox := scripts.Options{SourceDateEpoch: 1700000000}
	testutil.Must(t, scripts.With(ctx, root, work, sandbox, func(ctx context.Context, s *scripts.Sandbox) error {
		rep, err := scripts.Install(ctx, s, headers, scripts.InstallOptions{Owners: res.Owners})
		for _, st := range rep.Steps {
			if st.Output != "" || st.Skipped != "" {
				t.Logf("  %s %s skipped=%q out=%q", st.Name, st.Duration.Round(time.Millisecond), st.Skipped, st.Output)
			}
		}
		t.Logf("scripts: %d run, sysusers %s owners %s", rep.Scripts, rep.Sysusers, rep.Owners)
		return err
	}))
	t.Logf("scripts: %s", time.Since(start))
	o := Options{Version: "1.20260101.0", MutateOSRelease: "1", DefaultTarget: "multi-user.target", MachineIDCompat: true, Owned: res.Owned, Sandbox: sandbox,
		Units:       strings.Fields("ssh.service ssh-keygen.service systemd-networkd.service systemd-resolved.service systemd-timesyncd.service serial-getty@ttyS0.service"),
		NoInitramfs: os.Getenv("HOSTCTL_TESTDISTRO_NO_INITRAMFS") != ""}
	if !slices.ContainsFunc(pkgs, func(s importer.Source) bool { return s.Package.Name() == "hostctl" }) {
		o.DracutModules = []string{}
	}
	o.WriteRPMDB = func(ctx context.Context, dir *fsx.Dir) error {
		var list []rpmdb.Installed
		for i, h := range headers {
			list = append(list, rpmdb.Installed{Package: h, InstallTime: time.Unix(1700000000, 0), FileStates: res.States[i]})
		}
		return rpmdb.Write(ctx, dir, list)
	}
	done, err := Run(ctx, root, work, o)
	for _, tm := range done.Timings {
		if tm.Duration > 5*time.Millisecond {
			t.Logf("  %s %s", tm.Part, tm.Duration.Round(time.Millisecond))
		}
	}
	testutil.Must(t, err)
	t.Logf("kernel %s dropped %v", done.Kernel, done.Dropped)
	return filepath.Join(work.Path(), "rootfs")
}

// verifyWithRPM lets rpm compare the tree with its own database. /etc is where
// the booted system has it. What it may find: files in /var, configuration, and
// files that scripts and this package write on purpose.
func verifyWithRPM(t *testing.T, root string, packages int) {
	t.Helper()
	testutil.Must(t, os.Symlink("usr/etc", filepath.Join(root, "etc")))
	defer os.Remove(filepath.Join(root, "etc"))
	out, err := exec.Command("rpm", "--root", root, "--dbpath", "/usr/share/rpm", "-qa").Output()
	testutil.Must(t, err)
	if n := strings.Count(string(out), "\n"); n != packages {
		t.Errorf("rpm lists %d packages, want %d", n, packages)
	}
	out, _ = exec.Command("rpm", "--root", root, "--dbpath", "/usr/share/rpm", "-Va", "--nodeps", "--noscripts", "--nomtime").CombinedOutput()
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\n")
		p := line[strings.LastIndexByte(line, ' ')+1:]
		switch {
		case strings.Contains(line, " c /"), strings.HasPrefix(p, "/var"), strings.HasPrefix(p, "/opt"), strings.HasPrefix(p, "/usr/lib/modules/"):
		case slices.Contains([]string{"/usr/lib/os-release", "/usr/lib/systemd/system/default.target", "/root", "/tmp", "/home", "/srv", "/mnt", "/media", "/etc", "/dev", "/usr/local", "/run", "/boot", "/proc", "/sys"}, p), strings.HasPrefix(p, "/usr/local/"):
		default:
			t.Errorf("rpm finds: %s", line)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/delta"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/rpmcompose/pkglist"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// server is an archive repository behind HTTP.
type server struct {
	t    testing.TB
	repo *ostree.Repo
	url  string
	// without is the base name of a file that commits lack.
	without string
	sizes   bool // commits tell the sizes of their objects
}

func newServer(t testing.TB) *server {
	t.Helper()
	root := t.TempDir()
	repo, err := ostree.Create(testutil.OpenDir(t, root), ostree.ModeArchive, ostree.Options{DisableFsync: true})
	testutil.Must(t, err)
	t.Cleanup(func() { repo.Close() })
	web := httptest.NewServer(http.FileServer(http.Dir(root)))
	t.Cleanup(web.Close)
	return &server{t: t, repo: repo, url: web.URL}
}

const ref = "os/main"

var clock = uint64(1700000000)

// commit adds version v with packages "name-version-release.arch".
func (s *server) commit(branch, v string, at uint64, packages ...string) ostree.Checksum {
	s.t.Helper()
	src := s.t.TempDir()
	for name, data := range map[string]string{
		"usr/lib/modules/5/vmlinuz":       "kernel",
		"usr/lib/modules/5/initramfs.img": "initramfs",
		"usr/lib/os-release":              "PRETTY_NAME=OS\n",
		"usr/etc/conf":                    "conf " + v,
		"usr/bin/tool":                    "tool " + v,
		// In a real tree a link.
		"usr/etc/systemd/system/multi-user.target.wants/" + judge: "",
	} {
		if filepath.Base(name) == s.without {
			continue
		}
		p := filepath.Join(src, name)
		testutil.Must(s.t, os.MkdirAll(filepath.Dir(p), 0o755))
		testutil.Must(s.t, os.WriteFile(p, []byte(data), 0o644))
	}
	var rows []gvariant.Value
	for _, p := range packages {
		f := strings.Fields(p)
		for len(f) < 5 {
			f = append(f, "x86_64")
		}
		rows = append(rows, gvariant.Tuple(gvariant.String(f[0]), gvariant.String(f[1]), gvariant.String(f[2]), gvariant.String(f[3]), gvariant.String(f[4])))
	}
	dir := testutil.OpenDir(s.t, src)
	var sum ostree.Checksum
	_, err := s.repo.Update(s.t.Context(), func(ctx context.Context, x *ostree.Txn) error {
		m := ostree.NewMTree()
		if err := x.WriteDir(ctx, dir, m, ostree.CommitOptions{CanonicalPermissions: true, SkipXattrs: true, GenerateSizes: s.sizes}); err != nil {
			return err
		}
		root, meta, err := x.WriteTree(ctx, m)
		if err != nil {
			return err
		}
		c := ostree.Commit{Timestamp: clock + at, RootTree: root, RootMeta: meta}
		c.Metadata.Set("version", gvariant.String(v))
		c.Metadata.Set("ostree.ref-binding", gvariant.Strings([]string{branch}))
		c.Metadata.Set("rpmostree.rpmdb.pkglist", gvariant.Array("(sssss)", rows...))
		if parent, err := s.repo.ReadRef(branch); err == nil {
			c.Parent = parent
		}
		if sum, err = x.WriteCommit(ctx, c); err != nil {
			return err
		}
		return x.SetRef(branch, sum)
	})
	testutil.Must(s.t, err)
	return sum
}

// host is an installed system that follows the server.
type host struct {
	t    testing.TB
	root string
	s    *deploy.Sysroot
}

func newHost(t testing.TB, srv *server) *host {
	t.Helper()
	return newHostWith(t, InstallRequest{Remote: pull.Remote{Name: "r", URL: srv.url, NoGPGVerify: true}})
}

// newHostWith installs what req leaves open as the tests need it.
func newHostWith(t testing.TB, req InstallRequest) *host {
	t.Helper()
	testutil.Root(t, "a bare repository needs root")
	root := t.TempDir()
	for _, d := range []string{"sysroot", "run"} {
		testutil.Must(t, os.Mkdir(filepath.Join(root, d), 0o755))
	}
	t.Cleanup(func() { _ = exec.Command("chattr", "-R", "-i", root).Run() })
	dir := testutil.OpenDir(t, root+"/sysroot")
	req.Stateroot, req.Ref, req.Bootloader, req.Kargs = "os", ref, bootloader.None, bls.Kargs{"root=x"}
	_, err := Install(t.Context(), dir, req)
	testutil.Must(t, err)
	s, err := deploy.Open(dir, deploy.Options{Run: testutil.OpenDir(t, root+"/run"), DisableFsync: true, LockTimeout: 10 * time.Second})
	testutil.Must(t, err)
	t.Cleanup(func() { s.Close() })
	return &host{t, root, s}
}

func (h *host) versions() string {
	h.t.Helper()
	st, err := h.s.Load(h.t.Context())
	testutil.Must(h.t, err)
	var out []string
	for _, d := range st.Deployments {
		v := d.Version
		if d.Staged {
			v += "+"
		}
		out = append(out, v)
	}
	return strings.Join(out, " ")
}

func (h *host) fsck() {
	h.t.Helper()
	res, err := h.s.Repo().Fsck(h.t.Context(), ostree.FsckOptions{})
	if err != nil || len(res.Findings) > 0 {
		h.t.Fatalf("%v %+v", err, res.Findings)
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	c1 := srv.commit(ref, "1", 1, "a 0 1 1", "b 1 2 1", "gone 0 1 1")
	h := newHost(t, srv)

	res, err := Check(t.Context(), h.s, Options{})
	if err != nil || !res.Unchanged || !res.Packages.Empty() || res.Download != nil {
		t.Fatalf("%v %+v", err, res)
	}
	c2 := srv.commit(ref, "2", 2, "a 0 2 1", "b 0 9 1", "fresh 0 1 1")
	res, err = Check(t.Context(), h.s, Options{})
	if err != nil || res.Unchanged || res.New.Checksum != c2 || res.New.Version != "2" || res.Current.Checksum != c1 || res.Pull.Content != 0 || res.Download != nil {
		t.Fatalf("%v %+v", err, res)
	}
	want := pkglist.Diff{
		Upgraded:   []pkglist.Pair{{Old: pkg("a", 0, "1"), New: pkg("a", 0, "2")}},
		Downgraded: []pkglist.Pair{{Old: pkg("b", 1, "2"), New: pkg("b", 0, "9")}},
		Removed:    []pkglist.Package{pkg("gone", 0, "1")},
		Added:      []pkglist.Package{pkg("fresh", 0, "1")},
	}
	if d := cmp.Diff(want, *res.Packages); d != "" {
		t.Fatal(d)
	}
	if got := h.versions(); got != "1" {
		t.Fatal(got)
	}
	checked := *res.Packages
	res, err = Upgrade(t.Context(), h.s, Options{})
	if err != nil || res.Unchanged || res.Deployment == nil || res.Deployment.Checksum != c2 || res.Cleanup == nil {
		t.Fatalf("%v %+v", err, res)
	}
	if d := cmp.Diff(checked, *res.Packages); d != "" {
		t.Errorf("the check disagrees with the upgrade: %s", d)
	}
	if got := h.versions(); got != "2 1" {
		t.Fatal(got)
	}
	if res, err = Upgrade(t.Context(), h.s, Options{}); err != nil || !res.Unchanged || res.Deployment != nil {
		t.Fatalf("%v %+v", err, res)
	}
	h.fsck()
}

// TestCheckTellsDownload compares what a check foretells with what the upgrade
// then receives: by objects, and by a static delta.
func TestCheckTellsDownload(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.sizes = true
	c1 := srv.commit(ref, "1", 1)
	h := newHost(t, srv)
	srv.commit(ref, "2", 2)
	res, err := Check(t.Context(), h.s, Options{})
	testutil.Must(t, err)
	told := res.Download
	if told == nil || told.Objects == 0 {
		t.Fatalf("%+v", res)
	}
	onlyCheck := res.Pull.Bytes // the commit, which the upgrade finds here
	if res, err = Upgrade(t.Context(), h.s, Options{}); err != nil {
		t.Fatal(err)
	}
	// Beside the objects there are the file of the ref and error pages.
	if got := res.Pull.Metadata + res.Pull.Content; onlyCheck == 0 || uint64(res.Pull.Bytes) < told.Bytes || uint64(res.Pull.Bytes) > told.Bytes+200 || got < told.Objects {
		t.Errorf("foretold %+v, got %+v", *told, res.Pull)
	}
	c3 := srv.commit(ref, "3", 3)
	made, err := delta.Generate(t.Context(), srv.repo, delta.GenerateOptions{From: res.New.Checksum, To: c3})
	testutil.Must(t, err)
	testutil.Must(t, srv.repo.WriteSummary(t.Context(), ostree.SummaryOptions{}))
	if res, err = Check(t.Context(), h.s, Options{}); err != nil || res.Download == nil {
		t.Fatalf("%v %+v", err, res)
	}
	if want := (Download{Objects: len(made.Delta.Parts), Bytes: made.Delta.Parts[0].Size}); *res.Download != want {
		t.Errorf("%+v, want %+v", *res.Download, want)
	}
	if st, err := h.s.Load(t.Context()); err != nil || len(st.Deployments) != 2 || st.Deployments[1].Checksum != c1 {
		t.Errorf("%v %+v", err, st.Deployments)
	}
	h.fsckPartial(c3)
}

// fsckPartial is fsck where commit has been looked at, not pulled.
func (h *host) fsckPartial(commit ostree.Checksum) {
	h.t.Helper()
	if partial, err := h.s.Repo().CommitPartial(commit); err != nil || !partial {
		h.t.Errorf("commit %s: partial %v, %v", commit, partial, err)
	}
	h.fsck()
}

func TestStageAndKargs(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.commit(ref, "1", 1)
	h := newHost(t, srv)
	srv.commit(ref, "2", 2)
	quiet := func(k bls.Kargs) (bls.Kargs, error) { return k.Append("quiet"), nil }
	res, err := Upgrade(t.Context(), h.s, Options{Stage: true, Kargs: quiet})
	if err != nil || !res.Staged || res.Boot == nil || !res.Etc.Merged || h.versions() != "2+ 1" {
		t.Fatalf("%v %+v %s", err, res, h.versions())
	}
	// Staged counts as current, with its arguments.
	if res, err = Upgrade(t.Context(), h.s, Options{Stage: true}); err != nil || !res.Unchanged {
		t.Fatalf("%v %+v", err, res)
	}
	testutil.Must(t, h.s.WithLock(t.Context(), func(l *deploy.Locked) error {
		_, err := l.FinalizeStaged(t.Context(), deploy.Retention{})
		return err
	}))
	st, err := h.s.Load(t.Context())
	testutil.Must(t, err)
	if h.versions() != "2 1" || st.Deployments[0].Kargs.String() != "root=x quiet" {
		t.Fatalf("%s %s", h.versions(), st.Deployments[0].Kargs)
	}
	// Only the arguments change.
	drop := func(k bls.Kargs) (bls.Kargs, error) { return k.Without("quiet"), nil }
	if res, err = Upgrade(t.Context(), h.s, Options{Kargs: drop}); err != nil || res.Unchanged || res.Deployment.Serial != 1 {
		t.Fatalf("%v %+v", err, res)
	}
}

func TestDowngrade(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.commit(ref, "2", 20)
	h := newHost(t, srv)
	srv.commit(ref, "1", 10)
	for range 2 { // a check must not make the second look fine
		if _, err := Check(t.Context(), h.s, Options{}); !errors.Is(err, pull.ErrDowngrade) {
			t.Fatal(err)
		}
	}
	if _, err := Upgrade(t.Context(), h.s, Options{}); !errors.Is(err, pull.ErrDowngrade) {
		t.Fatal(err)
	}
	if res, err := Upgrade(t.Context(), h.s, Options{AllowDowngrade: true}); err != nil || res.New.Version != "1" {
		t.Fatalf("%v %+v", err, res)
	}
}

func TestDeployRevision(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	var sums []ostree.Checksum
	for i := range 4 {
		sums = append(sums, srv.commit(ref, fmt.Sprintf("1.%d", i), uint64(i)))
	}
	h := newHost(t, srv)
	if h.versions() != "1.3" {
		t.Fatal(h.versions())
	}
	if _, err := DeployRevision(t.Context(), h.s, "7.7", Options{}); !errors.Is(err, ErrNoVersion) {
		t.Fatal(err)
	}
	res, err := DeployRevision(t.Context(), h.s, "version=1.1", Options{})
	if err != nil || res.New.Checksum != sums[1] || h.versions() != "1.1 1.3" {
		t.Fatalf("%v %+v %s", err, res, h.versions())
	}
	st, err := h.s.Load(t.Context())
	testutil.Must(t, err)
	if c, ok := st.Deployments[0].Origin.OverrideCommit(); !ok || c != sums[1] || st.Deployments[0].Origin.Refspec() != "r:"+ref {
		t.Fatalf("%s", st.Deployments[0].Origin.Bytes())
	}
	if res, err = DeployRevision(t.Context(), h.s, sums[0].String(), Options{}); err != nil || h.versions() != "1.0 1.1" {
		t.Fatalf("%v %s", err, h.versions())
	}
	// Upgrade goes on with the ref.
	if res, err = Upgrade(t.Context(), h.s, Options{}); err != nil || res.New.Checksum != sums[3] {
		t.Fatalf("%v %+v", err, res)
	}
	if _, ok := res.Deployment.Origin.OverrideCommit(); ok {
		t.Error("the hold is still there")
	}
	// A hold at the newest ends without a second deployment of the same commit.
	if _, err = DeployRevision(t.Context(), h.s, sums[3].String(), Options{}); err != nil {
		t.Fatal(err)
	}
	before := h.versions()
	if res, err = Upgrade(t.Context(), h.s, Options{}); err != nil || !res.Unchanged || h.versions() != before {
		t.Fatalf("%v %+v %s, was %s", err, res, h.versions(), before)
	}
	st, err = h.s.Load(t.Context())
	testutil.Must(t, err)
	if _, ok := st.Deployments[0].Origin.OverrideCommit(); ok {
		t.Error("the hold is still there")
	}
	other := srv.commit("os/other", "9", 1)
	if res, err = Rebase(t.Context(), h.s, "r:os/other", Options{}); err != nil || res.New.Checksum != other || res.Deployment.Origin.Refspec() != "r:os/other" {
		t.Fatalf("%v %+v", err, res)
	}
	h.fsck()
}

func TestConflictRefused(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	srv.commit(ref, "1", 1)
	h := newHost(t, srv)
	st, err := h.s.Load(t.Context())
	testutil.Must(t, err)
	testutil.Must(t, os.WriteFile(filepath.Join(h.root, "sysroot", st.Deployments[0].Dir(), "etc/conf"), []byte("mine"), 0o644))
	srv.commit(ref, "2", 2)
	res, err := Upgrade(t.Context(), h.s, Options{EtcConflicts: deploy.FailOnConflict})
	if !errors.Is(err, deploy.ErrEtcConflict) || len(res.Etc.Conflicts()) != 1 || h.versions() != "1" {
		t.Fatalf("%v %+v %s", err, res.Etc, h.versions())
	}
	if res, err = Upgrade(t.Context(), h.s, Options{}); err != nil || len(res.Etc.Conflicts()) != 1 {
		t.Fatalf("%v %+v", err, res.Etc)
	}
}

func pkg(name string, epoch uint32, version string) pkglist.Package {
	return pkglist.Package{Name: name, EVR: rpm.EVR{Epoch: epoch, HasEpoch: epoch != 0, Version: version, Release: "1"}, Arch: "x86_64"}
}

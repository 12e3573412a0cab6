// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/hostctl/hostctl/tests/lab"
)

// host is an installed sysroot on a small filesystem and the repository that it
// follows.
type host struct {
	t                  *testing.T
	l                  *lab.Lab
	disk, sysroot, url string
	first              string // commit that is installed
}

// newHost serves repo and prepares, without installing, a sysroot.
func newHost(t *testing.T, l *lab.Lab, dir, repo, size string) *host {
	t.Helper()
	served := *l
	served.Repo = repo
	srv, err := served.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	first, err := l.Rev(lab.Ref + "^")
	if err != nil {
		t.Fatal(err)
	}
	disk := tmpfs(t, filepath.Join(dir, "disk"), size)
	return &host{t: t, l: l, disk: disk, sysroot: filepath.Join(disk, "S"), url: srv.URL, first: first}
}

func (h *host) install(args ...string) []string {
	return append([]string{h.l.Hostctl(), "install", "--sysroot", h.sysroot, "--url", h.url, "--ref", lab.Ref, "--commit", h.first,
		"--gpg-import", h.l.KeyFile, "--stateroot", lab.Stateroot, "--karg", "root=LABEL=root"}, args...)
}

func (h *host) verb(args ...string) []string {
	return append([]string{h.l.Hostctl(), "--sysroot", h.sysroot}, args...)
}

func (h *host) repo() string { return filepath.Join(h.sysroot, "ostree/repo") }

// configure edits the sysroot's repository configuration.
func (h *host) configure(group, key, value string) {
	h.t.Helper()
	tool(h.t, "ostree", "--repo="+h.repo(), "config", "--group="+group, "set", key, value)
}

// state is everything that decides what boots, as both programs and the
// directories tell it.
func (h *host) state() string {
	h.t.Helper()
	deployments := filepath.Join(h.sysroot, "ostree/deploy", lab.Stateroot, "deploy")
	return tool(h.t, h.verb("status", "--json")...) + tool(h.t, "ostree", "admin", "status", "--sysroot="+h.sysroot) +
		tool(h.t, "ls", "-A", deployments, filepath.Join(h.sysroot, "ostree"), filepath.Join(h.sysroot, "boot/ostree")) +
		strings.Join(listing(h.t, filepath.Join(h.sysroot, "boot")), "\n")
}

// object is the path of a content object.
func object(repo, sum, suffix string) string {
	return filepath.Join(repo, "objects", sum[:2], sum[2:]+suffix)
}

// TestBadInputHost: an upgrade from a server that is not there, lacks the ref or
// has damaged objects changes nothing, and works once the server is well.
func TestBadInputHost(t *testing.T) {
	need(t, "tree")
	l := theLab(t)
	dir := scratch(t, l)
	repo := filepath.Join(dir, "repo")
	tool(t, "cp", "-al", l.Repo, repo)
	h := newHost(t, l, dir, repo, "1200m")

	refused(t, 1, []string{h.url, "No such branch 'no/such/ref' in repository summary"}, h.install("--ref", "no/such/ref", "--commit", "")...)
	tool(t, h.install()...)
	kernel := strings.Fields(tool(t, "ostree", "--repo="+repo, "ls", "-C", lab.Ref, "/usr/lib/modules/"+kernelVersion(t, repo)+"/vmlinuz"))[4]
	served := object(repo, kernel, ".filez")
	good := read(t, served)
	config := read(t, filepath.Join(h.repo(), "config"))
	newest := strings.TrimSpace(tool(t, "ostree", "--repo="+repo, "rev-parse", lab.Ref))
	signatures := object(repo, newest, ".commitmeta")
	goodSignatures := read(t, signatures)
	resign := stranger(t, dir)
	closed := "http://" + closedAddr(t)
	upgrade := h.verb("upgrade")

	for _, tt := range []struct {
		name  string
		spoil func()
		names []string
	}{
		{"server unreachable", func() { h.configure(`remote "origin"`, "url", closed) }, []string{closed, "connection refused"}},
		{"server is no repository", func() { h.configure(`remote "origin"`, "url", h.url+"/objects") }, []string{h.url + "/objects/config", "404 Not Found"}},
		{"ref without summary absent", func() {
			// While its signature is the known one, the summary of the last pull serves.
			os.Remove(filepath.Join(repo, "summary"))
			os.Remove(filepath.Join(repo, "summary.sig"))
			os.RemoveAll(filepath.Join(repo, "refs/heads"))
		},
			[]string{h.url + "/refs/heads/" + lab.Ref, "404 Not Found"}},
		{"commit signed by an unknown key", func() { os.Remove(signatures); resign(repo, newest) }, []string{newest, "Can't check signature: public key not found"}},
		{"commit without signature", func() { os.Remove(signatures) }, []string{newest, "no signatures found"}},
		{"signature of other bytes", func() { replace(t, signatures, otherSignatures(t, repo)) }, []string{newest, "BAD signature"}},
		{"object with a flipped bit", func() { replace(t, served, flipped(good)) }, []string{kernel, "corrupt object"}},
		{"object truncated", func() { replace(t, served, good[:len(good)-1000]) }, []string{kernel, "corrupt object"}},
		{"object empty", func() { replace(t, served, nil) }, []string{kernel, "corrupt object"}},
		{"object absent", func() { os.Remove(served) }, []string{kernel, "404 Not Found"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.t = t
			write(t, filepath.Join(h.repo(), "config"), string(config))
			before := h.state()
			tt.spoil()
			refused(t, 1, append(tt.names, "upgrade: pull from origin ("), upgrade...)
			unchanged(t, "the sysroot", before, h.state())
			os.Remove(signatures)
			write(t, signatures, string(goodSignatures))
			tool(t, "cp", "-a", "--remove-destination", filepath.Join(l.Repo, "summary"), filepath.Join(l.Repo, "summary.sig"), filepath.Join(l.Repo, "refs"), repo)
		})
	}
	h.t = t
	write(t, filepath.Join(h.repo(), "config"), string(config))
	write(t, served, string(good))
	tool(t, upgrade...)
	expectOrder(t, l, h.sysroot, "1.1", "1")
	if out := tool(t, h.verb("status")...); strings.Count(out, "GPG signature: Valid signature by "+l.KeyID) != 2 {
		t.Errorf("status does not tell of valid signatures:\n%s", out)
	}
	tool(t, "ostree", "--repo="+h.repo(), "fsck", "--quiet")
	tool(t, h.verb("fsck")...)

	t.Run("damaged objects on this host", func(t *testing.T) {
		name := object(h.repo(), kernel, ".file")
		data := read(t, name)
		replace(t, name, flipped(data))
		refused(t, 1, []string{"damaged", "corrupt-object", kernel}, h.verb("fsck")...)
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		refused(t, 1, []string{"damaged", "missing-object", kernel}, h.verb("fsck")...)
	})
	t.Run("no sysroot", func(t *testing.T) {
		for _, verb := range []string{"status", "upgrade", "rollback", "cleanup", "fsck"} {
			refused(t, 5, []string{dir, "not an initialised sysroot"}, l.Hostctl(), "--sysroot", dir, verb)
		}
		refused(t, 1, []string{dir + "/absent", "no such file"}, l.Hostctl(), "--sysroot", dir+"/absent", "status")
	})
	t.Run("wrong usage", func(t *testing.T) {
		refused(t, 2, []string{"upgrad", `did you mean "upgrade"`}, h.verb("upgrad")...)
		refused(t, 2, []string{"--bogus"}, h.verb("upgrade", "--bogus")...)
		refused(t, 2, []string{"extra"}, h.verb("upgrade", "extra")...)
		refused(t, 2, []string{"url"}, l.Hostctl(), "install", "--sysroot", dir, "--ref", "x")
		refused(t, 2, []string{"repo"}, l.ComposeServer(), "tree", "x.toml")
	})
}

// stranger makes a key that no host trusts and gives a function that signs a
// commit with it.
func stranger(t *testing.T, dir string) func(repo, commit string) {
	t.Helper()
	otherKey(t, dir)
	home := filepath.Join(dir, "gpg")
	return func(repo, commit string) {
		tool(t, "ostree", "--repo="+repo, "gpg-sign", "--gpg-homedir="+home, commit, "else@example.test")
	}
}

// otherSignatures are those of the commit before the newest.
func otherSignatures(t *testing.T, repo string) []byte {
	t.Helper()
	parent := strings.TrimSpace(tool(t, "ostree", "--repo="+repo, "rev-parse", lab.Ref+"^"))
	return read(t, object(repo, parent, ".commitmeta"))
}

func kernelVersion(t *testing.T, repo string) string {
	t.Helper()
	lines := strings.Fields(tool(t, "ostree", "--repo="+repo, "ls", "--nul-filenames-only", lab.Ref, "/usr/lib/modules"))
	return filepath.Base(strings.Trim(lines[len(lines)-1], "\x00"))
}

// TestBadInputHostFullDisk: wherever the disk runs out, the deployments stay as
// they were, failures do not pile up, and with more space it works.
func TestBadInputHostFullDisk(t *testing.T) {
	need(t, "tree")
	l := theLab(t)
	dir := scratch(t, l)
	h := newHost(t, l, dir, l.Repo, "30m")
	refused(t, 4, []string{"pull from origin", h.repo()}, h.install()...)
	if out := tool(t, "ostree", "admin", "status", "--sysroot="+h.sysroot); !strings.Contains(out, "No deployments.") {
		t.Errorf("a refused installation left: %s", out)
	}
	resize(t, h.disk, "2g")
	tool(t, h.install("--from", l.Repo)...)

	var fs syscall.Statfs_t
	if err := syscall.Statfs(h.disk, &fs); err != nil {
		t.Fatal(err)
	}
	size := int64(fs.Blocks-fs.Bfree)*int64(fs.Bsize)>>10 + 2<<10 //nolint:unconvert // KiB; 32 bits on arm
	before := h.state()
	resize(t, h.disk, fmt.Sprint(size, "k"))
	refused(t, 4, []string{"upgrade: ", "no space in " + h.repo(), "min-free-space-percent '3%' would be exceeded"}, h.verb("upgrade")...)
	unchanged(t, "the sysroot", before, h.state())

	// Without the reserve, and with a little more space each time, until it fits.
	// A refused upgrade is tried twice: the second must not find less space.
	h.configure("core", "min-free-space-percent", "0")
	seen := map[string]int{}
	for limit := size + 600<<10; size < limit; {
		resize(t, h.disk, fmt.Sprint(size, "k"))
		if err := lab.Command(t.Context(), h.verb("upgrade", "--progress", "none")...).Run(); err == nil {
			break
		}
		status, line := fails(t, h.verb("upgrade", "--progress", "none")...)
		if status != 4 {
			t.Errorf("%d KiB: exit status %d, want 4: %s", size, status, line)
		}
		place, step := whereFull(t, line)
		seen[place]++
		size += step
		unchanged(t, fmt.Sprintf("with %d KiB, the sysroot", size), before, h.state())
	}
	t.Logf("refused: %v; it fits into %d KiB", seen, size)
	if seen["repository"] == 0 || seen["foreseen"] == 0 || seen["boot"] != 0 {
		t.Error("the disk did not run out in the repository and in the forecast, or behind it")
	}
	expectOrder(t, l, h.sysroot, "1.1", "1")
	tool(t, "ostree", "--repo="+h.repo(), "fsck", "--quiet")
}

var forecast = regexp.MustCompile(`not enough space in (?:/boot|the sysroot): (\d+) bytes needed, (\d+) free`)

// whereFull tells where the space ran out, and how much more, in KiB, to try next.
func whereFull(t *testing.T, line string) (place string, step int64) {
	t.Helper()
	m := forecast.FindStringSubmatch(line)
	switch {
	case strings.Contains(line, "no space left on device"):
		return "repository", 16 << 10
	case m == nil:
		t.Fatalf("not about space: %s", line)
	case strings.Contains(line, "write boot order: "):
		return "boot", 16 << 10
	}
	var need, free int64
	if _, err := fmt.Sscan(m[1]+" "+m[2], &need, &free); err != nil {
		t.Fatal(err)
	}
	return "foreseen", (need-free)>>10 + 64
}

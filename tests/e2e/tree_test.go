// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/tests/lab"
)

// TestTreeAgainstOstree: libostree finds nothing wrong with the repository, and
// its own commit of a checkout has the same checksums for every directory, file
// and metadata, which the content checksum of the commit sums up.
func TestTreeAgainstOstree(t *testing.T) {
	need(t, "tree")
	l := theLab(t)
	tool(t, "ostree", "--repo="+l.Repo, "fsck", "--quiet")
	dir := scratch(t, l)
	for _, rev := range []string{lab.Ref + "^", lab.Ref} {
		co, repo := filepath.Join(dir, "co"), filepath.Join(dir, "repo")
		tool(t, "ostree", "--repo="+l.Repo, "checkout", rev, co)
		tool(t, "ostree", "--repo="+repo, "init", "--mode=bare")
		tool(t, "ostree", "--repo="+repo, "commit", "--branch=again", "--disable-fsync", "--tree=dir="+co)
		ours := contentChecksum(t, l.Repo, rev)
		theirs := contentChecksum(t, repo, "again")
		if ours != theirs {
			t.Errorf("%s: content checksum %s, ostree commit gives %s", rev, ours, theirs)
		}
		if err := os.RemoveAll(co); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(repo); err != nil {
			t.Fatal(err)
		}
	}
}

var contentLine = regexp.MustCompile(`ContentChecksum: +([0-9a-f]{64})`)

func contentChecksum(t *testing.T, repo, rev string) string {
	t.Helper()
	m := contentLine.FindStringSubmatch(tool(t, "ostree", "--repo="+repo, "show", rev))
	if m == nil {
		t.Fatalf("ostree show %s has no content checksum", rev)
	}
	return m[1]
}

// TestTreeAgainstRPM: rpm lists exactly the solved packages, and verifies every
// file but those that a composed tree means to change.
func TestTreeAgainstRPM(t *testing.T) {
	need(t, "tree")
	l := theLab(t)
	dir := scratch(t, l)
	co := filepath.Join(dir, "co")
	tool(t, "ostree", "--repo="+l.Repo, "checkout", lab.Ref, co)
	// As in a deployment, where /etc starts as a copy of usr/etc.
	tool(t, "cp", "-a", filepath.Join(co, "usr/etc"), filepath.Join(co, "etc"))
	rpm := []string{"rpm", "--root", co, "--dbpath", "/usr/share/rpm"}
	installed := strings.Fields(tool(t, append(rpm, "-qa", "--qf", "%{NAME}-%{EVR}.%{ARCH}\n")...))
	slices.Sort(installed)
	if diff := cmp.Diff(solved(t, l, dir), installed); diff != "" {
		t.Errorf("packages (-solved +rpm -qa):\n%s", diff)
	}
	// rpm -Va exits with 1 when it reports anything, as it does here.
	for _, line := range strings.Split(output(t, append(rpm, "-Va")...), "\n") {
		if line != "" && !meant(line) {
			t.Errorf("rpm -Va: %s", line)
		}
	}
}

// solved asks the composer for the package list without composing.
func solved(t *testing.T, l *lab.Lab, dir string) []string {
	t.Helper()
	lock := filepath.Join(dir, "lock.json")
	tool(t, l.ComposeServer(), "tree", l.Treefile, "--repo", l.Repo, "--cachedir", l.Cache, "--dry-run", "--write-lockfile-to", lock)
	data, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}
	var plan struct {
		Packages []struct{ Name, EVR, Arch string }
	}
	if err := json.Unmarshal(data, &plan); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range plan.Packages {
		out = append(out, p.Name+"-"+p.EVR+"."+p.Arch)
	}
	slices.Sort(out)
	return out
}

// changes are what the compose means to change, as rpm -Va prints it: a set of
// failed checks and the paths on which they are expected.
var changes = []struct {
	why    string
	checks string // subset that may fail; "missing" for absent files
	path   *regexp.Regexp
}{
	{"the object store has no modification times", "T", regexp.MustCompile(`.`)},
	{"accounts are made for the whole tree", "S5T", regexp.MustCompile(`^/etc/(passwd|group|shadow|gshadow)$`)},
	{"home folders are below /var", "S5T", regexp.MustCompile(`^/etc/default/useradd$`)},
	{"the version of the commit is added", "S5T", regexp.MustCompile(`^/usr/lib/os-release$`)},
	{"the final layout links these to /var, /run or /sysroot", "L", regexp.MustCompile(`^/(home|media|mnt|opt|root|srv|tmp|usr/local)$`)},
	{"the treefile names the default target", "L", regexp.MustCompile(`^/usr/lib/systemd/system/default\.target$`)},
	{"mount points of the running system", "M", regexp.MustCompile(`^/(proc|sys)$`)},
	{"/var, and what is linked there, is made at boot", "missing", regexp.MustCompile(`^/(var|opt|usr/local)(/|$)`)},
}

var verifyLine = regexp.MustCompile(`^(missing|[.S?][.M?][.5?][.D?][.L?][.U?][.G?][.T?][.P?]) +(?:[cdglr] )? *(/.*?)(?: \(.*\))?$`)

func meant(line string) bool {
	m := verifyLine.FindStringSubmatch(line)
	if m == nil {
		return false
	}
	failed := strings.ReplaceAll(m[1], ".", "")
	for _, c := range changes {
		if !c.path.MatchString(m[2]) {
			continue
		}
		if m[1] == "missing" && c.checks == "missing" {
			return true
		}
		if m[1] != "missing" && strings.Trim(failed, c.checks) == "" {
			return true
		}
	}
	return false
}

func TestMeantIsStrict(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		".......T.    /usr/bin/bash":                          true,
		"S.5....T.    /usr/bin/bash":                          false,
		".M.......    /usr/bin/sudo":                          false,
		"........P    /usr/bin/ping":                          false,
		"missing      /usr/bin/ls":                            false,
		"missing     /var/lib/git":                            true,
		"missing   c /etc/hosts":                              false,
		"S.5....T.  c /etc/passwd":                            true,
		"S.5....T.  c /etc/hosts":                             false,
		"....L....    /home":                                  true,
		"....L....    /usr/lib/systemd/system/default.target": true,
		".....UG..    /home":                                  false,
		"garbage":                                             false,
		"missing     /var/x (Permission denied)":              true,
		"..?......    /usr/bin/su (unreadable)":               false,
		".......T.  d /usr/share/doc/acl/with sp ":            true,
	} {
		if got := meant(line); got != want {
			t.Errorf("meant(%q) = %v", line, got)
		}
	}
}

// output is tool for a program whose exit status does not matter.
func output(t *testing.T, argv ...string) string {
	t.Helper()
	out, _ := lab.Command(t.Context(), argv...).Output()
	if len(out) == 0 {
		t.Fatalf("%s printed nothing", strings.Join(argv, " "))
	}
	return string(out)
}

// TestSysrootAgainstOstree: the real `ostree admin` reads the sysroot that
// hostctl installs and upgrades, and its fsck finds the repository clean.
func TestSysrootAgainstOstree(t *testing.T) {
	need(t, "tree")
	l := theLab(t)
	sysroot := filepath.Join(scratch(t, l), "S")
	srv, err := l.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	if err := l.Install(t.Context(), sysroot, srv.URL); err != nil {
		t.Fatal(err)
	}
	expectOrder(t, l, sysroot, "1")
	out := tool(t, l.Hostctl(), "--sysroot", sysroot, "upgrade")
	for _, want := range []string{"linux-image-amd64 ", "Removed (1):", "Added (1):", "Copying /etc changes: 1 modified, 0 removed, 0 added"} {
		if !strings.Contains(out, want) {
			t.Errorf("upgrade does not print %q:\n%s", want, out)
		}
	}
	expectOrder(t, l, sysroot, "1.1", "1")
	tool(t, l.Hostctl(), "--sysroot", sysroot, "rollback")
	expectOrder(t, l, sysroot, "1", "1.1")
	tool(t, l.Hostctl(), "--sysroot", sysroot, "cleanup")
	expectOrder(t, l, sysroot, "1", "1.1")
	tool(t, "ostree", "--repo="+filepath.Join(sysroot, "ostree/repo"), "fsck", "--quiet")
}

var statusVersion = regexp.MustCompile(`(?m)^ +Version: (\S+)$`)

// expectOrder compares the versions in boot order as both programs see them.
func expectOrder(t *testing.T, l *lab.Lab, sysroot string, want ...string) {
	t.Helper()
	var theirs []string
	for _, m := range statusVersion.FindAllStringSubmatch(tool(t, "ostree", "admin", "status", "--sysroot="+sysroot), -1) {
		theirs = append(theirs, m[1])
	}
	var st struct{ Deployments []struct{ Version string } }
	if err := json.Unmarshal([]byte(tool(t, l.Hostctl(), "--sysroot", sysroot, "status", "--json")), &st); err != nil {
		t.Fatal(err)
	}
	var ours []string
	for _, d := range st.Deployments {
		ours = append(ours, d.Version)
	}
	if !slices.Equal(ours, want) || !slices.Equal(theirs, want) {
		t.Errorf("boot order: hostctl %v, ostree %v, want %v", ours, theirs, want)
	}
}

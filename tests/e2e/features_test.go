// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/tests/lab"
	"github.com/hostctl/hostctl/tests/vm"
	"github.com/hostctl/hostctl/tests/vm/proto"
)

// features are packages that use what the test distribution's own do not.
var features = []rpmtest.Spec{
	{Name: "feat-lua", Install: "mkdir -p %{buildroot}/usr/share/feat-lua; echo text > %{buildroot}/usr/share/feat-lua/data", Files: "/usr/share/feat-lua",
		Extra: `%post -p <lua>
local dir = "/usr/share/feat-lua/"
local out = io.open(dir .. "made", "w")
for line in io.lines(dir .. "data") do out:write(line, " ", rpm.expand("%{?nothing}lua"), " ", arg[2], "\n") end
out:close()
posix.symlink("made", dir .. "link")
posix.chmod(dir .. "made", "rw-r-----")
`},
	{Name: "feat-triggers", Install: "mkdir -p %{buildroot}/usr/share/feat-triggers; touch %{buildroot}/usr/share/feat-triggers/here", Files: "/usr/share/feat-triggers",
		Extra: `%transfiletriggerin -- /usr/share/feat-files
sort >> /usr/share/feat-triggers/transaction
%filetriggerin -- /usr/share/feat-files
sort >> /usr/share/feat-triggers/files
%triggerin -- feat-files
echo "package $1 $2" >> /usr/share/feat-triggers/package
`},
	{Name: "feat-files", Tags: "Requires: feat-triggers", Install: "mkdir -p %{buildroot}/usr/share/feat-files; touch %{buildroot}/usr/share/feat-files/a %{buildroot}/usr/share/feat-files/b",
		Files: "/usr/share/feat-files"},
	{Name: "feat-caps", Install: "mkdir -p %{buildroot}/usr/bin; printf '#!/bin/sh\nexit 0\n' > %{buildroot}/usr/bin/feat-caps",
		Files: "%attr(0755,root,root) %caps(cap_net_bind_service,cap_net_raw=ep) /usr/bin/feat-caps"},
	{Name: "feat-opt", Install: "mkdir -p %{buildroot}/opt/feat/bin; printf '#!/bin/sh\necho optional\n' > %{buildroot}/opt/feat/bin/hello",
		Files: "%dir /opt/feat\n%dir /opt/feat/bin\n%attr(0755,root,root) /opt/feat/bin/hello"},
	{Name: "feat-user", Tags: "Requires(pre): /usr/sbin/useradd /usr/sbin/groupadd", Install: `cd %{buildroot}
mkdir -p usr/lib/sysusers.d usr/lib/feat-user etc usr/bin var/lib/feat-user
echo 'u featsys - "Declared" /var/lib/feat-user' > usr/lib/sysusers.d/feat-user.conf
echo secret > etc/feat-user.conf
echo shared > usr/lib/feat-user/shared
printf '#!/bin/sh\nexit 0\n' > usr/bin/feat-user`,
		Files: `/usr/lib/sysusers.d/feat-user.conf
%config(noreplace) %attr(0640,root,featuser) /etc/feat-user.conf
%dir %attr(2750,featsys,featuser) /usr/lib/feat-user
%attr(0640,featsys,featuser) /usr/lib/feat-user/shared
%attr(4750,root,featuser) /usr/bin/feat-user
%dir %attr(0700,featsys,featsys) /var/lib/feat-user`,
		Extra: `%pre
getent group featuser >/dev/null || groupadd -r featuser
getent passwd featuser >/dev/null || useradd -r -g featuser -d / -s /usr/sbin/nologin featuser
`},
	moduleBuild("1.0"), moduleBuild("2.0"),
}

// moduleBuild is the package of one stream.
func moduleBuild(version string) rpmtest.Spec {
	return rpmtest.Spec{Name: "feat-module", Version: version, Files: "/usr/share/feat-module",
		Install: "mkdir -p %{buildroot}/usr/share; echo " + version + " > %{buildroot}/usr/share/feat-module"}
}

const featuresTreefile = `include = "host.toml"
repos = ["features"]
packages = ["feat-lua", "feat-triggers", "feat-files", "feat-caps", "feat-opt", "feat-user", "libcap2-bin", "passwd"]

[modules]
install = ["feat:1/default"]
`

func modulemd(stream string) string {
	return `---
document: modulemd
version: 2
data:
  name: feat
  stream: "` + stream + `"
  version: 1
  context: c0ffee42
  arch: x86_64
  summary: a module
  description: a module
  license: {module: [MIT]}
  profiles:
    default: {rpms: [feat-module]}
  artifacts:
    rpms: ["feat-module-0:` + stream + `.0-1.noarch"]
...
`
}

// featuresLab composes the first state of the distribution with the packages
// into a repository of its own.
func featuresLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.New(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.BuildDistro(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := scratch(t, l)
	l.Tree, l.Repo = filepath.Join(dir, "tree"), filepath.Join(dir, "repo")
	if err := l.SelectRelease("v1"); err != nil {
		t.Fatal(err)
	}
	extra := filepath.Join(dir, "features")
	write(t, filepath.Join(extra, "modules.yaml"), modulemd("1")+modulemd("2"))
	for _, s := range features {
		file := rpmtest.BuildFile(t, s)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(extra, filepath.Base(file)), string(data))
	}
	tool(t, "createrepo_c", "--quiet", extra)
	if !strings.Contains(tool(t, "cat", filepath.Join(extra, "repodata/repomd.xml")), `"modules"`) {
		tool(t, "modifyrepo_c", "--mdtype=modules", filepath.Join(extra, "modules.yaml"), filepath.Join(extra, "repodata"))
	}
	write(t, filepath.Join(l.Tree, "features.repo"), "[features]\nname=features\nbaseurl=file://"+extra+"\nenabled=1\ngpgcheck=0\n")
	l.Treefile = filepath.Join(l.Tree, "features.toml")
	write(t, l.Treefile, featuresTreefile)
	if err := l.Run(t.Context(), l.ComposeServer(), "tree", l.Treefile, "--repo", l.Repo, "--cachedir", l.Cache); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestFeatures: a tree with Lua scripts, triggers of all kinds, capabilities, a
// module stream, a package in /opt and accounts of both kinds has what they ask
// for, and rpm finds nothing else changed, neither in the commit nor in a machine
// that booted it.
func TestFeatures(t *testing.T) {
	need(t, "features")
	l := featuresLab(t)
	t.Run("tree", func(t *testing.T) { featuresInTree(t, l) })
	t.Run("machine", func(t *testing.T) { featuresInMachine(t, l) })
}

func featuresInTree(t *testing.T, l *lab.Lab) {
	co := filepath.Join(scratch(t, l), "co")
	tool(t, "ostree", "--repo="+l.Repo, "checkout", l.Ref, co)
	tool(t, "cp", "-a", filepath.Join(co, "usr/etc"), filepath.Join(co, "etc"))
	for name, want := range map[string]string{
		"feat-lua/made":             "text lua 1\n",
		"feat-triggers/transaction": "/usr/share/feat-files\n/usr/share/feat-files/a\n/usr/share/feat-files/b\n",
		"feat-triggers/files":       "/usr/share/feat-files\n/usr/share/feat-files/a\n/usr/share/feat-files/b\n",
		"feat-triggers/package":     "package 1 1\n",
		"feat-module":               "1.0\n",
	} {
		if got, err := os.ReadFile(filepath.Join(co, "usr/share", name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, want %q; %v", name, got, want, err)
		}
	}
	rpm := []string{"rpm", "--root", co, "--dbpath", "/usr/share/rpm"}
	if got := tool(t, append(rpm, "-q", "feat-module")...); got != "feat-module-1.0-1.noarch\n" {
		t.Errorf("module: %s", got)
	}
	for _, line := range strings.Split(output(t, append(rpm, "-Va")...), "\n") {
		if line != "" && !meant(line) {
			t.Errorf("rpm -Va: %s", line)
		}
	}
}

// running are the changes that a running machine has besides those of a tree.
var running = []struct {
	why  string
	line *regexp.Regexp
}{
	{"the machine has a name, disks and address servers of its own", regexp.MustCompile(` /etc/(hostname|hosts|fstab|resolv\.conf|machine-id)$`)},
	{"the file systems of the kernel, and what is mounted for programs, have modes of their own",
		regexp.MustCompile(`^[^5]{9} +(?:[cdglr] +)?/(dev|proc|sys|run|tmp|var/tmp)(/|$)`)},
	{"the tree's accounts, which systemd-tmpfiles gives to the group shadow", regexp.MustCompile(`^SM5\.\.\.G\.\. +c +/etc/g?shadow$`)},
	{"a link that is made at boot is root's", regexp.MustCompile(`^\.{5}UG\.\. +/var/lib/tdvar/current$`)},
}

// meantRunning is meant for a running machine.
func meantRunning(line string) bool {
	for _, c := range running {
		if c.line.MatchString(line) {
			return true
		}
	}
	return meant(line)
}

func TestMeantRunningIsStrict(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		".M.......  g /proc":                  true,
		".M.......    /tmp":                   true,
		"..5......    /dev/x":                 false,
		"SM5...G..  c /etc/gshadow":           true,
		"SM5..UG..  c /etc/shadow":            false,
		".....UG..    /var/lib/tdvar/current": true,
		".....UG..    /var/lib/feat-user":     false,
		".M.......    /usr/bin/feat-user":     false,
		"........P    /usr/bin/feat-caps":     false,
		"missing     /usr/bin/feat-caps":      false,
	} {
		if got := meantRunning(line); got != want {
			t.Errorf("meantRunning(%q) = %v", line, got)
		}
	}
}

func featuresInMachine(t *testing.T, l *lab.Lab) {
	m := featuresMachine(t, l)
	m.expect("getcap /usr/bin/feat-caps", "/usr/bin/feat-caps cap_net_bind_service,cap_net_raw=ep")
	m.expect("/opt/feat/bin/hello", "optional")
	m.expect("id -Gn featuser; id -un featsys", "featuser\nfeatsys")
	m.expect("stat -c '%n %a %U %G' /etc/feat-user.conf /usr/lib/feat-user /usr/lib/feat-user/shared /usr/bin/feat-user /var/lib/feat-user",
		"/etc/feat-user.conf 640 root featuser\n/usr/lib/feat-user 2750 featsys featuser\n/usr/lib/feat-user/shared 640 featsys featuser\n"+
			"/usr/bin/feat-user 4750 root featuser\n/var/lib/feat-user 700 featsys featsys")
	m.expect("cat /usr/share/feat-lua/link; stat -c %a /usr/share/feat-lua/made; cat /usr/share/feat-module /usr/share/feat-triggers/package",
		"text lua 1\n640\n1.0\npackage 1 1")
	m.expect("systemctl --failed --no-legend | wc -l", "0")
	res, err := m.Run(t.Context(), proto.Command{Argv: []string{m.putRPM(), "--dbpath", "/usr/share/rpm", "-Va", "--nomtime"}, Seconds: 1200})
	if err != nil || len(res.Stdout) == 0 {
		t.Fatalf("rpm -Va: %v\n%s", err, res.Stderr)
	}
	for _, line := range strings.Split(string(res.Stdout), "\n") {
		if line != "" && !meantRunning(line) {
			t.Errorf("rpm -Va in the machine: %s", line)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	if err := m.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func featuresMachine(t *testing.T, l *lab.Lab) *machine {
	t.Helper()
	image, tools, err := l.ImageOf(t.Context(), l.Ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(image) })
	v, err := vm.New(vm.Config{Image: image, Tools: tools, MaxLife: 60 * time.Minute, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s", v.Console())
		}
		v.Close()
	})
	m := &machine{VM: v, t: t}
	m.boot()
	return m
}

var libraryLine = regexp.MustCompile(`(/\S+) \(0x`)

// putRPM brings this machine's rpm with its libraries and configuration into
// the guest, whose tree has none, and gives the command.
func (m *machine) putRPM() string {
	m.t.Helper()
	const dir = "/var/tmp/rpm"
	program := strings.TrimSpace(tool(m.t, "sh", "-c", "command -v rpm"))
	put := func(name, from string, mode uint32) {
		data, err := os.ReadFile(from)
		if err == nil {
			err = m.Put(m.t.Context(), filepath.Join(dir, name), mode, bytes.NewReader(data))
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
	put("rpm", program, 0o755)
	loader := ""
	for _, f := range libraryLine.FindAllStringSubmatch(tool(m.t, "ldd", program), -1) {
		name := "lib/" + filepath.Base(f[1])
		put(name, f[1], 0o755)
		if strings.HasPrefix(filepath.Base(f[1]), "ld-linux") {
			loader = filepath.Join(dir, name)
		}
	}
	for _, name := range []string{"rpmrc", "macros"} {
		put("config/"+name, filepath.Join("/usr/lib/rpm", name), 0o644)
	}
	script := fmt.Sprintf("#!/bin/sh\nRPM_CONFIGDIR=%[1]s/config exec %[2]s --library-path %[1]s/lib %[1]s/rpm \"$@\"\n", dir, loader)
	if err := m.Put(m.t.Context(), dir+"/run", 0o755, strings.NewReader(script)); err != nil {
		m.t.Fatal(err)
	}
	return dir + "/run"
}

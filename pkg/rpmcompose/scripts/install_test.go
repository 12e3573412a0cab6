// SPDX-License-Identifier: Apache-2.0

package scripts_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// env is a cache that holds the base package.
type env struct {
	dir  string
	repo *ostree.Repo
	base importer.Source
}

func newEnv(t *testing.T) *env {
	t.Helper()
	rpmtest.Needs(t, "bwrap")
	dir := t.TempDir()
	e := &env{dir: dir, repo: rpmtest.Cache(t, dir), base: rpmtest.Build(t, rpmtest.HostPrograms(t))}
	if _, err := importer.All(t.Context(), e.repo, []importer.Source{e.base}, importer.AllOptions{}); err != nil {
		t.Fatal(err)
	}
	return e
}

// install assembles the base package and specs and runs their scripts.
func (e *env) install(t *testing.T, o scripts.Options, in scripts.InstallOptions, specs ...rpmtest.Spec) (*fsx.Dir, *scripts.Report, error) {
	t.Helper()
	sources := []importer.Source{e.base}
	for _, s := range specs {
		sources = append(sources, rpmtest.Build(t, s))
	}
	res, err := importer.All(t.Context(), e.repo, sources, importer.AllOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var layers []assemble.Layer
	var pkgs []*rpm.Package
	for i, s := range sources {
		layers = append(layers, assemble.Layer{Package: s.Package, Commit: res[i].Commit})
		pkgs = append(pkgs, s.Package)
	}
	name := strings.ReplaceAll(t.Name(), "/", "-") + strconv.Itoa(int(time.Now().UnixNano()))
	work := rpmtest.Dir(t, e.dir, name)
	tree, err := assemble.Assemble(t.Context(), e.repo, layers, work, "rootfs", assemble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root := rpmtest.Dir(t, e.dir, name, "rootfs")
	in.Owners = tree.Owners
	var rep *scripts.Report
	err = scripts.With(t.Context(), root, work, o, func(ctx context.Context, s *scripts.Sandbox) (err error) {
		rep, err = scripts.Install(ctx, s, pkgs, in)
		return err
	})
	return root, rep, err
}

func installed(t *testing.T, o scripts.Options, in scripts.InstallOptions, specs ...rpmtest.Spec) (*fsx.Dir, *scripts.Report, error) {
	t.Helper()
	return newEnv(t).install(t, o, in, specs...)
}

func text(t *testing.T, root *fsx.Dir, name string) string {
	t.Helper()
	b, err := root.ReadFile(name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestInstallOrder(t *testing.T) {
	t.Parallel()
	one := rpmtest.Spec{Name: "one", Install: "mkdir -p %{buildroot}/usr/share/one; echo x > %{buildroot}/usr/share/one/f", Files: "/usr/share/one",
		Extra: `%pre
echo one.pre $1 >> /usr/share/log
%post
echo one.post $1 >> /usr/share/log
%posttrans
echo one.posttrans $1 >> /usr/share/log
%preun
echo WRONG >> /usr/share/log
%postun
echo WRONG >> /usr/share/log
%triggerin -- two
echo one.triggerin $1 $2 >> /usr/share/log
%triggerprein -- two
echo one.triggerprein $1 $2 >> /usr/share/log
%filetriggerin -P 10 -- /usr/share/two
echo one.filetriggerin $1 $(cat) >> /usr/share/log
%transfiletriggerin -P 5 -- /usr/share/t
while read f; do echo one.trans $1 $f >> /usr/share/log; done
%transfiletriggerin -P 500 -- /usr/share/one
while read f; do echo one.early $1 $f >> /usr/share/log; done
%transfiletriggerin -- /nowhere
echo WRONG >> /usr/share/log
`}
	two := rpmtest.Spec{Name: "two", Install: "mkdir -p %{buildroot}/usr/share/two; echo x > %{buildroot}/usr/share/two/f", Files: "/usr/share/two",
		Extra: `%pretrans
echo WRONG >> /usr/share/log
%pre -p <lua>
local f = io.open("/usr/share/log", "a"); f:write("two.pre " .. arg[2] .. "\n"); f:close()
%post -p /usr/bin/true-program
%posttrans
echo two.posttrans $1 >> /usr/share/log
%triggerprein -- one, two
echo two.triggerprein $1 $2 >> /usr/share/log
`}
	two.Install += "; mkdir -p %{buildroot}/usr/bin; printf '#!/bin/sh\\necho two.post $# >> /usr/share/log\\n' > %{buildroot}/usr/bin/true-program"
	two.Files += "\n%attr(755,root,root) /usr/bin/true-program"
	root, rep, err := installed(t, scripts.Options{}, scripts.InstallOptions{}, one, two)
	if err != nil {
		t.Fatal(err)
	}
	want := `one.pre 1
one.triggerprein 1 0
two.triggerprein 0 1
two.pre 1
one.post 1
two.post 0
one.triggerin 1 1
one.posttrans 1
two.posttrans 1
one.filetriggerin 1 /usr/share/two /usr/share/two/f
one.early 1 /usr/share/one
one.early 1 /usr/share/one/f
one.trans 1 /usr/share/two
one.trans 1 /usr/share/two/f
`
	if diff := cmp.Diff(want, text(t, root, "usr/share/log")); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if rep.Scripts != 12 {
		t.Errorf("%d scripts ran", rep.Scripts)
	}
}

func TestAccountsAndOwners(t *testing.T) {
	t.Parallel()
	p := rpmtest.Spec{Name: "acc", Tags: "AutoReqProv: no", Install: `cd %{buildroot}; mkdir -p usr/bin usr/lib/sysusers.d var/lib/acc usr/share/acc
echo x > usr/bin/suid; echo y > usr/bin/capable; echo z > usr/share/acc/f
printf 'u acc - "An account" /var/lib/acc\nu fixed 123 "Fixed"\nm acc fixed\ng grp 321\n' > usr/lib/sysusers.d/acc.conf`,
		Files: `%attr(4750,acc,grp) /usr/bin/suid
%attr(755,root,fixed) %caps(cap_net_raw=ep) /usr/bin/capable
/usr/lib/sysusers.d/acc.conf
%dir %attr(770,acc,acc) /var/lib/acc
%dir %attr(2775,root,grp) /usr/share/acc
/usr/share/acc/f`,
		Extra: "%post\nset -e\n[ $(stat -c %U:%G /var/lib/acc) = acc:acc ]\n[ $(stat -c %a:%U:%G /usr/bin/suid) = 4750:acc:grp ]\n"}
	root, _, err := installed(t, scripts.Options{}, scripts.InstallOptions{}, p)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := scripts.LoadIDs(root)
	if err != nil {
		t.Fatal(err)
	}
	acc, ok := ids.User("acc")
	if !ok || acc < 400 || acc > 998 {
		t.Errorf("acc has id %d", acc)
	}
	st, err := root.Lstat("usr/bin/suid")
	if err != nil || st.Mode&0o7777 != 0o4750 || st.UID != acc || st.GID != 321 {
		t.Errorf("suid: %o %d:%d, %v", st.Mode, st.UID, st.GID, err)
	}
	xattrs, err := root.Xattrs("usr/bin/capable")
	if err != nil || len(xattrs) != 1 || xattrs[0].Name != importer.CapabilityXattr {
		t.Errorf("capabilities %v, %v", xattrs, err)
	}
	if st, err := root.Lstat("usr/share/acc"); err != nil || st.Mode&0o7777 != 0o2775 || st.GID != 321 {
		t.Errorf("directory: %o %d, %v", st.Mode, st.GID, err)
	}
	if g := text(t, root, "usr/etc/group"); !strings.Contains(g, "fixed:x:123:acc\n") {
		t.Errorf("group:\n%s", g)
	}
	if s := text(t, root, "usr/etc/shadow"); !strings.Contains(s, "acc:!*:::::::\n") {
		t.Errorf("shadow:\n%s", s)
	}
}

func TestUnknownOwner(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	p := rpmtest.Spec{Name: "acc", Install: "mkdir -p %{buildroot}/usr/bin; echo x > %{buildroot}/usr/bin/x", Files: "%attr(4755,nobodyknows,root) /usr/bin/x"}
	_, _, err := e.install(t, scripts.Options{}, scripts.InstallOptions{}, p)
	if err == nil || !strings.Contains(err.Error(), "nobodyknows") || !strings.Contains(err.Error(), "acc: /usr/bin/x") {
		t.Errorf("got %v", err)
	}
	root, rep, err := e.install(t, scripts.Options{}, scripts.InstallOptions{AllowUnknownOwners: true}, p)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := root.Lstat("usr/bin/x"); err != nil || st.UID != 0 || st.Mode&0o7000 != 0 {
		t.Errorf("%o %d, %v: must not be setuid root", st.Mode, st.UID, err)
	}
	if len(rep.UnknownOwners) != 1 {
		t.Errorf("unknown %v", rep.UnknownOwners)
	}
}

func TestFailingScriptIsNamed(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	p := rpmtest.Spec{Name: "bad", Extra: "%post\necho first line\necho the reason >&2\nexit 3"}
	_, _, err := e.install(t, scripts.Options{}, scripts.InstallOptions{}, p)
	var failed *scripts.Error
	if !errors.As(err, &failed) || failed.Code != 3 {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"bad-1.0-1.noarch", "%post", "exit status 3", "the reason"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("message lacks %q: %v", part, err)
		}
	}
	rules := []scripts.Rule{{Package: "b*", Kind: "post", Action: scripts.Tolerate, Reason: "test"}}
	if _, rep, err := e.install(t, scripts.Options{}, scripts.InstallOptions{Rules: rules}, p); err != nil || rep.Steps[0].Failed == "" {
		t.Errorf("tolerated failure: %v", err)
	}
	rules[0].Action = scripts.Skip
	if _, rep, err := e.install(t, scripts.Options{}, scripts.InstallOptions{Rules: rules}, p); err != nil || rep.Steps[0].Skipped != "test" {
		t.Errorf("skipped script: %v", err)
	}
}

func TestLua(t *testing.T) {
	t.Parallel()
	for name, helper := range map[string][]string{"in this process": nil, "in its own process": luaHelper(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testLua(t, helper)
		})
	}
}

func testLua(t *testing.T, helper []string) {
	e := newEnv(t)
	for _, tc := range []struct{ name, body, want string }{
		{"files", `
assert(posix.mkdir("/usr/share/l") == 0)
assert(posix.stat("/usr/share/l", "type") == "directory")
assert(posix.symlink("../l", "/usr/share/l/link") == 0)
assert(posix.readlink("/usr/share/l/link") == "../l")
local f = assert(io.open("/usr/share/l/f", "w")); f:write("one\n", "two\n"); f:close()
local n = 0
for line in io.lines("/usr/share/l/f") do n = n + 1; if n == 2 then assert(line == "two") end end
assert(n == 2)
assert(posix.chmod("/usr/share/l/f", "u+x,go-r") == 0)
assert(posix.stat("/usr/share/l/f").mode == "rwx------")
assert(os.rename("/usr/share/l/f", "/usr/share/l/g"))
assert(not posix.stat("/usr/share/l/f"))
assert(posix.unlink("/usr/share/l/link") == 0)
assert(#posix.dir("/usr/share/l") == 3)
assert(os.remove("/usr/share/l/g")); assert(posix.rmdir("/usr/share/l") == 0)
`, ""},
		{"etc is usr/etc", `local f = io.open("/etc/fromlua", "w"); f:write("x"); f:close(); assert(posix.stat("/usr/etc/fromlua"))`, ""},
		{"host is out of reach", `
assert(posix.symlink("/proc/self/root/../../..", "/usr/share/up") == 0)
assert(not io.open("/usr/share/up/etc/hostname")); assert(not io.open("../../../../../../etc/hostname"))
assert(not io.open("/proc/self/environ"))`, ""},
		{"bytes", `print("\255\0x"); local f = assert(io.open("/usr/share/bytes", "w")); f:write("\255\254"); f:close(); assert(rpm.execute("/bin/sh", "-c", "[ $(stat -c %s /usr/share/bytes) = 2 ]") == 0)`, ""},
		{"programs", `assert(rpm.execute("/bin/sh", "-c", "echo ran > /usr/share/ran") == 0); assert(os.execute("exit 4") == nil); assert(posix.stat("/usr/share/ran"))`, ""},
		{"fork", `
function run(program, ...)
  local pid = posix.fork()
  if pid == 0 then
    posix.exec(program, ...)
    assert(nil)
  elseif pid > 0 then
    local p, how, code = posix.wait(pid)
    assert(p == pid and how == "exited")
    return code
  end
end
assert(run("/bin/sh", "-c", "echo $0 > /usr/share/forked", "arg") == 0)
local f = io.open("/usr/share/forked"); assert(f:read() == "arg"); f:close()
assert(run("/bin/sh", "-c", "exit 9") == 9)
assert(run("/nowhere/at/all") > 0)
if posix.access("/bin/sh") then
  local pid = posix.fork()
  if (pid == 0) then error("only the child dies") else posix.wait(pid) end
end
assert(posix.mkdir("/usr/share/parent") == 0)
`, ""},
		{"child that goes on", `local pid = posix.fork(); if pid == 0 then print("child") end`, "without posix.exec"},
		{"exec alone", `posix.exec("/bin/sh")`, "posix.exec is not supported"},
		{"macros", `assert(rpm.expand("%{_bindir}/x %{?nope}%%") == "/usr/bin/x %"); assert(macros._sysconfdir == "/etc")`, ""},
		{"compare", `assert(rpm.vercmp("1.0~rc1", "1.0") == -1)`, ""},
		{"exit 0", `os.exit(0); error("not reached")`, ""},
		{"exit 5", `os.exit(5)`, "exit status 5"},
		{"error", `error("on purpose")`, "on purpose"},
		{"syntax", `local x = 7 // 2`, "compile Lua"},
		{"fork", `posix.fork()`, "posix.fork is not supported"},
		{"loop", `while true do end`, "time limit"},
		{"no host libraries", `assert(not dofile and not require and not package and not debug)`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := rpmtest.Spec{Name: "lua", Extra: "%post -p <lua>\n" + strings.ReplaceAll(tc.body, "%", "%%")}
			_, _, err := e.install(t, scripts.Options{Timeout: 10 * time.Second, LuaHelper: helper}, scripts.InstallOptions{}, p)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "lua-1.0-1") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestDamageIsNotTolerated: a rule for a failing script does not cover what the
// script deletes.
func TestDamageIsNotTolerated(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	rules := []scripts.Rule{{Package: "bad*", Action: scripts.Tolerate, Reason: "test"}}
	for name, extra := range map[string]string{
		"shell": "%post\nrm -rf --no-preserve-root / 2>/dev/null\nexit 1",
		"loop":  "%post\nrm -rf --no-preserve-root / 2>/dev/null\nwhile :; do :; done",
		"Lua":   "%post -p <lua>\nrpm.execute('/bin/sh', '-c', 'rm -rf --no-preserve-root / 2>/dev/null'); error('x')",
	} {
		_, _, err := e.install(t, scripts.Options{Timeout: 5 * time.Second, LuaHelper: luaHelper(t)}, scripts.InstallOptions{Rules: rules}, rpmtest.Spec{Name: "bad", Extra: extra})
		if !errors.Is(err, scripts.ErrTreeDamaged) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestLuaIsBounded: what the interpreter itself cannot stop ends with its process.
func TestLuaIsBounded(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, tc := range []struct {
		name, body string
		limit      time.Duration
		want       error
	}{
		{"memory", `local t = {}; for i = 1, 1000000000 do t[i] = string.rep("x", 1000000) .. i end`, 3 * time.Minute, scripts.ErrLuaEnded},
		{"one large string", `local s = string.rep("x", 60000000); while true do s = s .. s end`, 3 * time.Minute, scripts.ErrLuaEnded},
		{"pattern that never ends", `string.find(string.rep("a", 100), string.rep("a-", 40) .. "b")`, 5 * time.Second, scripts.ErrTimeout},
		{"output", `while true do print(string.rep("x", 60)) end`, 5 * time.Second, scripts.ErrTimeout},
		{"large program", `rpm.execute("/bin/sh", string.rep("x", 3000000))`, 3 * time.Minute, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := rpmtest.Spec{Name: "lua", Extra: "%post -p <lua>\n" + strings.ReplaceAll(tc.body, "%", "%%")}
			_, _, err := e.install(t, scripts.Options{Timeout: tc.limit, LuaHelper: luaHelper(t)}, scripts.InstallOptions{}, p)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || tc.want == nil && errors.Is(err, scripts.ErrTimeout) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func mapFS(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		mode := fs.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		m[name] = &fstest.MapFile{Data: []byte(text), Mode: mode}
	}
	return m
}

func mustLoad(t *testing.T, name string, files map[string]string) *Manifest {
	t.Helper()
	m, err := Load(mapFS(files), name, Options{Basearch: "x86_64"})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return m
}

const fullTOML = `
ref = "demo/${basearch}/${stream}"
releasever = 41
repos = ["base", "updates"]
packages = ["kernel systemd", "'(a or b)'", "bash"]
packages-x86_64 = ["grub2"]
packages-s390x = ["s390utils"]
exclude-packages = ["cowsay"]
recommends = false
documentation = false
install-langs = ["en_US", "de"]
initramfs-args = ["--no-hostonly"]
units = ["sshd.service"]
default-target = "multi-user.target"
automatic-version-prefix = "${releasever}.<date:%Y%m%d>"
mutate-os-release = "${releasever}"
add-files = [["motd", "/etc/motd"], ["hook.sh", "/usr/libexec/hook"]]
remove-files = ["/usr/share/doc"]
remove-from-packages = [["systemd", "/usr/bin/systemd-firstboot", '/usr/lib/.*\.wants/x']]
postprocess-script = "hook.sh"
postprocess = ["echo one"]
etc-group-members = ["wheel", "adm"]

[variables]
stream = "stable"
prod = true

[check-passwd]
type = "file"
filename = "passwd"

[check-groups]
type = "data"
[check-groups.entries]
wheel = 10

[add-commit-metadata]
"demo.stream" = "${stream}"
level = 3

[[repo-packages]]
repo = "updates"
packages = ["bash", "curl"]
[[repo-packages]]
repo = "base"
packages = ["bash"]
`

const fullYAML = `
ref: demo/${basearch}/${stream}
releasever: 41
repos: [base, updates]
packages:
  - kernel systemd
  - "'(a or b)'"
  - bash
packages-x86_64: [grub2]
packages-s390x: [s390utils]
exclude-packages: [cowsay]
recommends: false
documentation: false
install-langs: [en_US, de]
initramfs-args: ["--no-hostonly"]
units: [sshd.service]
default_target: multi-user.target
automatic-version-prefix: ${releasever}.<date:%Y%m%d>
mutate-os-release: "${releasever}"
add-files:
  - [motd, /etc/motd]
  - - hook.sh
    - /usr/libexec/hook
remove-files: [/usr/share/doc]
remove-from-packages:
  - [systemd, /usr/bin/systemd-firstboot, '/usr/lib/.*\.wants/x']
postprocess-script: hook.sh
postprocess: ["echo one"]
etc-group-members: [wheel, adm]
variables: {stream: stable, prod: yes}
check-passwd: {type: file, filename: passwd}
check-groups: {type: data, entries: {wheel: 10}}
add-commit-metadata: {demo.stream: "${stream}", level: 3}
repo-packages:
  - {repo: updates, packages: [bash, curl]}
  - repo: base
    packages: [bash]
`

const fullJSON = `{
"ref": "demo/${basearch}/${stream}", "releasever": 41, "repos": ["base", "updates"],
"packages": ["kernel systemd", "'(a or b)'", "bash"], "packages-x86_64": ["grub2"], "packages-s390x": ["s390utils"],
"exclude-packages": ["cowsay"], "recommends": false, "documentation": false, "install-langs": ["en_US", "de"],
"initramfs-args": ["--no-hostonly"], "units": ["sshd.service"], "default-target": "multi-user.target",
"automatic-version-prefix": "${releasever}.<date:%Y%m%d>", "mutate-os-release": "${releasever}",
"add-files": [["motd", "/etc/motd"], ["hook.sh", "/usr/libexec/hook"]], "remove-files": ["/usr/share/doc"],
"remove-from-packages": [["systemd", "/usr/bin/systemd-firstboot", "/usr/lib/.*\\.wants/x"]],
"postprocess-script": "hook.sh", "postprocess": ["echo one"], "etc-group-members": ["wheel", "adm"],
"variables": {"stream": "stable", "prod": true},
"check-passwd": {"type": "file", "filename": "passwd"}, "check-groups": {"type": "data", "entries": {"wheel": 10}},
"add-commit-metadata": {"demo.stream": "${stream}", "level": 3},
"repo-packages": [{"repo": "updates", "packages": ["bash", "curl"]}, {"repo": "base", "packages": ["bash"]}]
}`

func TestLoadFullManifestInEveryFormat(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"t.toml": fullTOML, "t.yaml": fullYAML, "t.json": fullJSON,
		"motd": "hello\n", "hook.sh": "#!/bin/sh\n", "passwd": "root:x:0:0::/root:/bin/sh\n",
	}
	m := mustLoad(t, "t.toml", files)
	if m.Ref != "demo/x86_64/stable" || m.Releasever != "41" || m.AutomaticVersionPrefix != "41.<date:%Y%m%d>" {
		t.Errorf("expansion: ref %q releasever %q prefix %q", m.Ref, m.Releasever, m.AutomaticVersionPrefix)
	}
	if diff := cmp.Diff([]string{"(a or b)", "bash", "grub2", "kernel", "systemd"}, m.Packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	want := []RepoPackages{{"updates", []string{"curl"}}, {"base", []string{"bash"}}}
	if diff := cmp.Diff(want, m.RepoPackages); diff != "" {
		t.Errorf("repo-packages (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]AddFile{{"motd", "etc/motd"}, {"hook.sh", "usr/libexec/hook"}}, m.AddFiles); diff != "" {
		t.Errorf("add-files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"demo.stream": "stable", "level": int64(3)}, m.AddCommitMetadata); diff != "" {
		t.Errorf("add-commit-metadata (-want +got):\n%s", diff)
	}
	if len(m.Externals) != 4 || !m.Externals[0].Executable || m.Externals[1].Executable {
		t.Errorf("externals %+v", m.Externals)
	}
	for _, u := range m.Unsupported() {
		if u.Key != "check-passwd" && u.Key != "check-groups" {
			t.Errorf("unsupported %v", u)
		}
	}
	canon, err := m.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"t.yaml", "t.json"} {
		other, err := mustLoad(t, name, files).Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(canon, other) {
			t.Errorf("%s differs from t.toml: %s", name, cmp.Diff(string(canon), string(other)))
		}
	}
}

func TestDigestFollowsExternalFiles(t *testing.T) {
	t.Parallel()
	files := map[string]string{"t.toml": `add-files = [["a/motd", "/etc/motd"]]`, "a/motd": "one"}
	fsys := mapFS(files)
	m, err := Load(fsys, "t.toml", Options{Basearch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	before, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	e, ok := m.External(RoleAddFile, "a/motd")
	if !ok {
		t.Fatal("external file is missing")
	}
	if data, err := m.ReadExternal(e); err != nil || string(data) != "one" {
		t.Fatalf("ReadExternal = %q, %v", data, err)
	}
	fsys["a/motd"] = &fstest.MapFile{Data: []byte("two"), Mode: 0o644}
	if _, err := m.ReadExternal(e); err == nil {
		t.Error("a changed external file was accepted")
	}
	m, err = Load(fsys, "t.toml", Options{Basearch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := m.Digest(); after == before {
		t.Error("digest did not change with the external file")
	}
}

func TestIncludeMerging(t *testing.T) {
	t.Parallel()
	m := mustLoad(t, "top/root.toml", map[string]string{
		"top/root.toml": `
include = ["a.yaml", "sub/b.json"]
ref = "root"
releasever = 41
packages = ["root"]
postprocess = ["root"]
units = ["root.service"]
[metadata]
k = "root"
[variables]
who = "root"
big = true
[arch-include]
x86_64 = "x.toml"
aarch64 = "missing.toml"
[[conditional-include]]
if = ["releasever >= 41", 'basearch == "x86_64"', "big == true"]
include = "cond.toml"
[[conditional-include]]
if = 'who == "root"'
include = { packages = ["inline"], default-target = "graphical.target" }
[[conditional-include]]
if = 'who != "root"'
include = "missing.toml"
`,
		"top/a.yaml":     "ref: a\npackages: [a]\npostprocess: [a]\nunits: [a.service]\nrecommends: false\nmetadata: {k: a, only: a}\nvariables: {who: a}\n",
		"top/sub/b.json": `{"packages": ["b"], "postprocess": ["b"], "recommends": true, "add-files": [["f", "/etc/f"]], "include": ["../c.toml"]}`,
		"top/sub/f":      "f",
		"top/c.toml":     `postprocess = ["c"]` + "\n" + `install-langs = ["c"]`,
		"top/x.toml":     `packages = ["x"]`,
		"top/cond.toml":  `packages = ["cond"]`,
	})
	if m.Ref != "root" || m.Recommends || m.DefaultTarget != "graphical.target" {
		t.Errorf("scalars: ref %q recommends %v target %q", m.Ref, m.Recommends, m.DefaultTarget)
	}
	if diff := cmp.Diff([]string{"a", "b", "cond", "inline", "root", "x"}, m.Packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"c", "b", "a", "root"}, m.Postprocess); diff != "" {
		t.Errorf("postprocess (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"k": "root", "only": "a"}, m.Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]AddFile{{"top/sub/f", "etc/f"}}, m.AddFiles); diff != "" {
		t.Errorf("add-files (-want +got):\n%s", diff)
	}
	want := []string{"top/root.toml", "top/a.yaml", "top/sub/b.json", "top/c.toml", "top/x.toml", "top/cond.toml"}
	if diff := cmp.Diff(want, m.Sources); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

func TestEditionDefaults(t *testing.T) {
	t.Parallel()
	old := mustLoad(t, "t.toml", map[string]string{"t.toml": ""})
	if old.BootLocation != BootModules || old.TmpIsDir || old.Edition != "2014" || old.CheckPasswd.Type != CheckPrevious {
		t.Errorf("2014: %+v", old)
	}
	now := mustLoad(t, "t.toml", map[string]string{"t.toml": "edition = 2024", "finalize.d/x": ""})
	if now.BootLocation != BootModules || !now.TmpIsDir {
		t.Errorf("2024: %+v", now)
	}
	if u := now.Unsupported(); len(u) != 1 || u[0].Key != "finalize.d" {
		t.Errorf("2024 unsupported: %v", u)
	}
	c := mustLoad(t, "t.toml", map[string]string{"t.toml": "container = true"})
	if !c.TmpIsDir || c.PreservePasswd || c.CheckGroups.Type != CheckNone {
		t.Errorf("container: %+v", c)
	}
}

// What the composer does not do must not be ignored, and what asks for nothing
// must not be refused.
func TestKeysThatCannotBeHonoured(t *testing.T) {
	t.Parallel()
	for text, key := range map[string]string{
		``:                                                       "",
		`edition = "2024"`:                                       "",
		`selinux = false`:                                        "",
		`selinux = true`:                                         "selinux",
		`selinux-label-version = 1`:                              "selinux-label-version",
		`boot-location = "modules"`:                              "",
		`boot-location = "new"`:                                  "boot-location",
		`boot-location = "kernel-install"`:                       "boot-location",
		`opt-usrlocal = "root"`:                                  "",
		`opt-usrlocal = "state-overlay"`:                         "opt-usrlocal",
		`ignore-devices = true`:                                  "",
		`ignore-devices = false`:                                 "ignore-devices",
		`sysusers = "compose-auto"`:                              "",
		`sysusers = "compose-forced"`:                            "sysusers",
		`repo-metadata = "inline"`:                               "",
		`repo-metadata = "detached"`:                             "repo-metadata",
		`advisories-metadata = "disabled"`:                       "",
		`advisories-metadata = "inline"`:                         "advisories-metadata",
		`gpg-key = "ABCD"`:                                       "",
		`lockfile-repos = ["pool"]`:                              "lockfile-repos",
		`container = true`:                                       "",
		`container-cmd = ["/bin/sh"]`:                            "container-cmd",
		`check-passwd = {type = "none"}`:                         "",
		`check-groups = {type="previous"}`:                       "",
		`check-groups = {type = "data", entries = {wheel = 10}}`: "check-groups",
		"preserve-passwd = false\ncheck-passwd = {type = \"previous\"}": "check-passwd",
		`ex-override-replace = []`:                                      "",
	} {
		var keys []string
		for _, u := range mustLoad(t, "t.toml", map[string]string{"t.toml": text}).Unsupported() {
			keys = append(keys, u.Key)
		}
		if got := strings.Join(keys, " "); got != key {
			t.Errorf("%s: refused %q, want %q", text, got, key)
		}
	}
}

func TestUnsupportedKeysAreListed(t *testing.T) {
	t.Parallel()
	m := mustLoad(t, "t.toml", map[string]string{
		"t.toml": "ima = false\nrpmdb = \"bdb\"\ninclude = \"i.toml\"\nplatform-module = \"x\"\nostree-override-layers = []\n",
		"i.toml": "\nostree-layers = [\"overlay/x\"]\n",
	})
	var got []string
	for _, u := range m.Unsupported() {
		got = append(got, u.String())
	}
	want := []string{
		"i.toml:2: ostree-layers: is not implemented by this composer",
		"t.toml:2: rpmdb: this composer writes the sqlite database only",
		"t.toml:4: platform-module: modules are not supported",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unsupported (-want +got):\n%s", diff)
	}
}

func TestLoadRefusesBadOptions(t *testing.T) {
	t.Parallel()
	fsys := mapFS(map[string]string{"t.toml": `basearch = "aarch64"`})
	for _, o := range []Options{
		{Basearch: "x86_64"},
		{Variables: map[string]Value{"basearch": StringValue("x")}},
		{Variables: map[string]Value{"a-b": StringValue("x")}},
	} {
		if _, err := Load(fsys, "t.toml", o); err == nil {
			t.Errorf("Load accepted %+v", o)
		}
	}
	if m, err := Load(fsys, "t.toml", Options{}); err != nil || m.Basearch != "aarch64" {
		t.Errorf("Load = %v", err)
	}
	if _, err := Load(fsys, "../t.toml", Options{}); err == nil {
		t.Error("Load left the file system")
	}
	if _, err := Load(fsys, "none.toml", Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestParseValue(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Value{
		"true": BoolValue(true), "false": BoolValue(false), "12": NumberValue(12), "": StringValue(""),
		"-1": StringValue("-1"), "+1": StringValue("+1"), "x": StringValue("x"), "99999999999999999999": StringValue("99999999999999999999"),
	} {
		if got := ParseValue(in); got != want {
			t.Errorf("ParseValue(%q) = %v, want %v", in, got, want)
		}
	}
}

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
type = "file"
filename = "group"

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
check-groups: {type: file, filename: group}
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
"check-passwd": {"type": "file", "filename": "passwd"}, "check-groups": {"type": "file", "filename": "group"},
"add-commit-metadata": {"demo.stream": "${stream}", "level": 3},
"repo-packages": [{"repo": "updates", "packages": ["bash", "curl"]}, {"repo": "base", "packages": ["bash"]}]
}`

func TestLoadFullManifestInEveryFormat(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"t.toml": fullTOML, "t.yaml": fullYAML, "t.json": fullJSON,
		"motd": "hello\n", "hook.sh": "#!/bin/sh\n", "passwd": "root:x:0:0::/root:/bin/sh\n", "group": "root:x:0:\n",
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
	if len(m.Externals) != 5 || !m.Externals[0].Executable || m.Externals[1].Executable {
		t.Errorf("externals %+v", m.Externals)
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
	if old.BootLocation != BootNew || old.TmpIsDir || old.Edition != "2014" || old.CheckPasswd.Type != CheckPrevious {
		t.Errorf("2014: %+v", old)
	}
	now := mustLoad(t, "t.toml", map[string]string{"t.toml": "edition = 2024"})
	if now.BootLocation != BootModules || !now.TmpIsDir {
		t.Errorf("2024: %+v", now)
	}
	c := mustLoad(t, "t.toml", map[string]string{"t.toml": "container = true"})
	if !c.TmpIsDir || c.PreservePasswd || c.SELinux || c.CheckGroups.Type != CheckNone {
		t.Errorf("container: %+v", c)
	}
}

// Programs of finalize.d beside any treefile run in the order of their names, in
// the newer edition.
func TestFinalizeHooks(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"top/t.toml": "edition = \"2024\"\ninclude = \"../base/b.yaml\"\n", "top/finalize.d/20-top.sh": "top", "top/finalize.d/README": "no program",
		"base/b.yaml": "packages: [a]\n", "base/finalize.d/10-base.sh": "base",
	}
	m := mustLoad(t, "top/t.toml", files)
	var got []string
	for _, e := range m.Externals {
		data, err := m.ReadExternal(e)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(e.Role)+" "+e.Path+" "+string(data))
	}
	if diff := cmp.Diff([]string{"finalize.d base/finalize.d/10-base.sh base", "finalize.d top/finalize.d/20-top.sh top"}, got); diff != "" {
		t.Errorf("hooks (-want +got):\n%s", diff)
	}
	files["base/finalize.d/20-top.sh"] = "other"
	if _, err := Load(mapFS(files), "top/t.toml", Options{Basearch: "x86_64"}); err == nil || !strings.Contains(err.Error(), "base/finalize.d/20-top.sh: finalize.d: has the name of top/finalize.d/20-top.sh") {
		t.Errorf("two of one name: %v", err)
	}
	files["top/t.toml"] = "include = \"../base/b.yaml\"\n"
	if m := mustLoad(t, "top/t.toml", files); len(m.Externals) > 0 {
		t.Errorf("edition 2014: %v", m.Externals)
	}
}

func TestModulesAndOverridesMerge(t *testing.T) {
	t.Parallel()
	m := mustLoad(t, "t.yaml", map[string]string{
		"t.yaml": `include: i.yaml
platform-module: platform:f${releasever}
modules: {enable: ["b:1"], install: ["c:2/server"]}
ex-override-replace:
  - from: {repo: new}
    packages: [ostree ostree-libs]
`,
		"i.yaml": `releasever: 36
modules: {enable: ["a:${releasever}"]}
ex-override-replace:
  - from: {repo: old}
    packages: [ostree, rpm]
`,
	})
	want := Modules{Enable: []string{"a:36", "b:1"}, Install: []string{"c:2/server"}}
	if diff := cmp.Diff(want, m.Modules); diff != "" || m.PlatformModule != "platform:f36" {
		t.Errorf("modules of %q (-want +got):\n%s", m.PlatformModule, diff)
	}
	replace := []RepoPackages{{"old", []string{"rpm"}}, {"new", []string{"ostree", "ostree-libs"}}}
	if diff := cmp.Diff(replace, m.OverrideReplace); diff != "" {
		t.Errorf("ex-override-replace (-want +got):\n%s", diff)
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

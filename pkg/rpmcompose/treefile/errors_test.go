// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Each case is one file (t.toml unless the text says otherwise) and the whole
// message that its author must see.
func TestErrorMessages(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, text, want string }{
		{"t.toml", "ref = \"a\"\npackges = [\"x\"]\n", `t.toml:2: packges: unknown key (did you mean "packages"?)`},
		{"t.yaml", "# c\nref: a\ninstall_langs: [x]\n", `t.yaml:3: install_langs: unknown key (did you mean "install-langs"?)`},
		{"t.json", "{\n\"ref\": \"a\",\n\n\"zzzzzz\": 1}", `t.json:4: zzzzzz: unknown key`},
		{"t.toml", "packages = \"x\"\n", `t.toml:1: packages: must be a list of strings, not a string`},
		{"t.yaml", "packages:\n  - a\n  - 3\n", `t.yaml:3: packages: every item must be a string, not an integer`},
		{"t.toml", "\n\nselinux = \"yes\"\n", `t.toml:3: selinux: must be a boolean, not a string`},
		{"t.yaml", "mutate-os-release: 9.10\n", `t.yaml:1: mutate-os-release: must be a string, not a number (put it in quotes, so that 9.10 stays 9.10)`},
		{"t.toml", "boot-location = \"module\"\n", `t.toml:1: boot-location: unknown value "module", expected one of new, modules, kernel-install (did you mean "modules"?)`},
		{"t.toml", "edition = 2025\n", `t.toml:1: edition: unknown value "2025", expected one of 2014, 2024 (did you mean "2024"?)`},
		{"t.toml", "[variables]\na = 1\npackages = [\"x\"]\n", `t.toml:3: variables.packages: must be a boolean, an integer or a string, not a list (in TOML every key after [variables] belongs to that table: move "packages" above it)`},
		{"t.toml", "a = \n", `t.toml:1: parse TOML: expected value but found '\n' instead`},
		{"t.toml", "ref = \"a\"\nref = \"b\"\n", `t.toml:2: parse TOML: Key 'ref' has already been defined.`},
		{"t.yaml", "ref: a\nref: b\n", `t.yaml:2: ref: given twice`},
		{"t.json", "{\"ref\": \"a\",\n\"ref\": \"b\"}", `t.json:2: ref: given twice`},
		{"t.json", "{\"ref\": \n]", `t.json:2: parse JSON: invalid character ']' looking for beginning of value`},
		{"t.json", "{} x", `t.json:1: text after the end of the JSON value`},
		{"t.yaml", "a: b: c\n", `t.yaml:1: parse YAML: mapping values are not allowed in this context`},
		{"t.yaml", "- a\n", `t.yaml:1: a treefile is a table of keys, not a list`},
		{"t.yaml", "ref: a\n---\nref: b\n", `t.yaml:2: a second YAML document`},
		{"t.yaml", "base: &x {ref: a}\n<<: *x\n", `t.yaml:2: <<: YAML merge keys are not part of the treefile format`},
		{"t.yaml", "default_target: a.target\ndefault-target: b.target\n", `t.yaml:1: default_target: contradicts "default-target" in the same file: it is the old spelling of the same key`},
		{"t.ks", "x", `t.ks: unknown treefile format (name it .toml, .yaml or .json)`},
		{"t.toml", "ref = \"a/${stream}\"\n", `t.toml:1: ref: expand "a/${stream}": variable "stream" is not defined`},
		{"t.toml", "ref = \"a/${stream\"\n", "t.toml:1: ref: expand \"a/${stream\": ${ without closing }"},
		{"t.toml", "ref = \"a//b\"\n", `t.toml:1: ref: "a//b" is not a branch name`},
		{"t.toml", "include = \"x.toml\"\n", `t.toml:1: include: read x.toml: open x.toml: file does not exist`},
		{"t.toml", "include = \"../x.toml\"\n", `t.toml:1: include: "../x.toml" leads out of the treefile's directory tree`},
		{"t.toml", "include = \"/x.toml\"\n", `t.toml:1: include: "/x.toml" is not a relative file name`},
		{"t.toml", "\ninclude = \"t.toml\"\n", `t.toml:2: include: t.toml is included a second time (it is the treefile itself)`},
		{"t.toml", "include = [\"e.toml\", \"e.toml\"]\n", `t.toml:1: include: e.toml is included a second time (first at t.toml:1)`},
		{"t.toml", "include = \"dir\"\n", `t.toml:1: include: read dir: read dir: not a regular file`},
		{"t.toml", "add-files = [[\"none\", \"/etc/x\"]]\n", `t.toml:1: add-files: read external file: open none: file does not exist`},
		{"t.toml", "add-files = [[\"e.toml\", \"/var/x\"]]\n", `t.toml:1: add-files: destination "/var/x" is not a file below /usr (but not /usr/local) or /etc`},
		{"t.toml", "add-files = [[\"e.toml\", \"/usr/../var/x\"]]\n", `t.toml:1: add-files: destination "/usr/../var/x" is not a file below /usr (but not /usr/local) or /etc`},
		{"t.toml", "add-files = [[\"e.toml\"]]\n", `t.toml:1: add-files: every item must be a list of source and destination`},
		{"t.toml", "postprocess-script = \"../../x\"\n", `t.toml:1: postprocess-script: "../../x" leads out of the treefile's directory tree`},
		{"t.toml", "remove-from-packages = [[\"a\", \"(\"]]\n", "t.toml:1: remove-from-packages: expression \"(\": error parsing regexp: missing closing ): `(`"},
		{"t.toml", "remove-files = [\"/\"]\n", `t.toml:1: remove-files: "/" is the whole tree`},
		{"t.toml", "packages = [\"a\", \"b c\"]\nexclude-packages = [\"c\"]\n", `t.toml:2: exclude-packages: "c" is in packages, too`},
		{"t.toml", "packages = [\"a 'b\"]\n", `t.toml:1: packages: a single quote is not closed in "a 'b"`},
		{"t.toml", "no-initramfs = true\ninitramfs-args = [\"-v\"]\n", `t.toml:2: initramfs-args: contradicts no-initramfs`},
		{"t.toml", "automatic-version-suffix = \"-\"\n", `t.toml:1: automatic-version-suffix: needs automatic-version-prefix`},
		{"t.toml", "default-target = \"multi-user\"\n", `t.toml:1: default-target: "multi-user" is not the name of a target`},
		{"t.toml", "units = [\"sshd\"]\n", `t.toml:1: units: "sshd" is not the name of a unit`},
		{"t.toml", "[check-passwd]\ntype = \"file\"\n", `t.toml:1: check-passwd: type = "file" and the key filename go together`},
		{"t.toml", "[check-passwd]\ntyp = \"file\"\n", `t.toml:2: check-passwd.typ: unknown key (did you mean "type"?)`},
		{"t.toml", "[check-groups]\ntype = \"data\"\nentries = { wheel = [1, 2] }\n", `t.toml:3: check-groups.entries.wheel: must be an id, or for a user a list of user id and group id`},
		{"t.toml", "[check-passwd]\ntype = \"file\"\nfilename = \"e.toml\"\n", `t.toml:1: check-passwd: is of type "file", but only one of check-passwd and check-groups is (give both a file, or write preserve-passwd = false)`},
		{"t.toml", "\ncliwrap-binaries = [\"rpm\"]\n", `t.toml:2: cliwrap-binaries: "rpm" cannot be wrapped (only kernel-install can)`},
		{"t.toml", "[modules]\nenable = [\"a:1/x\"]\n", `t.toml:2: modules.enable: "a:1/x" is not the name of a module stream`},
		{"t.toml", "[modules]\nenabel = [\"a:1\"]\n", `t.toml:2: modules.enabel: unknown key (did you mean "enable"?)`},
		{"t.yaml", "ex-override-replace:\n  - from: {rep: x}\n    packages: [a]\n", `t.yaml:2: ex-override-replace.from.rep: unknown key (did you mean "repo"?)`},
		{"t.toml", "\npackages = [\n \"a\",\n \"b 'c\",\n]\n", `t.toml:4: packages: a single quote is not closed in "b 'c"`},
		{"t.toml", "[repovars]\nbasearch = \"x\"\n", `t.toml:2: repovars.basearch: is filled in by itself: use the key "basearch" of the top level`},
		{"t.toml", "[variables]\nbasearch = \"x\"\n", `t.toml:2: variables.basearch: is predefined: use the key "basearch" of the top level`},
		{"t.toml", "ref=\"a\"\n[[repo-packages]]\nrepo=\"r\"\npackages=[\"a\"]\n[[repo-packages]]\nrepo=\"r\"\n", `t.toml:5: repo-packages: lacks the key "packages"`},
		{"t.toml", "[[conditional-include]]\nif = \"x >= 1\"\ninclude = \"e.toml\"\n", `t.toml:1: conditional-include.if: evaluate "x >= 1": variable "x" is not defined`},
		{"t.toml", "[[conditional-include]]\nif = 'basearch >= 1'\ninclude = \"e.toml\"\n", `t.toml:1: conditional-include.if: evaluate "basearch >= 1": variable "basearch" is a string, but "1" is a number`},
		{"t.yaml", "conditional-include:\n  - include: e.toml\n    if: basearch ~ x\n", `t.yaml:3: conditional-include.if: parse condition "basearch ~ x": the operator must be one of == != < <= > >= (write it like: releasever >= 41, or: stream == "stable")`},
		{"t.yaml", "conditional-include:\n  - if: basearch == \"x86_64\"\n    include: {include: e.toml}\n", `t.yaml:3: include: is not possible in an inline treefile`},
		{"t.toml", "base-refspec = \"x\"\n", `t.toml:1: base-refspec: belongs to a host's own treefile, not to a tree's`},
		{"t.toml", "[metadata]\nwhen = 2020-01-01\n", `t.toml:2: when: a value of type date or time has no meaning in a treefile`},
	}
	for i, c := range cases {
		t.Run(fmt.Sprintf("%02d", i), func(t *testing.T) {
			t.Parallel()
			_, err := Load(mapFS(map[string]string{c.name: c.text, "e.toml": "", "dir/x": ""}), c.name, Options{Basearch: "x86_64"})
			if err == nil {
				t.Fatalf("accepted:\n%s", c.text)
			}
			if err.Error() != c.want {
				t.Errorf("message for:\n%s\n got %s\nwant %s", c.text, err, c.want)
			}
			var e *Error
			if !errors.As(err, &e) || e.File != c.name {
				t.Errorf("not an *Error of the file: %#v", err)
			}
		})
	}
}

func TestHostileInputIsBounded(t *testing.T) {
	t.Parallel()
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for i := 'b'; i < 'i'; i++ {
		bomb += fmt.Sprintf("%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	chain := map[string]string{}
	for i := range maxIncludeDepth + 2 {
		chain[fmt.Sprintf("%d.toml", i)] = fmt.Sprintf("include = \"%d.toml\"", i+1)
	}
	for name, files := range map[string]map[string]string{
		"aliases":    {"t.yaml": bomb},
		"deep yaml":  {"t.yaml": "metadata: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)},
		"deep json":  {"t.json": `{"metadata": ` + strings.Repeat("[", 200000)},
		"deep toml":  {"t.toml": "metadata = " + strings.Repeat("[", 200000)},
		"large":      {"t.toml": strings.Repeat("#", maxFileSize+1)},
		"long chain": chain,
	} {
		for _, root := range []string{"t.yaml", "t.json", "t.toml", "0.toml"} {
			if _, ok := files[root]; !ok {
				continue
			}
			if _, err := Load(mapFS(files), root, Options{Basearch: "x86_64"}); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func flatOf(t *testing.T, m *Manifest, defaults bool) *Document {
	t.Helper()
	d, err := m.Flat(defaults)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var originFiles = map[string]string{
	"top/t.toml": `include = ["../common/base.yaml"]
ref = "x/${basearch}/${stream}"
packages = [
  "b a", # two in one
  "'c >= 1'",
]
packages-x86_64 = ["grub2"]
packages-s390x = ["zipl"]
repos = ["two"]
[variables]
stream = "stable"
`,
	"common/base.yaml": `# The base.
packages:
  - a
  - z
repos:
  - one
  - two
postprocess-script: hook.sh
add-files:
  - [motd, /etc/motd]
conditional-include:
  - if: stream == "stable"
    include:
      units:
        - s.service
`,
	"common/hook.sh": "#!/bin/sh\n", "common/motd": "hi\n",
}

func TestOriginsOfTheFlattenedManifest(t *testing.T) {
	t.Parallel()
	m := mustLoad(t, "top/t.toml", originFiles)
	var got []string
	for _, e := range flatOf(t, m, false).Entries() {
		got = append(got, strings.Join([]string{e.Key, e.Value.(string), e.Origin.String()}, " "))
	}
	want := []string{
		"ref x/x86_64/stable top/t.toml:2",
		"basearch x86_64 default",
		"repos[0] one common/base.yaml:6",
		"repos[1] two common/base.yaml:7",
		"packages[0] a common/base.yaml:3",
		"packages[1] b top/t.toml:4",
		"packages[2] 'c >= 1' top/t.toml:5",
		"packages[3] grub2 top/t.toml:7",
		"packages[4] z common/base.yaml:4",
		"units[0] s.service common/base.yaml:15",
		"postprocess-script ../common/hook.sh common/base.yaml:8",
		"add-files[0][0] ../common/motd common/base.yaml:10",
		"add-files[0][1] /etc/motd common/base.yaml:10",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if o := m.Where("units", 0); o.String() != "common/base.yaml:15" {
		t.Errorf("origin of a unit: %s", o)
	}
	if o := m.Where("default-target", -1); o.String() != "default" {
		t.Errorf("origin of nothing: %s", o)
	}
	for _, e := range flatOf(t, m, true).Entries() {
		if e.Key == "recommends" && (e.Value != true || e.Origin != Origin{}) {
			t.Errorf("default %+v", e)
		}
	}
	toml, err := flatOf(t, m, false).Encode(TOML, EncodeOptions{Origins: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`ref = "x/x86_64/stable" # top/t.toml:2`, `  "'c >= 1'", # top/t.toml:5`, `  ["../common/motd", "/etc/motd"], # common/base.yaml:10`} {
		if !strings.Contains(string(toml), line+"\n") {
			t.Errorf("lacks %s:\n%s", line, toml)
		}
	}
	yaml, err := flatOf(t, m, false).Encode(YAML, EncodeOptions{Origins: true})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(yaml), "- grub2 # top/t.toml:7\n") {
		t.Errorf("YAML:\n%s", yaml)
	}
}

// A person who moves from YAML keeps the comments and the order.
func TestConvertKeepsComments(t *testing.T) {
	t.Parallel()
	d, err := Parse("t.yaml", []byte(`# Head of the file.

# About the ref.
ref: a/b # the branch
check-passwd: {type: none}
packages:
  # The base.
  - bash # a shell
  - 'on'
metadata: {}
postprocess:
  - |
    #!/bin/bash
    echo 'it''s' # no comment
default_target: my.target
variables:
  x: 1
repo-packages:
  # From testing.
  - repo: testing
    packages: [a]
`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Encode(TOML, EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := `# Head of the file.

# About the ref.
ref = "a/b" # the branch
packages = [
  # The base.
  "bash", # a shell
  "on",
]
metadata = {}
postprocess = ['''
#!/bin/bash
echo 'it''s' # no comment
''']
default-target = "my.target"

[check-passwd]
type = "none"

[variables]
x = 1

# From testing.
[[repo-packages]]
repo = "testing"
packages = ["a"]
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("TOML (-want +got):\n%s", diff)
	}
	back, err := Parse("t.toml", got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d.root.plain(), back.root.plain()); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
	text, err := back.Encode(YAML, EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "- \"on\"\n") || !strings.Contains(string(text), "  - |\n") {
		t.Errorf("YAML:\n%s", text)
	}
}

func TestItemLinesOfTOML(t *testing.T) {
	t.Parallel()
	text := "x = 1\n'q=' = [ 'a', # c ]\n\n  \"]\\\"\",\n  [1,\n 2], '''\n]''',\n\"\"\"x\n\\\"\"\"\"\"\",\n{ a = ['x'] },\n]\n"
	d, err := parseTOML("t.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, c := range d.get("q=").list {
		got = append(got, c.line)
	}
	if diff := cmp.Diff([]int{2, 4, 5, 6, 8, 10}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestRelative(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{{".", "a/b", "a/b"}, {"a", "a/b", "b"}, {"a", "b", "../b"}, {"a/b", "a/c/d", "../c/d"}, {"a/b", "a/b", "../b"}} {
		if got := relative(c[0], c[1]); got != c[2] {
			t.Errorf("relative(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

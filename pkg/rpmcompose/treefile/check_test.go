// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCheckAll: defects of several files, keys and items, each once, without those
// that only follow from another.
func TestCheckAll(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"sound", map[string]string{"t.toml": "ref = \"a\"\n"}, nil},
		{"keys of two files", map[string]string{
			"t.toml": "ref = \"a//b\"\npackges = [\"x\"]\nselinux = \"yes\"\ninclude = [\"a.yaml\", \"none.yaml\"]\n",
			"a.yaml": "units: [sshd]\ninstall_langs: [x]\nrecommends: 3\n",
		}, []string{"a.yaml:1: units", "a.yaml:2: install_langs", "a.yaml:3: recommends", "t.toml:1: ref", "t.toml:2: packges", "t.toml:3: selinux", "t.toml:4: include"}},
		{"items", map[string]string{"t.yaml": "packages:\n  - a\n  - 3\n  - b\n  - ''\nadd-files:\n  - [none, /etc/x]\n  - [t.yaml, /var/x]\n  - [t.yaml]\n"},
			[]string{"t.yaml:3: packages", "t.yaml:5: packages", "t.yaml:7: add-files", "t.yaml:8: add-files", "t.yaml:9: add-files"}},
		{"items of a line", map[string]string{"t.toml": "packages = [\"a 'b\", 3, \"c\", \"d 'e\"]\nunits = [\"x\", \"y.service\", \"x\"]\n"},
			[]string{"t.toml:1: packages", "t.toml:1: packages", "t.toml:1: packages", "t.toml:2: units", "t.toml:2: units"}},
		{"syntax", map[string]string{"t.yaml": "include: [b.toml, c.yaml]\nref: x/${stream}\nzzzz: 1\n", "b.toml": "a = \n", "c.yaml": "units: [x]\n"},
			[]string{"b.toml:1: parse TOML", "c.yaml:1: units", "t.yaml:3: zzzz"}},
		{"syntax of the treefile", map[string]string{"t.yaml": "ref: a\nref: b\n"}, []string{"t.yaml:2: ref"}},
		{"variables", map[string]string{"t.toml": "ref = \"${a}/${b}\"\nmutate-os-release = \"${c}\"\n"}, []string{"t.toml:1: ref", "t.toml:2: mutate-os-release"}},
		{"variable that is wrong", map[string]string{"t.toml": "ref = \"${a}\"\ntmp-is-dir = 1\n[variables]\na = [1]\n"}, []string{"t.toml:2: tmp-is-dir", "t.toml:4: variables.a"}},
		{"conditions", map[string]string{"t.yaml": "conditional-include:\n  - if: x >= 1\n    include: e.yaml\n  - if: basearch ~ x\n    include: e.yaml\n  - if: basearch == \"x86_64\"\n    include: {include: e.yaml}\nzzzz: 1\n", "e.yaml": ""},
			[]string{"t.yaml:2: conditional-include.if", "t.yaml:4: conditional-include.if", "t.yaml:7: include", "t.yaml:8: zzzz"}},
		{"pair", map[string]string{"t.toml": "tmp-is-dir = 1\n[check-passwd]\ntyp = \"file\"\n[check-groups]\ntype = \"file\"\nfilename = \"t.toml\"\n"}, []string{"t.toml:1: tmp-is-dir", "t.toml:3: check-passwd.typ"}},
		{"absent", map[string]string{}, []string{"read treefile"}},
		{"not in a file", map[string]string{"t.toml": "basearch = \"s390x\"\nzzzz = 1\n"}, []string{"t.toml:1: basearch", "t.toml:2: zzzz"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := "t.toml"
			if _, ok := c.files["t.yaml"]; ok {
				root = "t.yaml"
			}
			m, found := CheckAll(mapFS(c.files), root, Options{Basearch: "x86_64"})
			if (m != nil) != (len(c.want) == 0) {
				t.Errorf("manifest %v", m)
			}
			var got []string
			for i, err := range found {
				text := err.Error()
				if i < len(c.want) && strings.HasPrefix(text, c.want[i]+":") {
					text = c.want[i]
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	var many strings.Builder
	for i := range 2 * maxFindings {
		fmt.Fprintf(&many, "unknown%d: 1\n", i)
	}
	if _, found := CheckAll(mapFS(map[string]string{"t.yaml": many.String()}), "t.yaml", Options{Basearch: "x86_64"}); len(found) != maxFindings {
		t.Errorf("%d findings", len(found))
	}
}

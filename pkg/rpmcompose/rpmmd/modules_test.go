// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// modules writes streams as "NAME:STREAM [requires MODULE:STREAM,STREAM …] [artifact NEVRA …]"
// and defaults as "default NAME:STREAM [modified]".
func modules(t testing.TB, lines ...string) *Modules {
	t.Helper()
	var b strings.Builder
	for _, l := range lines {
		w := strings.Fields(l)
		if w[0] == "default" {
			name, stream, _ := strings.Cut(w[1], ":")
			fmt.Fprintf(&b, "---\ndocument: modulemd-defaults\nversion: 1\ndata:\n  module: %s\n  stream: \"%s\"\n", name, stream)
			if len(w) > 2 {
				fmt.Fprintf(&b, "  modified: %s\n", w[2])
			}
			b.WriteString("...\n")
			continue
		}
		name, stream, _ := strings.Cut(w[0], ":")
		fmt.Fprintf(&b, "---\ndocument: modulemd\nversion: 2\ndata:\n  name: %s\n  stream: \"%s\"\n  version: 1\n", name, stream)
		var requires, artifacts []string
		for _, x := range w[1:] {
			if strings.Count(x, "-") >= 2 && strings.HasSuffix(x, ".x86_64") {
				artifacts = append(artifacts, x)
				continue
			}
			mod, streams, _ := strings.Cut(x, ":")
			requires = append(requires, fmt.Sprintf("%s: [%s]", mod, streams))
		}
		fmt.Fprintf(&b, "  dependencies:\n  - requires: {%s}\n  artifacts:\n    rpms: [%s]\n...\n", strings.Join(requires, ", "), strings.Join(artifacts, ", "))
	}
	m, err := ParseModules([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestActiveModules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lists  []*Modules
		choice ModuleChoice
		want   string // "a:1 b:2", or an error's words
	}{
		"defaults":             {[]*Modules{modules(t, "a:1", "a:2", "b:1", "default a:2")}, ModuleChoice{}, "a:2"},
		"disabled":             {[]*Modules{modules(t, "a:1", "default a:1")}, ModuleChoice{Disable: []string{"a"}}, ""},
		"chosen over default":  {[]*Modules{modules(t, "a:1", "a:2", "default a:2")}, ModuleChoice{Enable: []string{"a:1"}}, "a:1"},
		"requirement":          {[]*Modules{modules(t, "a:1 b:2", "b:1", "b:2")}, ModuleChoice{Enable: []string{"a:1"}}, "a:1 b:2"},
		"requirement, default": {[]*Modules{modules(t, "a:1 b:", "b:1", "b:2", "default b:2")}, ModuleChoice{Enable: []string{"a:1"}}, "a:1 b:2"},
		"not that stream":      {[]*Modules{modules(t, "a:1 b:-1", "b:1", "b:2")}, ModuleChoice{Enable: []string{"a:1"}}, "a:1 b:2"},
		"contradiction":        {[]*Modules{modules(t, "a:1 b:1", "b:1", "b:2")}, ModuleChoice{Enable: []string{"a:1", "b:2"}}, "another stream"},
		"missing requirement":  {[]*Modules{modules(t, "a:1 b:1")}, ModuleChoice{Enable: []string{"a:1"}}, "no repository has"},
		"default cannot be":    {[]*Modules{modules(t, "a:1 b:1", "c:1", "default a:1", "default c:1")}, ModuleChoice{}, "c:1"},
		"other platform":       {[]*Modules{modules(t, "a:1 platform:f30")}, ModuleChoice{Enable: []string{"a:1"}, Platform: "f31"}, "platform"},
		"circle":               {[]*Modules{modules(t, "a:1 b:1", "b:1 a:1")}, ModuleChoice{Enable: []string{"a:1"}}, "a:1 b:1"},
		"later defaults count": {[]*Modules{modules(t, "a:1", "default a:1 5"), modules(t, "a:2", "default a:2 6")}, ModuleChoice{}, "a:2"},
		"equal defaults":       {[]*Modules{modules(t, "a:1", "default a:1 5"), modules(t, "a:2", "default a:2 5")}, ModuleChoice{}, ""},
		"no default":           {[]*Modules{modules(t, "a:1")}, ModuleChoice{Enable: []string{"a"}}, "no default stream"},
	} {
		got, err := ActiveModules(c.lists, c.choice)
		var text []string
		for _, m := range slices.Sorted(maps.Keys(got)) {
			text = append(text, m+":"+got[m])
		}
		if err != nil && (!strings.Contains(err.Error(), c.want) || c.want == "") || err == nil && strings.Join(text, " ") != c.want {
			t.Errorf("%s: %v, %v; want %s", name, text, err, c.want)
		}
	}
}

func TestModuleFilter(t *testing.T) {
	t.Parallel()
	list := []*Modules{modules(t, "a:1 x-0:1-1.x86_64", "a:2 x-0:2-1.x86_64")}
	f := NewModuleFilter(list, map[string]string{"a": "1"})
	pkg := func(id string, provides ...string) *Package {
		n, err := rpm.ParseNEVRA(id)
		if err != nil {
			t.Fatal(err)
		}
		p := &Package{NEVRA: n}
		for _, name := range provides {
			p.Provides = append(p.Provides, rpm.Dep{Name: name})
		}
		return p
	}
	var got []string
	for _, p := range []*Package{pkg("x-1-1.x86_64"), pkg("x-2-1.x86_64"), pkg("x-9-9.x86_64"), pkg("y-1-1.x86_64"), pkg("z-1-1.x86_64", "x")} {
		got = append(got, fmt.Sprintf("%s %t %t", p.NEVRA, f.Reason(Repo{}, p) == "", f.Reason(Repo{ModuleHotfixes: true}, p) == ""))
	}
	want := []string{"x-1-1.x86_64 true true", "x-2-1.x86_64 false true", "x-9-9.x86_64 false true", "y-1-1.x86_64 true true", "z-1-1.x86_64 false true"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestBrokenModules(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"---\ndocument: [", "---\ndocument: modulemd\ndata: 7\n", "---\ndocument: modulemd\ndata: {name: \"a:b\"}\n",
		"---\ndocument: modulemd-defaults\ndata: {}\n", "---\ndocument: modulemd\ndata: {dependencies: [7]}\n"} {
		if m, err := ParseModules([]byte(text)); err == nil {
			t.Errorf("%q gives %v", text, m)
		}
	}
}

func FuzzModules(f *testing.F) {
	f.Add([]byte("---\ndocument: modulemd\nversion: 2\ndata: {name: a, stream: 1, dependencies: [{requires: {b: [c]}}], artifacts: {rpms: [a-0:1-1.noarch]}}\n"))
	f.Add([]byte("---\ndocument: modulemd-defaults\nversion: 1\ndata: {module: a, stream: 1}\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		m, err := ParseModules(b)
		if err != nil {
			return
		}
		if active, err := ActiveModules([]*Modules{m}, ModuleChoice{}); err == nil {
			NewModuleFilter([]*Modules{m}, active).Reason(Repo{}, &Package{})
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

var update = flag.Bool("update", false, "write docs/scriptlets.md")

const scriptletsDoc = "../../../docs/scriptlets.md"

var hollow = []struct{ dir, title string }{
	{"fedora35", "Fedora 35"}, {"rockylinux-9", "Rocky Linux 9"}, {"centos7-plain", "CentOS 7"},
}

func readHeaders(t *testing.T, dir string) []*rpm.Package {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testutil.Corpus(t, "rpmdb-hollow", dir), "*.rpm"))
	testutil.Must(t, err)
	var out []*rpm.Package
	for _, name := range files {
		f, err := os.Open(name)
		testutil.Must(t, err)
		pkg, err := rpm.ReadPackage(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, pkg)
	}
	slices.SortFunc(out, func(a, b *rpm.Package) int { return rpm.CompareNEVRA(a.NEVRA(), b.NEVRA()) })
	if len(out) < 100 {
		t.Fatalf("%d packages in %s", len(out), dir)
	}
	return out
}

// TestScriptletsOfDistributions: every scriptlet and trigger of real package sets
// has a known fate, none is unsupported, Lua runs to its end, and
// docs/scriptlets.md says so.
func TestScriptletsOfDistributions(t *testing.T) {
	t.Parallel()
	doc := &strings.Builder{}
	doc.WriteString(docHead)
	for _, r := range DefaultRules() {
		fmt.Fprintf(doc, "| `%s` | %s | %s | %s | %s |\n", r.Package, orAll(r.Kind), orAll(code(r.Body)), r.Action, r.Reason)
	}
	for _, d := range hollow {
		pkgs := readHeaders(t, d.dir)
		list := Explain(pkgs, importer.Filter{}, DefaultRules())
		want := 0
		for _, p := range pkgs {
			want += len(p.Scriptlets()) + len(p.Triggers())
		}
		if len(list) != want || want == 0 {
			t.Errorf("%s: %d of %d scripts are explained", d.title, len(list), want)
		}
		for _, h := range list {
			if h.Handling == HandledUnsupported || h.Handling == "" {
				t.Errorf("%s: %s %%%s: %s %s", d.title, h.NEVRA, h.Kind, h.Handling, h.Reason)
			}
		}
		describe(doc, d.title, len(pkgs), list, luaOutcomes(t, pkgs))
	}
	if *update {
		testutil.Must(t, os.WriteFile(scriptletsDoc, []byte(doc.String()), 0o644))
		return
	}
	have, err := os.ReadFile(scriptletsDoc)
	testutil.Must(t, err)
	if diff := gocmp.Diff(string(have), doc.String()); diff != "" {
		t.Errorf("docs/scriptlets.md is not what this test says; run it with -update (-file +now):\n%s", diff)
	}
}

const docHead = `# How scriptlets are handled

` + "`compose-server tree`" + ` runs the scriptlets of an installation in a sandbox; docs/guide.md says how to read their output and how to make
exceptions. This page is written by a test from the packages of three distributions' container images, without the tree
that the scripts would need: "run" means that the composer starts them. A script that then fails ends the compose.

| handling | meaning |
| --- | --- |
| run | in the sandbox, with the arguments that rpm gives in a first installation |
| skipped | by one of the rules below |
| never | only updates, removals or verification run it |
| no match | a trigger whose packages or files are not in the tree |

## Built-in rules
The first rule that matches decides; those of ` + "`--script-rules`" + ` come before these.

| package | section | script contains | action | reason |
| --- | --- | --- | --- | --- |
`

func orAll(s string) string { return cmp.Or(s, "any") }

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func describe(w io.Writer, title string, packages int, list []Handled, outcomes map[string]string) {
	fmt.Fprintf(w, "\n## %s\n%d packages with %d scripts.\n\n| section | run | skipped | never | no match |\n| --- | --- | --- | --- | --- |\n", title, packages, len(list))
	count := map[string]map[Handling]int{}
	for _, h := range list {
		if count[h.Kind] == nil {
			count[h.Kind] = map[Handling]int{}
		}
		count[h.Kind][h.Handling]++
	}
	kinds := make([]string, 0, len(count))
	for k := range count {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		c := count[k]
		fmt.Fprintf(w, "| %%%s | %d | %d | %d | %d |\n", k, c[HandledRun], c[HandledSkipped], c[HandledLater], c[HandledNoMatch])
	}
	fmt.Fprint(w, "\n| script | interpreter | handling |\n| --- | --- | --- |\n")
	for _, h := range list {
		how := string(h.Handling)
		if h.Reason != "" {
			how += ": " + h.Reason
		}
		if o, ok := outcomes[h.Package+"."+h.Kind]; ok && h.Handling == HandledRun {
			how += "; in an empty tree: " + o
		}
		if h.Handling != HandledLater {
			fmt.Fprintf(w, "| %s %%%s | %s | %s |\n", h.Package, h.Kind, code(h.Interp), how)
		}
	}
}

// luaOutcomes runs the Lua scripts of packages, each in an empty tree. They must
// end; some fail because the tree lacks what they need.
func luaOutcomes(t *testing.T, pkgs []*rpm.Package) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, st := range Plan(pkgs, importer.Filter{}, DefaultRules()) {
		if st.Skip != nil || len(st.Interp) == 0 || st.Interp[0] != rpm.LuaInterp {
			continue
		}
		body, err := scriptText(&st, nil)
		testutil.Must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		run := &luaRun{ctx: ctx, root: testutil.OpenDir(t, t.TempDir()), out: io.Discard,
			luaJob:  luaJob{Name: st.Name(), Body: body, Args: st.Args, Stdin: st.Stdin},
			program: func([]string) (Output, error) { return Output{}, &Error{Command: "program", Code: 127} }}
		err = run.exec()
		if ctx.Err() != nil {
			t.Errorf("%s did not end", st.Name())
		}
		cancel()
		out[st.Name()] = "ok"
		if err != nil {
			line, _, _ := strings.Cut(err.Error(), "\n")
			out[st.Name()] = line
		}
	}
	return out
}

func TestExplain(t *testing.T) {
	t.Parallel()
	// See TestScriptletsOfDistributions for real packages; this one is for what those lack.
	for _, tc := range []struct {
		name string
		step Step
		want string
	}{
		{"query format", Step{Flags: rpm.ScriptQFormat, Interp: []string{"/bin/sh"}}, "query format"},
		{"macro", Step{Flags: rpm.ScriptExpand, Body: "echo %{nobody_knows}"}, "macros"},
		{"new Lua", Step{Interp: []string{rpm.LuaInterp}, Body: "local x <const> = 1 // 2"}, "compile Lua"},
		{"plain", Step{Interp: []string{"/bin/sh"}, Body: "echo %{not_expanded}"}, ""},
	} {
		err := checkScript(&tc.step)
		if tc.want == "" && err == nil {
			continue
		}
		if err == nil || tc.want == "" || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
}

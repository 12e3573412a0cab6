// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Handling is what becomes of a script of a package.
type Handling string

// The ways in which scripts are handled.
const (
	HandledRun         Handling = "run"         // in the sandbox
	HandledTolerated   Handling = "tolerated"   // run; a failure is a warning
	HandledSkipped     Handling = "skipped"     // by a rule
	HandledLater       Handling = "never"       // for updates and removals only
	HandledNoMatch     Handling = "no match"    // a trigger whose packages or files are not in the tree
	HandledUnsupported Handling = "unsupported" // ends a compose
)

// Handled is one script and what becomes of it.
type Handled struct {
	Package  string
	NEVRA    string
	Kind     string // section in a spec file, without "%"
	Interp   string // interpreter, or the program where there is no script
	Body     string
	Handling Handling
	Reason   string // of everything but HandledRun
	Runs     int    // how often it runs: a trigger may do so several times
}

// Explain tells for every script of the packages what Install does with it, in
// the order of packages, of kinds and of triggers. It runs nothing.
func Explain(pkgs []*rpm.Package, filter importer.Filter, rules []Rule) []Handled {
	steps := map[origin][]*Step{}
	list := Plan(pkgs, filter, rules)
	for i := range list {
		steps[list[i].from] = append(steps[list[i].from], &list[i])
	}
	var out []Handled
	for i, pkg := range pkgs {
		nevra := pkg.NEVRA()
		base := Handled{Package: nevra.Name, NEVRA: nevra.String()}
		for _, s := range pkg.Scriptlets() {
			h := base
			h.Kind, h.Interp, h.Body = s.Kind.String(), strings.Join(s.Interp, " "), s.Body
			h.explain(steps[origin{i, -1, s.Kind}], whyNot(s))
			out = append(out, h)
		}
		for n, t := range pkg.Triggers() {
			h := base
			h.Kind, h.Interp, h.Body = t.Kind.String(), strings.Join(t.Interp, " "), t.Body
			h.explain(steps[origin{owner: i, trigger: n}], whyNoTrigger(t))
			out = append(out, h)
		}
	}
	return out
}

// explain decides by the steps that came from a script.
func (h *Handled) explain(steps []*Step, none Handled) {
	if len(steps) == 0 {
		h.Handling, h.Reason = none.Handling, none.Reason
		return
	}
	st := steps[0]
	if st.Skip != nil {
		h.Handling, h.Reason = HandledSkipped, st.Skip.Reason
		return
	}
	h.Runs = len(steps)
	if err := checkScript(st); err != nil {
		h.Handling, h.Reason = HandledUnsupported, err.Error()
		return
	}
	h.Handling = HandledRun
	if st.Tolerate != nil {
		h.Handling, h.Reason = HandledTolerated, st.Tolerate.Reason
	}
}

// checkScript finds what can be known to fail before it runs.
func checkScript(st *Step) error {
	body, err := scriptText(st, nil)
	if err != nil || len(st.Interp) == 0 || st.Interp[0] != rpm.LuaInterp {
		return err
	}
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	_, err = compileLua(l, st.Name(), body)
	return err
}

func whyNot(s rpm.Scriptlet) Handled {
	switch s.Kind {
	case rpm.ScriptPreTrans:
		return Handled{Handling: HandledLater, Reason: "it runs before there is a tree, and only Lua could"}
	case rpm.ScriptVerify:
		return Handled{Handling: HandledLater, Reason: "rpm -V runs it"}
	}
	return Handled{Handling: HandledLater, Reason: "a tree removes and updates no package"}
}

func whyNoTrigger(t rpm.Trigger) Handled {
	switch t.Kind {
	case rpm.TriggerIn, rpm.TriggerPreIn:
		return Handled{Handling: HandledNoMatch, Reason: "no package before or after it is one of its targets"}
	case rpm.FileTriggerIn, rpm.TransFileTriggerIn:
		return Handled{Handling: HandledNoMatch, Reason: "no file of the tree has its prefixes"}
	}
	return Handled{Handling: HandledLater, Reason: "a tree removes and updates no package"}
}

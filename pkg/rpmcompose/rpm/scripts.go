// SPDX-License-Identifier: Apache-2.0

package rpm

import "fmt"

// ScriptKind says when a scriptlet runs.
type ScriptKind uint8

// Kinds of scriptlets.
const (
	ScriptPre ScriptKind = iota + 1
	ScriptPost
	ScriptPreUn
	ScriptPostUn
	ScriptPreTrans
	ScriptPostTrans
	ScriptVerify
	ScriptPreUnTrans
	ScriptPostUnTrans
)

// ScriptFlags change how a script's text is treated before it runs.
type ScriptFlags uint32

// Flags of scripts.
const (
	ScriptExpand   ScriptFlags = 1 << 0 // macros are expanded
	ScriptQFormat  ScriptFlags = 1 << 1 // header query format is expanded
	ScriptCritical ScriptFlags = 1 << 2 // a failure fails the package
)

// Scriptlet is a script that runs when its own package is installed or removed.
type Scriptlet struct {
	Kind ScriptKind
	// Interp is the interpreter with its arguments: ["/bin/sh"], or ["<lua>"] for the built-in one. A
	// script without text consists of the interpreter alone (as with "%post -p /sbin/ldconfig").
	Interp []string
	Body   string
	Flags  ScriptFlags
}

// LuaInterp is the name of the interpreter that is built into rpm.
const LuaInterp = "<lua>"

// IsLua says whether the script is for rpm's built-in interpreter.
func (s Scriptlet) IsLua() bool { return len(s.Interp) > 0 && s.Interp[0] == LuaInterp }

type scriptTags struct {
	kind              ScriptKind
	name              string
	body, prog, flags Tag
}

var scriptTable = [...]scriptTags{
	{ScriptPre, "pre", TagPreIn, TagPreInProg, TagPreInFlags},
	{ScriptPost, "post", TagPostIn, TagPostInProg, TagPostInFlags},
	{ScriptPreUn, "preun", TagPreUn, TagPreUnProg, TagPreUnFlags},
	{ScriptPostUn, "postun", TagPostUn, TagPostUnProg, TagPostUnFlags},
	{ScriptPreTrans, "pretrans", TagPreTrans, TagPreTransProg, TagPreTransFlags},
	{ScriptPostTrans, "posttrans", TagPostTrans, TagPostTransProg, TagPostTransFlags},
	{ScriptVerify, "verify", TagVerifyScript, TagVerifyScriptProg, TagVerifyFlags},
	{ScriptPreUnTrans, "preuntrans", TagPreUnTrans, TagPreUnTransProg, TagPreUnTransFlags},
	{ScriptPostUnTrans, "postuntrans", TagPostUnTrans, TagPostUnTransProg, TagPostUnTransFlags},
}

// String gives the name of the section in a spec file, without "%".
func (k ScriptKind) String() string {
	for _, t := range scriptTable {
		if t.kind == k {
			return t.name
		}
	}
	return fmt.Sprintf("script kind %d", uint8(k))
}

// Scriptlets lists the scripts that the package has, by ascending kind.
func (p *Package) Scriptlets() []Scriptlet {
	var out []Scriptlet
	for _, t := range scriptTable {
		if !p.Header.Has(t.body) && !p.Header.Has(t.prog) {
			continue
		}
		s := Scriptlet{Kind: t.kind, Interp: p.Header.Strings(t.prog), Body: p.Header.String(t.body)}
		if len(s.Interp) == 0 {
			s.Interp = []string{"/bin/sh"}
		}
		flags, _ := p.Header.Uint(t.flags)
		s.Flags = ScriptFlags(flags)
		out = append(out, s)
	}
	return out
}

// TriggerKind says what makes a trigger run.
type TriggerKind uint8

// Kinds of triggers. File triggers run once per package, transaction file triggers once per transaction.
const (
	TriggerPreIn TriggerKind = iota + 1
	TriggerIn
	TriggerUn
	TriggerPostUn
	FileTriggerIn
	FileTriggerUn
	FileTriggerPostUn
	TransFileTriggerIn
	TransFileTriggerUn
	TransFileTriggerPostUn
)

// String gives the name of the section in a spec file, without "%".
func (k TriggerKind) String() string {
	names := [...]string{"", "triggerprein", "triggerin", "triggerun", "triggerpostun", "filetriggerin", "filetriggerun", "filetriggerpostun", "transfiletriggerin", "transfiletriggerun", "transfiletriggerpostun"}
	if int(k) < len(names) && k > 0 {
		return names[k]
	}
	return fmt.Sprintf("trigger kind %d", uint8(k))
}

// DefaultTriggerPriority is the priority of a file trigger that names none; higher runs earlier.
const DefaultTriggerPriority = 1000000

// Trigger is a script that runs when other packages or files come and go.
type Trigger struct {
	Kind   TriggerKind
	Interp []string
	Body   string
	Flags  ScriptFlags
	// Conditions names the packages of a package trigger, or the path prefixes of a file trigger.
	Conditions []Dep
	// Priority orders file triggers: above 1000000 runs before, below it after the scriptlets.
	Priority uint32
	// Index is the position in the header's list of scripts of this family.
	Index int
}

// IsLua says whether the script is for rpm's built-in interpreter.
func (t Trigger) IsLua() bool { return len(t.Interp) > 0 && t.Interp[0] == LuaInterp }

// Prefixes gives the path prefixes of a file trigger.
func (t Trigger) Prefixes() []string {
	out := make([]string, len(t.Conditions))
	for i, c := range t.Conditions {
		out[i] = c.Name
	}
	return out
}

// triggerTags names the tags of one family of triggers.
type triggerTags struct {
	family                     string
	scripts, prog, scriptFlags Tag
	conditions                 depTags
	index, priorities          Tag
	in, un, postUn             TriggerKind
}

var triggerTable = [...]triggerTags{
	{"trigger", TagTriggerScripts, TagTriggerScriptProg, TagTriggerScrFlags,
		depTags{"trigger", TagTriggerName, TagTriggerFlags, TagTriggerVersion}, TagTriggerIndex, 0, TriggerIn, TriggerUn, TriggerPostUn},
	{"file trigger", TagFileTriggerScripts, TagFileTriggerProg, TagFileTriggerScriptFlags,
		depTags{"file trigger", TagFileTriggerName, TagFileTriggerFlags, TagFileTriggerVersion}, TagFileTriggerIndex, TagFileTriggerPriorities,
		FileTriggerIn, FileTriggerUn, FileTriggerPostUn},
	{"transaction file trigger", TagTransFileTriggerScripts, TagTransFileTriggerProg, TagTransFileTriggerScriptFlags,
		depTags{"transaction file trigger", TagTransFileTriggerName, TagTransFileTriggerFlags, TagTransFileTriggerVersion},
		TagTransFileTriggerIndex, TagTransFileTriggerPriorities, TransFileTriggerIn, TransFileTriggerUn, TransFileTriggerPostUn},
}

// Triggers lists package, file and transaction file triggers, each script once per kind with all its
// conditions, in header order.
func (p *Package) Triggers() []Trigger {
	var out []Trigger
	for _, t := range triggerTable {
		out = append(out, p.triggers(t)...)
	}
	return out
}

func (p *Package) triggers(t triggerTags) []Trigger {
	h := p.Header
	scripts, progs, flags := h.Strings(t.scripts), h.Strings(t.prog), h.Uint32s(t.scriptFlags)
	priorities := h.Uint32s(t.priorities)
	indexes := h.Uint32s(t.index)
	var out []Trigger
	for i, cond := range p.deps(t.conditions) {
		script := int(indexes[i])
		kind := t.kind(cond.Flags)
		if n := len(out); n > 0 && out[n-1].Index == script && out[n-1].Kind == kind {
			out[n-1].Conditions = append(out[n-1].Conditions, cond)
			continue
		}
		tr := Trigger{Kind: kind, Body: scripts[script], Index: script, Flags: ScriptFlags(at(flags, script)), Priority: DefaultTriggerPriority, Conditions: []Dep{cond}}
		if prog := at(progs, script); prog != "" {
			tr.Interp = []string{prog}
		} else {
			tr.Interp = []string{"/bin/sh"}
		}
		if script < len(priorities) {
			tr.Priority = priorities[script]
		}
		out = append(out, tr)
	}
	return out
}

func (t triggerTags) kind(f DepFlags) TriggerKind {
	switch {
	case f&DepTriggerPreIn != 0:
		return TriggerPreIn
	case f&DepTriggerIn != 0:
		return t.in
	case f&DepTriggerUn != 0:
		return t.un
	}
	return t.postUn
}

// checkTriggers makes sure that every condition names a script that is there.
func (h *Header) checkTriggers(t triggerTags) error {
	scripts, err := h.stringCount(t.scripts)
	if err != nil {
		return err
	}
	names, err := h.stringCount(t.conditions.name)
	if err != nil {
		return err
	}
	if err := h.checkDeps(t.conditions); err != nil {
		return err
	}
	if _, err := h.numberCount(t.index); err != nil {
		return err
	}
	indexes := h.Uint32s(t.index)
	if len(indexes) != names {
		return fmt.Errorf("read header: %d conditions and %d script indexes of a %s: %w", names, len(indexes), t.family, ErrFormat)
	}
	for _, i := range indexes {
		if int64(i) >= int64(scripts) {
			return fmt.Errorf("read header: %s script %d of %d: %w", t.family, i, scripts, ErrFormat)
		}
	}
	return nil
}

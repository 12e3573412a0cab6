// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"fmt"
	"strings"
)

// DepFlags are the sense bits of a dependency as headers store them.
type DepFlags uint32

// Sense bits of dependencies and triggers.
const (
	DepLess          DepFlags = 1 << 1
	DepGreater       DepFlags = 1 << 2
	DepEqual         DepFlags = 1 << 3
	DepPostTrans     DepFlags = 1 << 5
	DepPreReq        DepFlags = 1 << 6
	DepPreTrans      DepFlags = 1 << 7
	DepInterp        DepFlags = 1 << 8
	DepScriptPre     DepFlags = 1 << 9
	DepScriptPost    DepFlags = 1 << 10
	DepScriptPreUn   DepFlags = 1 << 11
	DepScriptPostUn  DepFlags = 1 << 12
	DepScriptVerify  DepFlags = 1 << 13
	DepFindRequires  DepFlags = 1 << 14
	DepFindProvides  DepFlags = 1 << 15
	DepTriggerIn     DepFlags = 1 << 16
	DepTriggerUn     DepFlags = 1 << 17
	DepTriggerPostUn DepFlags = 1 << 18
	DepMissingOK     DepFlags = 1 << 19
	DepPreUnTrans    DepFlags = 1 << 20
	DepPostUnTrans   DepFlags = 1 << 21
	DepRpmlib        DepFlags = 1 << 24
	DepTriggerPreIn  DepFlags = 1 << 25
	DepKeyring       DepFlags = 1 << 26
	DepConfig        DepFlags = 1 << 28
	DepMeta          DepFlags = 1 << 29

	// DepSenseMask selects the comparison bits.
	DepSenseMask = DepLess | DepGreater | DepEqual
	// DepInstallMask selects what must be there before the package's own files or scripts: a dependency
	// with one of these bits orders the transaction.
	DepInstallMask = DepPreReq | DepScriptPre | DepScriptPost | DepRpmlib | DepKeyring | DepPreTrans | DepPostTrans | DepInterp
)

// Dep is one dependency of any kind: requirement, provide, conflict, obsolete, weak dependency or trigger
// condition. A rich dependency such as "(a if b)" stands unparsed in Name, with Rich set and no version.
type Dep struct {
	Name  string
	Flags DepFlags
	Rich  bool // beside Flags, where it takes no room: there are millions of these
	EVR   EVR
}

// Sense gives the comparison bits only.
func (d Dep) Sense() DepFlags { return d.Flags & DepSenseMask }

// IsRpmlib says whether d asks for a feature of the rpm program itself.
func (d Dep) IsRpmlib() bool { return d.Flags&DepRpmlib != 0 || strings.HasPrefix(d.Name, "rpmlib(") }

// String gives "NAME", "NAME OP EVR" or the rich dependency.
func (d Dep) String() string {
	op := d.Sense().String()
	if d.Rich || op == "" || d.EVR.IsZero() {
		return d.Name
	}
	return d.Name + " " + op + " " + d.EVR.String()
}

// String gives the comparison operator: "<", "<=", "=", ">=", ">" or "".
func (f DepFlags) String() string {
	var b strings.Builder
	if f&DepLess != 0 {
		b.WriteByte('<')
	}
	if f&DepGreater != 0 {
		b.WriteByte('>')
	}
	if f&DepEqual != 0 {
		b.WriteByte('=')
	}
	return b.String()
}

// Matches says whether the ranges of a provide (p) and a requirement (d) of the same name overlap, by
// rpm's rules: an unversioned side matches everything; releases are compared only if both have one, and
// with equal versions a side without a release matches at once if it allows equality.
func (d Dep) Matches(p Dep) bool {
	if d.Name != p.Name {
		return false
	}
	if d.Sense() == 0 || p.Sense() == 0 || d.EVR.Version == "" && !d.EVR.HasEpoch || p.EVR.Version == "" && !p.EVR.HasEpoch {
		return true
	}
	c := Compare(EVR{Epoch: p.EVR.Epoch, Version: p.EVR.Version}, EVR{Epoch: d.EVR.Epoch, Version: d.EVR.Version})
	if c == 0 {
		pr, dr := p.EVR.Release != "", d.EVR.Release != ""
		if pr && !dr && d.Flags&DepEqual != 0 || dr && !pr && p.Flags&DepEqual != 0 {
			return true
		}
		if pr && dr {
			c = VerCompare(p.EVR.Release, d.EVR.Release)
		}
	}
	switch {
	case c < 0:
		return p.Flags&DepGreater != 0 || d.Flags&DepLess != 0
	case c > 0:
		return p.Flags&DepLess != 0 || d.Flags&DepGreater != 0
	}
	return p.Flags&d.Flags&DepSenseMask != 0
}

func newDep(name string, flags uint32, version string) Dep {
	d := Dep{Name: name, Flags: DepFlags(flags)}
	if strings.HasPrefix(name, "(") {
		d.Rich = true
		return d
	}
	if version == "" {
		return d
	}
	evr, err := ParseEVR(version)
	if err != nil {
		// Only an epoch beyond 32 bits gets here. Kept whole, the text matches nothing but itself.
		evr = EVR{Version: version}
	}
	d.EVR = evr
	return d
}

// depTags names the three parallel lists of one kind of dependency.
type depTags struct {
	kind                 string
	name, flags, version Tag
}

var (
	requireTags    = depTags{"requirement", TagRequireName, TagRequireFlags, TagRequireVersion}
	provideTags    = depTags{"provide", TagProvideName, TagProvideFlags, TagProvideVersion}
	conflictTags   = depTags{"conflict", TagConflictName, TagConflictFlags, TagConflictVersion}
	obsoleteTags   = depTags{"obsolete", TagObsoleteName, TagObsoleteFlags, TagObsoleteVersion}
	recommendTags  = depTags{"recommendation", TagRecommendName, TagRecommendFlags, TagRecommendVersion}
	suggestTags    = depTags{"suggestion", TagSuggestName, TagSuggestFlags, TagSuggestVersion}
	supplementTags = depTags{"supplement", TagSupplementName, TagSupplementFlags, TagSupplementVersion}
	enhanceTags    = depTags{"enhancement", TagEnhanceName, TagEnhanceFlags, TagEnhanceVersion}
	orderTags      = depTags{"ordering hint", TagOrderName, TagOrderFlags, TagOrderVersion}
)

// Requires lists what the package needs, features of rpm itself included.
func (p *Package) Requires() []Dep { return p.deps(requireTags) }

// Provides lists what the package offers beside its files.
func (p *Package) Provides() []Dep { return p.deps(provideTags) }

// Conflicts lists what must not be installed together with the package.
func (p *Package) Conflicts() []Dep { return p.deps(conflictTags) }

// Obsoletes lists the packages that this one replaces.
func (p *Package) Obsoletes() []Dep { return p.deps(obsoleteTags) }

// Recommends lists strong weak dependencies.
func (p *Package) Recommends() []Dep { return p.deps(recommendTags) }

// Suggests lists weak dependencies that are not installed by default.
func (p *Package) Suggests() []Dep { return p.deps(suggestTags) }

// Supplements lists the packages whose installation recommends this one.
func (p *Package) Supplements() []Dep { return p.deps(supplementTags) }

// Enhances lists the packages whose installation suggests this one.
func (p *Package) Enhances() []Dep { return p.deps(enhanceTags) }

// OrderHints lists packages that come before this one if both are installed.
func (p *Package) OrderHints() []Dep { return p.deps(orderTags) }

func (p *Package) deps(t depTags) []Dep {
	names := p.Header.Strings(t.name)
	if len(names) == 0 {
		return nil
	}
	flags, versions := p.Header.Uint32s(t.flags), p.Header.Strings(t.version)
	out := make([]Dep, len(names))
	for i, name := range names {
		var f uint32
		var v string
		if flags != nil {
			f = flags[i]
		}
		if versions != nil {
			v = versions[i]
		}
		out[i] = newDep(name, f, v)
	}
	return out
}

// checkDeps makes sure that the three lists agree, so that accessors need no error. Packages of format 3
// may have names only.
func (h *Header) checkDeps(t depTags) error {
	names, err := h.stringCount(t.name)
	if err != nil {
		return err
	}
	versions, err := h.stringCount(t.version)
	if err != nil {
		return err
	}
	flags, err := h.numberCount(t.flags)
	if err != nil {
		return err
	}
	if versions > 0 && versions != names || flags > 0 && flags != names {
		return fmt.Errorf("read header: %d names, %d versions and %d flags of one kind (%s): %w", names, versions, flags, t.kind, ErrFormat)
	}
	return nil
}

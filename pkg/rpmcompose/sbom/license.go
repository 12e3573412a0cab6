// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"strings"
)

// maxExpression bounds the text of a licence expression, in bytes, and
// maxLicenseDepth the parentheses in it.
const (
	maxExpression   = 16 << 10
	maxLicenseDepth = 64
)

// licenseNames maps identifiers in small letters to their proper form.
type licenseNames struct{ licenses, exceptions map[string]string }

func newLicenseNames() licenseNames {
	index := func(list string) map[string]string {
		out := map[string]string{}
		for id := range strings.FieldsSeq(list) {
			out[strings.ToLower(id)] = id
		}
		return out
	}
	return licenseNames{index(licenseIDs), index(exceptionIDs)}
}

// expression is a licence expression that follows the SPDX grammar and names known
// licences only.
type expression struct {
	text string   // with identifiers in their proper form
	refs []string // LicenseRef-… in it, which a document must define
	// single: text is the identifier of one licence of the list.
	single bool
}

// parse reads the License tag of a package; ok is false where that is no SPDX
// expression. Operators may stand in small letters, as packagers write them.
// Source: SPDX 2.3, annex D.
func (n licenseNames) parse(text string) (e expression, ok bool) {
	if len(text) > maxExpression {
		return e, false
	}
	p := licenseParser{names: n, tokens: licenseTokens(text)}
	if !p.compound(0) || len(p.tokens) > 0 {
		return e, false
	}
	e = expression{text: strings.Join(p.out, " "), refs: p.refs}
	e.text = strings.NewReplacer("( ", "(", " )", ")").Replace(e.text)
	e.single = len(p.out) == 1 && len(p.refs) == 0 && !strings.HasSuffix(e.text, "+")
	return e, true
}

func licenseTokens(text string) []string {
	return strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text))
}

type licenseParser struct {
	names  licenseNames
	tokens []string
	out    []string
	refs   []string
}

// next takes a token if it is one of words, in any case.
func (p *licenseParser) next(words ...string) bool {
	for _, w := range words {
		if len(p.tokens) > 0 && strings.EqualFold(p.tokens[0], w) {
			p.out = append(p.out, w)
			p.tokens = p.tokens[1:]
			return true
		}
	}
	return false
}

func (p *licenseParser) compound(depth int) bool {
	for {
		if !p.term(depth) {
			return false
		}
		if !p.next("AND", "OR") {
			return true
		}
	}
}

func (p *licenseParser) term(depth int) bool {
	if depth > maxLicenseDepth {
		return false
	}
	if p.next("(") {
		return p.compound(depth+1) && p.next(")")
	}
	if !p.license() {
		return false
	}
	if !p.next("WITH") {
		return true
	}
	if len(p.tokens) == 0 {
		return false
	}
	id, ok := p.names.exceptions[strings.ToLower(p.tokens[0])]
	p.take(id)
	return ok
}

func (p *licenseParser) license() bool {
	if len(p.tokens) == 0 {
		return false
	}
	t := p.tokens[0]
	if strings.HasPrefix(t, "LicenseRef-") && len(t) > len("LicenseRef-") && idString(t) == t {
		p.refs = append(p.refs, t)
		p.take(t)
		return true
	}
	// Some identifiers end in a plus themselves: GPL-2.0+.
	if id, ok := p.names.licenses[strings.ToLower(t)]; ok {
		p.take(id)
		return true
	}
	base, later := strings.CutSuffix(t, "+")
	id, ok := p.names.licenses[strings.ToLower(base)]
	p.take(id + "+")
	return ok && later
}

func (p *licenseParser) take(s string) {
	p.out = append(p.out, s)
	p.tokens = p.tokens[1:]
}

// idString replaces what an SPDX identifier may not have by dashes.
func idString(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, s)
}

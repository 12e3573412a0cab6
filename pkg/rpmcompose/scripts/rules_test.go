// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRules(t *testing.T) {
	t.Parallel()
	got, err := ParseRules("r.toml", []byte("[[rule]]\npackage = 'a*'\nkind = 'filetriggerin'\nbody = 'x'\naction = 'skip'\nreason = 'because'\n"))
	want := []Rule{{Package: "a*", Kind: "filetriggerin", Body: "x", Action: Skip, Reason: "because"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := ParseRules("r.toml", nil); err != nil || len(got) != 0 {
		t.Errorf("empty: %v, %v", got, err)
	}
	for text, want := range map[string]string{
		"[[rule]]\npackage = 'a'\nreason = 'r'\n":                                      "rule 1: action is missing",
		"[[rule]]\naction = 'run'\nreason = 'r'\n":                                     "package and reason",
		"[[rule]]\npackage = 'a'\naction = 'run'\n":                                    "package and reason",
		"[[rule]]\npackage = '['\naction = 'run'\nreason = 'r'\n":                      "syntax error in pattern",
		"[[rule]]\npackage = 'a'\naction = 'never'\nreason = 'r'\n":                    `action "never" is none of`,
		"[[rule]]\npackage = 'a'\naction = 'run'\nreason = 'r'\nkind = '%post'\n":      `kind "%post" is none of`,
		"[[rule]]\npackage = 'a'\naction = 'run'\nreason = 'r'\nscript = 'x'\n":        "unknown key rule.script",
		"[[rules]]\npackage = 'a'\n":                                                   "unknown key",
		"rule = 1":                                                                     "r.toml",
		"[[rule]]\npackage = 'a'\naction = 'run'\nreason = 'r'\nkind = 'verifyscript'": "none of",
	} {
		if _, err := ParseRules("r.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "r.toml") {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add([]byte("[[rule]]\npackage = 'a*'\nkind = 'post'\naction = 'skip'\nreason = 'because'\n"))
	f.Add([]byte("[[rule]]\npackage = '['"))
	f.Add([]byte("rule = [{package = 'x', action = 'run', reason = 'y', body = \"\\u0000\"}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, err := ParseRules("r", data)
		if err != nil {
			return
		}
		for _, r := range rules {
			r.matches(&Step{Package: "a", Kind: "post", Body: "x"})
			if r.Package == "" || r.Reason == "" {
				t.Errorf("rule %+v", r)
			}
		}
	})
}

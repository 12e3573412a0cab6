// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// String gives the word that a file of rules has for an action.
func (a Action) String() string {
	return [...]string{Skip: "skip", Tolerate: "tolerate", Run: "run"}[a]
}

// UnmarshalText reads such a word.
func (a *Action) UnmarshalText(text []byte) error {
	for _, v := range []Action{Skip, Tolerate, Run} {
		if v.String() == string(text) {
			*a = v
			return nil
		}
	}
	return fmt.Errorf("action %q is none of skip, tolerate and run", text)
}

// maxRules bounds a file of rules.
const maxRules = 10000

// ParseRules reads rules in TOML: tables called rule with the keys package (the
// wildcards of path.Match), kind (a section such as "post"), body (text that the
// script contains), action ("skip", "tolerate" or "run") and reason. package,
// action and reason must be there. Errors name the file and the rule.
func ParseRules(name string, data []byte) ([]Rule, error) {
	var file struct {
		Rule []struct {
			Package, Kind, Body, Reason string
			Action                      *Action
		}
	}
	md, err := toml.Decode(string(data), &file)
	if err != nil {
		return nil, fmt.Errorf("read rules %s: %w", name, err)
	}
	if extra := md.Undecoded(); len(extra) > 0 {
		return nil, fmt.Errorf("read rules %s: unknown key %s; known are rule.package, kind, body, action and reason", name, extra[0])
	}
	if len(file.Rule) > maxRules {
		return nil, fmt.Errorf("read rules %s: more than %d rules", name, maxRules)
	}
	out := make([]Rule, len(file.Rule))
	for i, r := range file.Rule {
		err := checkRule(r.Package, r.Kind, r.Reason)
		if err == nil && r.Action == nil {
			err = errors.New("action is missing")
		}
		if err != nil {
			return nil, fmt.Errorf("read rules %s: rule %d: %w", name, i+1, err)
		}
		out[i] = Rule{Package: r.Package, Kind: r.Kind, Body: r.Body, Action: *r.Action, Reason: r.Reason}
	}
	return out, nil
}

func checkRule(pkg, kind, reason string) error {
	if pkg == "" || reason == "" {
		return errors.New("package and reason must be given")
	}
	if _, err := path.Match(pkg, ""); err != nil {
		return fmt.Errorf("package %q: %w", pkg, err)
	}
	if kind == "" {
		return nil
	}
	known := []string{rpm.TriggerIn.String(), rpm.TriggerPreIn.String(), rpm.FileTriggerIn.String(), rpm.TransFileTriggerIn.String(),
		rpm.ScriptPreTrans.String(), rpm.ScriptPre.String(), rpm.ScriptPost.String(), rpm.ScriptPostTrans.String()}
	for _, k := range known {
		if k == kind {
			return nil
		}
	}
	return fmt.Errorf("kind %q is none of %s", kind, strings.Join(known, ", "))
}

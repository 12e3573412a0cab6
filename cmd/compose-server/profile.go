// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// stepJSON is one step of a compose in --write-composejson-to. Part: it is
// contained in the next step that is none.
type stepJSON struct {
	Name    string  `json:"name"`
	Part    bool    `json:"part,omitempty"`
	Detail  string  `json:"detail,omitempty"`
	Seconds float64 `json:"seconds"`
}

func stepsJSON(steps []rpmcompose.Step) []stepJSON {
	out := make([]stepJSON, len(steps))
	for i, s := range steps {
		name := strings.TrimLeft(s.Name, " ")
		out[i] = stepJSON{Name: name, Part: name != s.Name, Detail: s.Detail, Seconds: s.Took.Seconds()}
	}
	return out
}

// scriptletJSON is one scriptlet; its output is in the folder of the logs.
type scriptletJSON struct {
	Name    string  `json:"name"`
	Package string  `json:"package"`
	Seconds float64 `json:"seconds"`
	Skipped string  `json:"skipped,omitempty"` // the reason
	Failed  string  `json:"failed,omitempty"`  // tolerated
}

func scriptletsJSON(list []scripts.Done) []scriptletJSON {
	out := make([]scriptletJSON, len(list))
	for i, d := range list {
		out[i] = scriptletJSON{Name: d.Name, Package: d.Package, Seconds: d.Duration.Seconds(), Skipped: d.Skipped, Failed: d.Failed}
	}
	return out
}

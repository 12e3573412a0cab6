// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"testing"
)

// TestPlanTries: a counter belongs to its menu and to the deployment that is on trial.
func TestPlanTries(t *testing.T) {
	t.Parallel()
	a, b := Deployment{Stateroot: "a"}, Deployment{Stateroot: "b"}
	begun := &Trial{Deployment: a.FullName(), Tries: 3}
	count := func(left int) *Trial { return &Trial{Deployment: a.FullName(), Counting: true, Left: left} }
	unknown := errors.New("which boot loader?")
	for name, c := range map[string]struct {
		st    State
		order []Deployment
		tries int
		fresh bool
		err   error
	}{
		"nothing is counted":           {State{begun: begun}, []Deployment{a, b}, 0, false, nil},
		"not known":                    {State{countsErr: unknown, begun: begun}, []Deployment{a, b}, 0, false, unknown},
		"no trial":                     {State{counts: true}, []Deployment{a, b}, 0, false, nil},
		"begins":                       {State{counts: true, begun: begun}, []Deployment{a, b}, 3, true, nil},
		"of another":                   {State{counts: true, begun: begun}, []Deployment{b, a}, 0, false, nil},
		"nothing could follow":         {State{counts: true, begun: begun}, []Deployment{a}, 0, false, nil},
		"goes on":                      {State{counts: true, begun: begun, Trial: count(2)}, []Deployment{a, b}, 2, true, nil},
		"the last try is under way":    {State{counts: true, begun: begun, Trial: count(0)}, []Deployment{a, b}, 1, true, nil},
		"another takes its place":      {State{counts: true, begun: begun, Trial: count(2)}, []Deployment{b, a}, 0, true, nil},
		"counted, with nothing behind": {State{counts: true, Trial: count(2)}, []Deployment{a}, 0, true, nil},
	} {
		tries, fresh, err := planTries(c.st, c.order)
		if tries != c.tries || fresh != c.fresh || !errors.Is(err, c.err) {
			t.Errorf("%s: %d, %t, %v", name, tries, fresh, err)
		}
	}
}

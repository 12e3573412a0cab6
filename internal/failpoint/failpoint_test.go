// SPDX-License-Identifier: Apache-2.0

package failpoint

import (
	"errors"
	"testing"
)

func TestRules(t *testing.T) {
	t.Parallel()
	tab := parse("a.b=error; c.*=skip:2:error;d=bogus")
	if err := tab.hit("a.b"); !errors.Is(err, ErrInjected) {
		t.Errorf("a.b: %v", err)
	}
	if err := tab.hit("a.bc"); err != nil {
		t.Errorf("a.bc must not match a.b: %v", err)
	}
	for i, want := range []bool{false, false, true} {
		if got := tab.hit("c.x") != nil; got != want {
			t.Errorf("c.x call %d: injected=%v, want %v", i, got, want)
		}
	}
	if err := tab.hit("d"); err == nil || errors.Is(err, ErrInjected) {
		t.Errorf("unknown action: %v", err)
	}
}

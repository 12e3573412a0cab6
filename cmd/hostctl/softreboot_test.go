// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
)

// What cannot work is refused before anything is read.
func TestSoftRebootUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"soft-reboot", "--sysroot=/nowhere"}, {"soft-reboot", "x"}, {"soft-reboot", "--reset", "1"},
		{"soft-reboot", "--prepare", "--reset"}, {"soft-reboot", "1", "2"},
		{"upgrade", "--soft-reboot=perhaps"}, {"upgrade", "--soft-reboot=auto", "--check"},
		{"upgrade", "--soft-reboot=auto", "--sysroot=/nowhere"}, {"rollback", "--soft-reboot=perhaps"},
	} {
		var out, errw bytes.Buffer
		if code := run(t.Context(), args, &out, &errw); code != 2 || errw.Len() == 0 {
			t.Errorf("%q: status %d: %s%s", args, code, &out, &errw)
		}
	}
	// As with other verbs a number is for the list of deployments to refuse.
	if i, err := softIndex([]string{"-1"}); i != -1 || err != nil {
		t.Errorf("index -1: %d, %v", i, err)
	}
	var out, errw bytes.Buffer
	if code := run(t.Context(), []string{"soft-reboot", "--help"}, &out, &errw); code != 0 || !strings.Contains(out.String(), "Examples:") {
		t.Errorf("help: status %d: %s%s", code, &out, &errw)
	}
}

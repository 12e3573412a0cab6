// SPDX-License-Identifier: Apache-2.0

package osrelease

import "testing"

func TestValue(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"PRETTY_NAME=\"A \\\"B\\\" \\$C\"\n": `A "B" $C`,
		"PRETTY_NAME='A B'\n":                "A B",
		"PRETTY_NAME=Plain":                  "Plain",
		"X_PRETTY_NAME=no\n":                 "",
		"PRETTY_NAME=a\nPRETTY_NAME=b\n":     "b",
		"PRETTY_NAME=\"":                     `"`,
	} {
		if got := Value(in, "PRETTY_NAME"); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package upgrade

import "testing"

func TestRetarget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ current, spec, want string }{
		{"r:os/a", "r2:os/b", "r2:os/b"},
		{"r:os/a", "os/b", "r:os/b"},
		{"r:os/a", "r2:", "r2:os/a"},
		{"r:os/a", ":os/b", "os/b"},
		{"os/a", "os/b", "os/b"},
		{"", "r:os/b", "r:os/b"},
		{"", "r:", ""},
		{"r:os/a", ":", "os/a"},
		{"r:os/a", "r:../x", ""},
		{"r:os/a", "a b", ""},
	} {
		got, err := retarget(c.current, c.spec)
		if got = ok(got, err); got != c.want {
			t.Errorf("%q, %q: %q (%v), not %q", c.current, c.spec, got, err, c.want)
		}
	}
}

func ok(s string, err error) string {
	if err != nil {
		return ""
	}
	return s
}

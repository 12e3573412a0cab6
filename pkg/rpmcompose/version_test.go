// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"errors"
	"testing"
	"time"
)

func TestNextVersion(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 2, 9, 23, 5, 0, 0, time.UTC)
	for _, tt := range []struct{ prefix, suffix, previous, want string }{
		{"1", "", "", "1"},
		{"1", "", "1", "1.1"},
		{"1", "", "1.1", "1.2"},
		{"1", "", "1.9", "1.10"},
		{"1", "", "10", "1"},
		{"2", "", "1.7", "2"},
		{"1", "-", "1-3", "1-4"},
		{"39.<date:%Y%m%d>", "", "39.20240208.4", "39.20240209"},
		{"39.<date:%Y%m%d>", "", "39.20240209.4", "39.20240209.5"},
		{"1", "", "1.beta", "1"},
	} {
		got, err := nextVersion(tt.prefix, tt.suffix, tt.previous, now)
		if err != nil || got != tt.want {
			t.Errorf("nextVersion(%q, %q, %q) = %q, %v; want %q", tt.prefix, tt.suffix, tt.previous, got, err, tt.want)
		}
	}
	for _, bad := range []string{"<date:%Q>", "<date:%Y", "<date:%>"} {
		if _, err := nextVersion(bad, "", "", now); !errors.Is(err, ErrTreefile) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

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
		{"10.1", "", "10.1.5", "10.1.6"},
		{"10", "", "10.1.5", "10.2"},
		{"10.1", "", "10.", "10.1"},
		{"10.1", "", "10.1x", "10.1"},
		{"10.1", "", "10.1.x", "10.1.1"},
		{"10.1", "", "10.1.2x", "10.1.3"},
		{"10", "-", "10", "10-1"},
		{"39.<date:%Y%m%d>", "", "", "39.20240209.0"},
		{"39.<date:%Y%m%d>", "", "39.20240208.4", "39.20240209.0"},
		{"39.<date:%Y%m%d>", "", "39.20240209", "39.20240209.0"},
		{"39.<date:%Y%m%d>", "", "39.20240209.4", "39.20240209.5"},
		{"39.<date:%Y%m%d>.dev", "", "39.20240209.dev.0", "39.20240209.dev.1"},
		{"22.<date:%Y>.1", "", "", "22.2024.1.0"},
		{"10.<date:text %Y here>", "", "10", "10.text 2024 here.0"},
		{"10.<wrongtag: >", "", "", "10.<wrongtag: >"},
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

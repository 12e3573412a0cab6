// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// TestNetworkKeys reads the keys of a remote, and lets the request override them.
func TestNetworkKeys(t *testing.T) {
	t.Parallel()
	keys := [...]string{"low-speed-limit-bytes", "low-speed-time-seconds", "network-retries", "max-outstanding-fetcher-requests", "retry-all-network-errors"}
	load := func(values [len(keys)]string) (Network, error) {
		t.Helper()
		r := newRepo(t, ostree.ModeArchive)
		var set [][2]string
		for i, v := range values {
			if v != "" {
				set = append(set, [2]string{keys[i], v})
			}
		}
		testutil.Must(t, AddRemote(r, Remote{Name: "o", URL: "http://localhost/"}, AddOptions{Set: set}))
		loaded, err := LoadRemote(r, "o")
		return loaded.network, err
	}
	for _, tc := range []struct {
		values [len(keys)]string
		want   Network
	}{
		{values: [len(keys)]string{}},
		{[len(keys)]string{"500", "60", "2", "4", "false"}, Network{Outstanding: 4, Retries: 2, FailOnNetworkErrors: true, LowSpeedBytes: 500, LowSpeedTime: time.Minute}},
		{[len(keys)]string{"0", "0", "0", "64", "true"}, Network{Outstanding: 64, Retries: -1, LowSpeedBytes: -1, LowSpeedTime: -time.Second}},
	} {
		got, err := load(tc.values)
		testutil.Must(t, err)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.values, diff)
		}
	}
	for _, bad := range [][len(keys)]string{{"-1"}, {"4294967296"}, {"x"}, {"", "1.5"}, {"", "", "-1"}, {"", "", "", "0"}, {"", "", "", "65"}, {"", "", "", "", "maybe"}} {
		if _, err := load(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	remote := Network{Outstanding: 4, Retries: 2, LowSpeedBytes: -1, LowSpeedTime: time.Minute}
	got := Network{Retries: 1, LowSpeedBytes: 7, UserAgent: "x"}.or(remote)
	want := Network{Outstanding: 4, Retries: 1, LowSpeedBytes: 7, LowSpeedTime: time.Minute, UserAgent: "x"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

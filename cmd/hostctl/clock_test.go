// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

const day = 24 * time.Hour

// releaseAt commits a version of the tree with a time.
func releaseAt(t *testing.T, root, v string, at time.Time) {
	t.Helper()
	testutil.Run(t, "ostree", "commit", "--repo="+root+"/ostree/repo", "-b", "main", "--tree=dir="+filepath.Dir(root)+"/tree",
		"--add-metadata-string=version="+v, fmt.Sprintf("--timestamp=@%d", at.Unix()))
}

// versions lists what is deployed, in boot order, as the menu has it, too.
func versions(t *testing.T, root string) string {
	t.Helper()
	var st stateReport
	testutil.Must(t, json.Unmarshal([]byte(call(t, root, 0, "status", "--json")), &st))
	var out, titles []string
	for _, d := range st.Deployments {
		out = append(out, d.Version)
	}
	for i := range out {
		titles = append(titles, fmt.Sprintf("title T %s (ostree:%d)", out[i], i))
	}
	slices.Reverse(titles) // the default has the highest number
	menu := strings.Split(testutil.Run(t, "sh", "-c", "grep -h ^title "+root+"/boot/loader/entries/*"), "\n")
	if d := cmp.Diff(titles, menu); d != "" {
		t.Error(d)
	}
	return strings.Join(out, " ")
}

// TestWrongClock: a clock in 2099 is a clock that sees commits of long ago, and one in
// 1970 sees them in the future. Neither drops a deployment, changes the order of the
// menu or takes an older commit; both are told.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]time.Time{"ahead": time.Unix(0, 0).Add(day), "behind": time.Now().AddDate(60, 0, 0)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := host(t)
			testutil.Run(t, "ostree", "config", "--repo="+root+"/ostree/repo", "--group=hostctl", "set", "keep-days", "30")
			releaseAt(t, root, "2", begin)
			if name == "ahead" {
				if code, line := process(t, root, "$hostctl --sysroot=$root upgrade"); code != 1 || !strings.Contains(line, "chronologically older") {
					t.Errorf("%d %s", code, line)
				}
			}
			call(t, root, 0, "upgrade", "--allow-downgrade")
			releaseAt(t, root, "3", begin.Add(day))
			_, line := process(t, root, "$hostctl --sysroot=$root upgrade 2>&1 >/dev/null")
			if !strings.Contains(line, "warning: the new commit is of ") || !strings.Contains(line, "one of the two clocks is wrong") {
				t.Error(line)
			}
			for i, want := range []string{"4 3 2", "5 4 3 2"} {
				releaseAt(t, root, fmt.Sprint(4+i), begin.Add(time.Duration(2+i)*day))
				call(t, root, 0, "upgrade", "--keep=4")
				if got := versions(t, root); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
			call(t, root, 0, "cleanup", "--keep=4", "--keep-days=30")
			if got := versions(t, root); got != "5 4 3 2" {
				t.Error(got)
			}
			releaseAt(t, root, "6", begin.Add(40*day))
			want := "6 5"
			if name == "behind" {
				want = "6 5 4 3" // nothing is old
			}
			call(t, root, 0, "upgrade", "--keep=4")
			if got := versions(t, root); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

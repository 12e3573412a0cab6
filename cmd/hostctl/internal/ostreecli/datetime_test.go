// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestParseDate compares with date -d, whose parser libostree has too.
func TestParseDate(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("date"); err != nil {
		t.Skip("no date program")
	}
	for _, zone := range []string{"UTC", "Europe/Berlin"} {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Skipf("no zone data: %v", err)
		}
		for _, s := range []string{
			"@1234567890", "@0", "2005-10-29 12:43:29 +0000", "2005-10-29T12:43:29Z", "2005-10-29 12:43", "2005-10-29", "20051029",
			"2005-10-29 12:43:29.75 -0530", "2005-10-29 12:43:29-05:00", "2005-10-29 12:43:29 UTC", "10/29/2005", "October 25 1985", "Oct 25, 1985 3pm",
			"29 Oct 2005 12:43:29 +0000", "Sat, 29 Oct 2005 12:43:29 +0200", "Sun Nov 22 04:12:53 UTC 2026", "November 05 1955", "12 am 2001-02-03",
			"1 week ago", "3 days ago", "yesterday", "tomorrow", "last week", "next month", "2 hours ago", "-7 days", "+3 hours", "today", "now",
			"2001-01-31 1 month", "last year", "fortnight ago", "monday", "next friday", "last sunday", "2005-10-29 12:43:29 2 days ago", "1 month ago 5pm",
			"yesterday 10:00", "12:30", "nonsense", "13 month", "2005-13-01", "2005-02-30", "25:00", "2005-10-29 2005-10-30", "5 5 5", "1 week ago UTC",
		} {
			cmd := exec.Command("date", "-d", s, "+%s")
			cmd.Env = append(os.Environ(), "TZ="+zone, "LC_ALL=C")
			out, dateErr := cmd.Output()
			got, err := parseDate(s, time.Now().In(loc))
			if (err == nil) != (dateErr == nil) {
				t.Errorf("%s: parseDate(%q) = %v, %v; date says %v", zone, s, got, err, dateErr)
				continue
			}
			if err != nil {
				continue
			}
			want, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if diff := got.Unix() - want; diff < -5 || diff > 5 {
				t.Errorf("%s: parseDate(%q) = %v, want %v", zone, s, got, time.Unix(want, 0).In(loc))
			}
		}
	}
}

func FuzzParseDate(f *testing.F) {
	f.Add("2005-10-29 12:43:29.75 -0530")
	f.Add("1 week ago")
	f.Add("Sun Nov 22 04:12:53 UTC 2026")
	f.Fuzz(func(t *testing.T, s string) {
		now := time.Unix(1e9, 0).UTC()
		a, err := parseDate(s, now)
		if b, err2 := parseDate(s, now); err == nil && (err2 != nil || !a.Equal(b)) {
			t.Fatalf("%q gives %v, then %v", s, a, b)
		}
	})
}

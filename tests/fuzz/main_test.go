// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseList(t *testing.T) {
	t.Parallel()
	out := "FuzzA\nFuzzB\nok  \texample.com/x\t0.1s\n?   \texample.com/none\t[no test files]\nFuzzC\nok  \texample.com/y\t0.2s\n"
	want := []target{{pkg: "example.com/x", name: "FuzzA"}, {pkg: "example.com/x", name: "FuzzB"}, {pkg: "example.com/y", name: "FuzzC"}}
	if diff := cmp.Diff(want, parseList(out), cmp.AllowUnexported(target{}, stats{})); diff != "" {
		t.Error(diff)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	var s stats
	for _, line := range []string{
		"fuzz: elapsed: 0s, gathering baseline coverage: 0/192 completed",
		"fuzz: elapsed: 3s, execs: 325017 (108336/sec), new interesting: 11 (total: 202)",
		"PASS",
	} {
		s.read(line)
	}
	if want := (stats{325017, 11, 202}); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}

// SPDX-License-Identifier: Apache-2.0

package selinux

import (
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

func BenchmarkParse(b *testing.B) {
	f := readFiles(b, systemPolicies(b)[0])
	for b.Loop() {
		_, err := Parse(f)
		testutil.Must(b, err)
	}
}

// BenchmarkLookup labels paths of this machine, compiling what they need anew.
func BenchmarkLookup(b *testing.B) {
	f := readFiles(b, systemPolicies(b)[0])
	paths := machinePaths(b, 50000)
	for b.Loop() {
		b.StopTimer()
		c, err := Parse(f)
		testutil.Must(b, err)
		b.StartTimer()
		for _, p := range paths {
			c.Lookup(p, 0o100644)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(paths)), "ns/path")
}

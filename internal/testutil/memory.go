// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"flag"
	"runtime/metrics"
	"testing"
)

// maxFuzzed is how much one input of a fuzz target may make the code allocate.
const maxFuzzed = 64 << 20

// Bounded is the first line of a fuzz target that parses: "defer testutil.Bounded(t)()"
// fails inputs that make it allocate more than 64 MiB, all in all. It measures while
// fuzzing only, where nothing else runs in the process.
func Bounded(t testing.TB) func() {
	t.Helper()
	for _, name := range []string{"test.fuzz", "test.fuzzworker"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" && f.Value.String() != "false" {
			return bounded(t, maxFuzzed)
		}
	}
	return func() {}
}

func bounded(t testing.TB, limit uint64) func() {
	t.Helper()
	before := allocated()
	return func() {
		t.Helper()
		if n := allocated() - before; n > limit {
			t.Fatalf("allocated %d bytes for one input", n)
		}
	}
}

// allocated counts the bytes of the heap that were ever asked for.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// SPDX-License-Identifier: Apache-2.0

package testutil

import (
	"syscall"
	"testing"
	"time"
)

// CPUTime is the user and system time that the process has used, which other
// programs on the machine do not distort.
func CPUTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	Must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

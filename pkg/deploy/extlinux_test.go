// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"os"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
)

// TestTrialExtlinux: a boot loader that can try once is asked for one try, and asked
// again where a crash behind the flip kept it from hearing of that.
func TestTrialExtlinux(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{Bootloader: bootloader.Syslinux})
	b.o.DisableFsync = true
	// What `extlinux --clear-once` leaves at the end of its file, twice.
	sector := append([]byte("\xa5\x2f\x2d\x5a\x67\x17\x04\xa3"), make([]byte, 500)...)
	sector = append(sector, "\x64\xbf\x28\xdd"...)
	file := b.path("boot/syslinux/ldlinux.sys")
	testutil.Must(t, os.MkdirAll(b.path("boot/syslinux"), 0o755))
	testutil.Must(t, os.WriteFile(file, append(sector, sector...), 0o644))
	testutil.Must(t, os.WriteFile(b.path("boot/syslinux/syslinux.cfg"), []byte("UI menu.c32\nTIMEOUT 10\nINCLUDE /loader/syslinux.cfg\n"), 0o644))
	one := b.deploy(numbered(b, 1), Retention{})
	b.boot(one)
	b.locked(func(l *Locked) {
		_, err := l.MarkGood(t.Context())
		testutil.Must(t, err)
	})

	two := b.try(2, 5)
	want := &Trial{Deployment: two.FullName(), Tries: 1, Counting: true, Left: 1}
	b.expectTrial(want)
	armed, err := os.ReadFile(file)
	testutil.Must(t, err)
	if !bytes.Contains(armed, []byte("ostree:trial-1")) {
		t.Fatal("the boot loader was not asked to try")
	}
	testutil.Must(t, os.WriteFile(file, append(sector, sector...), 0o644))
	b.expectTrial(want)
	b.boot(one)
	b.locked(func(l *Locked) {
		if p, err := l.SettleBoot(t.Context()); err != nil || p.Verdict != BootOrdinary {
			t.Fatal(p, err)
		}
	})
	if again, err := os.ReadFile(file); err != nil || !bytes.Equal(again, armed) {
		t.Errorf("the trial did not begin at the next boot: %v", err)
	}
	b.expectTrial(want)
	b.boot(two)
	b.locked(func(l *Locked) {
		_, err := l.MarkGood(t.Context())
		testutil.Must(t, err)
	})
	b.expectTrial(nil)
	if left, err := os.ReadFile(file); err != nil || bytes.Contains(left, []byte("ostree:trial-")) {
		t.Errorf("the boot loader would still try: %v", err)
	}
}

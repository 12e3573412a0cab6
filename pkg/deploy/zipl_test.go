// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader"
)

// TestZiplFails: while zipl fails, what the machine still boots stays, and the next
// command that can makes up for it.
func TestZiplFails(t *testing.T) {
	t.Parallel()
	b := newBox(t, InitOptions{Bootloader: bootloader.Zipl})
	bootmap := b.path("boot/bootmap")
	good := []string{"sh", "-ec", "cat " + b.path("boot/loader/entries/*") + " > " + bootmap}
	b.o.Zipl = good
	b.deploy(b.commit("m", "1", release("1", "1")), Retention{})
	first := b.load().Deployments[0]
	kernel := b.path("boot", first.bootDir())
	b.o.Zipl = []string{"sh", "-c", "echo I/O error; exit 1"}
	c2 := b.commit("m", "2", release("2", "2"))
	b.locked(func(l *Locked) {
		_, err := deployAndWrite(t.Context(), l, c2, Retention{})
		if err == nil || !strings.Contains(err.Error(), "I/O error") {
			t.Error(err)
		}
		if _, err := l.Cleanup(t.Context()); err == nil || !strings.Contains(err.Error(), "finish last boot switch for zipl") {
			t.Error(err)
		}
		if _, err := l.Write(t.Context(), b.load().Deployments[:1]); err == nil {
			t.Error("a further switch passed")
		}
	})
	if _, err := os.Stat(kernel); err != nil || strings.Contains(b.read("boot/bootmap"), "version 2") {
		t.Error(err)
	}
	b.o.Zipl = []string{"/nonexistent/zipl"}
	p, err := b.sysroot().Preview(t.Context(), Request{Stateroot: "testos", Commit: c2})
	testutil.Must(t, err)
	b.locked(func(l *Locked) {
		if err := l.Preflight(t.Context(), p, false); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "zipl") {
			t.Error(err)
		}
	})
	b.o.Zipl = good
	b.locked(func(l *Locked) {
		testutil.Must(t, l.Settle(t.Context()))
		_, err := l.Write(t.Context(), b.load().Deployments[:1])
		testutil.Must(t, err)
		_, err = l.Cleanup(t.Context())
		testutil.Must(t, err)
	})
	if _, err := os.Stat(kernel); !errors.Is(err, os.ErrNotExist) || !strings.Contains(b.read("boot/bootmap"), "TestOS 2") {
		t.Error(err, b.read("boot/bootmap"))
	}
	if out := b.mustOstree("admin", "status", "--sysroot="+b.path()); !strings.Contains(out, "Version: 2") {
		t.Error(out)
	}
}

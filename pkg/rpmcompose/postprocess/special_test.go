// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

func TestSpecialFiles(t *testing.T) {
	t.Parallel()
	testutil.Root(t, "devices are made")
	dir := t.TempDir()
	testutil.Must(t, os.Mkdir(filepath.Join(dir, "usr"), 0o755))
	node := func(name string, mode uint32, dev int) {
		testutil.Must(t, syscall.Mknod(filepath.Join(dir, name), mode|0o644, dev))
	}
	node("usr/null", syscall.S_IFCHR, 1<<8|3)
	node("usr/pipe", syscall.S_IFIFO, 0)
	node("usr/gone", syscall.S_IFCHR, 0)
	r := &runner{root: testutil.OpenDir(t, dir), log: slog.New(slog.DiscardHandler), res: &Result{}}
	r.o.RefuseDevices = true
	if err := r.dropSpecial(); err == nil || !strings.Contains(err.Error(), "/usr/null: is a device") {
		t.Errorf("ignore-devices = false: %v", err)
	}
	r.o.RefuseDevices = false
	testutil.Must(t, r.dropSpecial())
	if diff := cmp.Diff([]string{"usr/null", "usr/pipe"}, r.res.Dropped); diff != "" {
		t.Errorf("dropped (-want +got):\n%s", diff)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "usr"))
	if err != nil || len(entries) != 1 || entries[0].Name() != ".ostree-wh.gone" || !entries[0].Type().IsRegular() {
		t.Errorf("left: %v (%v)", entries, err)
	}
}

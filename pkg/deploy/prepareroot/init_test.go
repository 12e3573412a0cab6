// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

func TestCheckInit(t *testing.T) {
	t.Parallel()
	if trialMark != bls.TrialMark {
		t.Fatalf("%q and %q", trialMark, bls.TrialMark)
	}
	root := t.TempDir()
	const trial = "root=x hostctl.trial panic=10"
	check := func(cmdline string, want error) {
		t.Helper()
		if err := checkInit(cmdline, root); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", cmdline, err, want)
		}
	}
	check("root=x", nil)
	check(trial, ErrBadDeployment)
	check(trial+" init=/bin/sh", nil)
	testutil.Must(t, os.MkdirAll(filepath.Join(root, "usr/lib/systemd"), 0o755))
	testutil.Must(t, os.MkdirAll(filepath.Join(root, "usr/sbin"), 0o755))
	testutil.Must(t, os.Symlink("usr/sbin", filepath.Join(root, "sbin")))
	testutil.Must(t, os.Symlink("/usr/lib/init", filepath.Join(root, "usr/sbin/init")))
	check(trial, ErrBadDeployment) // a link to nothing
	testutil.Must(t, os.WriteFile(filepath.Join(root, "usr/lib/init"), nil, 0o755))
	check(trial, ErrBadDeployment) // empty
	testutil.Must(t, os.WriteFile(filepath.Join(root, "usr/lib/init"), []byte("x"), 0o644))
	testutil.Must(t, os.Chmod(filepath.Join(root, "usr/lib/init"), 0o644))
	check(trial, ErrBadDeployment) // no program
	testutil.Must(t, os.Chmod(filepath.Join(root, "usr/lib/init"), 0o755))
	check(trial, nil)
}

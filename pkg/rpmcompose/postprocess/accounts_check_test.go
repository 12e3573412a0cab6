// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

func TestCheckAccounts(t *testing.T) {
	t.Parallel()
	testutil.Root(t, "files get owners")
	dir := t.TempDir()
	testutil.Must(t, os.MkdirAll(filepath.Join(dir, "usr/lib/x"), 0o755))
	testutil.Must(t, os.Chown(filepath.Join(dir, "usr/lib/x"), 81, 81))
	root := testutil.OpenDir(t, dir)
	const now = "root:x:0:0:root:/root:/bin/sh\nbin:x:1:1::/:/bin\n"
	data := func(entries map[string]treefile.IDs) treefile.Check {
		return treefile.Check{Type: treefile.CheckData, Entries: entries}
	}
	users := AccountCheck{Key: "check-passwd", Where: "t.toml:3", Users: true, Now: now}
	for name, c := range map[string]struct {
		check  treefile.Check
		want   string
		ignore []string
		groups bool
		errs   []string
	}{
		"none":               {treefile.Check{Type: treefile.CheckNone}, "dbus:x:81:81::/:/x\n", nil, false, nil},
		"equal":              {treefile.Check{Type: treefile.CheckFile}, now, nil, false, nil},
		"changed":            {treefile.Check{Type: treefile.CheckFile}, "bin:x:1:2::/:/bin\n", nil, false, []string{"user bin has uid 1, gid 1 instead of uid 1, gid 2 (t.toml:3: check-passwd)"}},
		"changed since last": {treefile.Check{Type: treefile.CheckPrevious}, "bin:x:2:2::/:/bin\n", nil, false, nil},
		"gone, unused":       {treefile.Check{Type: treefile.CheckFile}, "daemon:x:2:2::/:/x\n", nil, false, nil},
		"gone, used":         {treefile.Check{Type: treefile.CheckPrevious}, "dbus:x:81:81::/:/x\n", []string{"bin"}, false, []string{"user dbus (uid 81, gid 81) is gone, but /usr/lib/x belongs to it"}},
		"gone, ignored":      {treefile.Check{Type: treefile.CheckPrevious}, "dbus:x:81:81::/:/x\n", []string{"dbus"}, false, nil},
		"gone, all ignored":  {treefile.Check{Type: treefile.CheckPrevious}, "dbus:x:81:81::/:/x\n", []string{"*"}, false, nil},
		"data":               {data(map[string]treefile.IDs{"bin": {UID: 5, GID: 1}, "dbus": {UID: 81, GID: 81}}), "", nil, false, []string{"user bin has uid 1", "user dbus"}},
		"group":              {data(map[string]treefile.IDs{"bin": {UID: 7, GID: 7}}), "", nil, true, []string{"group bin has gid 1 instead of gid 7"}},
	} {
		k := users
		k.Check, k.Want, k.Ignore = c.check, c.want, c.ignore
		if c.groups {
			k.Users, k.Now = false, "root:x:0:\nbin:x:1:root\n"
		}
		err := CheckAccounts(root, []AccountCheck{k})
		if len(c.errs) == 0 != (err == nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, part := range c.errs {
			if !errors.Is(err, assemble.ErrDrift) || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, want %q", name, err, part)
			}
		}
	}
}

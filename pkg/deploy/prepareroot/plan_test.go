// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

func usual() State {
	return State{
		Deployment: Deployment{OS: "os", Checksum: csum, Serial: 3},
		Dirs:       map[string]bool{"usr": true, "etc": true, "var": true, "sysroot": true, "boot": true},
		Dev:        7, Ino: 9,
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	yes := true
	dep := "/sysroot/ostree/deploy/os/deploy/" + csum + ".3"
	tests := []struct {
		name string
		edit func(*State)
		want []string
	}{
		{"plain", func(*State) {}, []string{
			"make-private /", "mkdir /sysroot.tmp", "bind " + dep + " /sysroot.tmp",
			"bind /sysroot.tmp/usr /sysroot.tmp/usr", "remount-bind ro /sysroot.tmp/usr",
			"bind " + dep + "/etc /sysroot.tmp/etc",
			"bind /sysroot/ostree/deploy/os/var /sysroot.tmp/var",
			"bind /sysroot /sysroot.tmp/sysroot",
			"mkdir /run/ostree", "write /run/ostree-booted",
			"detach /sysroot", "move /sysroot.tmp /sysroot",
		}},
		{"read-only sysroot on a read-only mounted root", func(s *State) {
			s.Config.ReadOnlySysroot = &yes
			s.RootReadOnly, s.TmpInSysroot = true, true
		}, []string{
			"make-private /", "remount rw /sysroot", "mkdir /sysroot.tmp", "bind " + dep + " /sysroot.tmp",
			"bind /sysroot.tmp/usr /sysroot.tmp/usr", "remount-bind ro /sysroot.tmp/usr",
			"bind " + dep + "/etc /sysroot.tmp/etc",
			"bind /sysroot/ostree/deploy/os/var /sysroot.tmp/var",
			"bind /sysroot /sysroot.tmp/sysroot",
			"remount-bind ro /sysroot.tmp/sysroot", "bind /sysroot/tmp /sysroot.tmp/sysroot/tmp",
			"remount-bind ro /sysroot.tmp",
			"mkdir /run/ostree", "write /run/ostree-booted",
			"detach /sysroot", "move /sysroot.tmp /sysroot",
		}},
		{"own /var, unlocked /usr", func(s *State) {
			s.OwnVar, s.HotfixUsr = true, true
		}, []string{
			"make-private /", "mkdir /sysroot.tmp", "bind " + dep + " /sysroot.tmp",
			"mount overlay /sysroot.tmp/usr lowerdir=" + dep + "/usr,upperdir=" + dep + "/.usr-ovl-upper,workdir=" +
				dep + "/.usr-ovl-work",
			"bind " + dep + "/etc /sysroot.tmp/etc",
			"bind /sysroot /sysroot.tmp/sysroot",
			"mkdir /run/ostree", "write /run/ostree-booted",
			"detach /sysroot", "move /sysroot.tmp /sysroot",
		}},
		{"transient root and etc, /boot on the root", func(s *State) {
			s.Config = Config{ReadOnlySysroot: &yes, TransientRoot: true, TransientEtc: true}
			s.BootOnRoot = true
		}, []string{
			"make-private /", "mkdir /sysroot.tmp", "mkdir /run/ostree", "mkdir private /run/ostree/.private",
			"mkdir /run/ostree/.private/root/upper", "mkdir /run/ostree/.private/root/work",
			"mount overlay /sysroot.tmp lowerdir=" + dep +
				",upperdir=/run/ostree/.private/root/upper,workdir=/run/ostree/.private/root/work",
			"mkdir /run/ostree/transient-etc/upper", "mkdir /run/ostree/transient-etc/work",
			"mount overlay /sysroot.tmp/etc lowerdir=/sysroot.tmp/usr/etc," +
				"upperdir=/run/ostree/transient-etc/upper,workdir=/run/ostree/transient-etc/work",
			"bind /sysroot/ostree/deploy/os/var /sysroot.tmp/var",
			"bind /sysroot /sysroot.tmp/sysroot", "remount-bind ro /sysroot.tmp/sysroot",
			"bind /sysroot/boot /sysroot.tmp/boot",
			"mkdir /run/ostree", "write /run/ostree-booted",
			"detach /sysroot", "move /sysroot.tmp /sysroot",
		}},
		{"composefs, signed: no unlocked /usr", func(s *State) {
			s.Config.Composefs = Composefs{Use: Yes, Verity: true, Signed: true}
			s.Composefs, s.Digest, s.HotfixUsr, s.RootBlock = true, bcsum, true, "8:1"
		}, []string{
			"make-private /", "mkdir /sysroot.tmp", "mkdir /run/ostree", "mkdir private /run/ostree/.private",
			"mkdir /run/ostree/.private/cfsroot-lower",
			"composefs " + dep + "/.ostree.cfs /sysroot.tmp digest=" + bcsum + " verity",
			"bind " + dep + "/etc /sysroot.tmp/etc",
			"bind /sysroot/ostree/deploy/os/var /sysroot.tmp/var",
			"bind /sysroot /sysroot.tmp/sysroot", "remount-bind ro /sysroot.tmp/sysroot",
			"mkdir /run/ostree", "write /run/ostree-booted",
			"mkdir /run/systemd", "link /run/systemd/volatile-root -> /dev/block/8:1",
			"detach /sysroot", "move /sysroot.tmp /sysroot",
		}},
		{"composefs, unlocked, read-only overlay in memory", func(s *State) {
			s.Config.Composefs.Use = Maybe
			s.Config.TransientRootReadOnly = true
			s.Composefs, s.HotfixUsr = true, true
		}, []string{
			"make-private /", "mkdir /sysroot.tmp", "mkdir /run/ostree", "mkdir private /run/ostree/.private",
			"mkdir /run/ostree/.private/cfsroot-lower",
			"mkdir /run/ostree/.private/root/upper", "mkdir /run/ostree/.private/root/work",
			"composefs " + dep + "/.ostree.cfs /sysroot.tmp upper=/run/ostree/.private/root/upper",
			"remount-bind ro /sysroot.tmp",
			"mount overlay /sysroot.tmp/usr lowerdir=/sysroot.tmp/usr,upperdir=" + dep + "/.usr-ovl-upper,workdir=" +
				dep + "/.usr-ovl-work",
			"bind " + dep + "/etc /sysroot.tmp/etc",
			"bind /sysroot/ostree/deploy/os/var /sysroot.tmp/var",
			"bind /sysroot /sysroot.tmp/sysroot",
			"mkdir /run/ostree", "write /run/ostree-booted",
			"detach /sysroot", "move /sysroot.tmp /sysroot",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := usual()
			tt.edit(&s)
			ops, err := Plan(s)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, op := range ops {
				text, _, _ := strings.Cut(op.String(), " (")
				got = append(got, text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlanRefusesIncompleteDeployment(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"usr", "etc", "var", "sysroot"} {
		s := usual()
		delete(s.Dirs, dir)
		if ops, err := Plan(s); !errors.Is(err, ErrBadDeployment) || len(ops) > 0 {
			t.Errorf("without /%s: %v, %v", dir, ops, err)
		}
	}
}

func TestSysrootReadOnlyDefaultsToRepository(t *testing.T) {
	t.Parallel()
	no := false
	for _, tt := range []struct {
		config *bool
		legacy bool
		want   bool
		use    Use
	}{
		{nil, false, false, No}, {nil, true, true, Maybe}, {&no, true, false, No}, {nil, false, true, Yes}, {&no, false, false, Yes},
		{nil, false, false, Maybe},
	} {
		s := usual()
		s.Config.Composefs.Use = tt.use
		s.Config.ReadOnlySysroot, s.LegacyReadOnly = tt.config, tt.legacy
		if got := bootMark(t, s); got != tt.want {
			t.Errorf("config %v, legacy %v, composefs %v: got %v", tt.config, tt.legacy, tt.use, got)
		}
	}
}

// bootMark reads sysroot-ro out of the planned /run/ostree-booted.
func bootMark(t *testing.T, s State) bool {
	t.Helper()
	ops, err := Plan(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		if op.Kind != OpWrite {
			continue
		}
		d, err := gvariant.ParseDict([]byte(op.Data))
		if err != nil {
			t.Fatal(err)
		}
		id, ok := d.Get("backing-root-device-inode")
		if !ok || id.Type() != "(tt)" {
			t.Fatalf("backing root: %v", id)
		}
		ro, ok := d.Bool("sysroot-ro")
		if !ok {
			t.Fatal("no sysroot-ro")
		}
		return ro
	}
	t.Fatal("no boot mark")
	return false
}

// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/hostctl/hostctl/internal/sys"
)

// Next are the names below /run of what a soft reboot goes to: the new root, as systemd
// wants it, and the boot mark that becomes that of the system with the reboot.
const (
	NextRoot = "nextroot"
	NextMark = "ostree/nextroot-booted"
)

// FromKey is the name in NextMark of device and inode (tt) of the / that was left when
// another is there: a next root may have been unmounted, and systemd restarts in the
// same one then.
const FromKey = "hostctl.from"

// ReadNext reads what PlanNext needs in a running system, whose physical root is at
// in.Places.Root. The configuration of the deployment's own tree counts, not in.Config, and
// of in.Cmdline the argument for composefs. tag must not have been used since the system
// was booted.
func ReadNext(in Inputs, d Deployment, tag string) (State, error) {
	s := State{Places: in.Places.withDefaults(), Deployment: d, Tag: tag, Dirs: map[string]bool{}}
	dir := s.Places.Root + "/" + d.Path()
	vendor, err := readSmall(dir+"/usr/lib/ostree/prepare-root.conf", maxConfig)
	if err != nil {
		return State{}, err
	}
	override, err := readSmall(dir+"/etc/ostree/prepare-root.conf", maxConfig)
	if err != nil {
		return State{}, err
	}
	if s.Config, err = ParseConfig(vendor, override); err != nil {
		return State{}, err
	}
	if err := s.argument(in.Cmdline); err != nil {
		return State{}, err
	}
	return s, s.read()
}

// PlanNext lists the operations that make the root of a deployment at /run/nextroot,
// while another one runs. The running system is not changed, and its mounts do not see
// those made here.
func PlanNext(s State) ([]Op, error) {
	if err := s.complete(); err != nil {
		return nil, err
	}
	b := builder{State: s}
	b.Places = s.Places.withDefaults()
	b.Places.Stage = b.Places.Run + "/" + NextRoot
	b.mkdir(b.Places.Run + "/ostree")
	b.ops = append(b.ops, Op{Kind: OpPrivate, Target: b.secret()})
	// A copy of the mount, as the initramfs has the physical root: writable, and with
	// nobody whom mounts propagate to. The running one stays free to be unmounted.
	root := b.Places.Root
	b.Places.Root = nextSysroot(b.Places)
	b.mkdir(b.Places.Root)
	b.bind(root, b.Places.Root)
	b.mount(Op{Target: b.Places.Root, Flags: sys.MountPrivate})
	b.remountBind(b.Places.Root, false)
	b.tree()
	b.ops = append(b.ops, Op{Kind: OpDetach, Target: b.Places.Root})
	if err := b.booted("/" + NextMark); err != nil {
		return nil, err
	}
	return b.ops, nil
}

func nextSysroot(p Places) string { return p.Run + "/ostree/.private/sysroot" }

// ResetNext takes back what Execute made of a plan of PlanNext, all or a part of it.
func ResetNext(p Places) error {
	p = p.withDefaults()
	err := os.Remove(p.Run + "/" + NextMark)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	for _, at := range []string{p.Run + "/" + NextRoot, nextSysroot(p)} {
		// One may lie over another.
		for {
			uerr := sys.Unmount(at, true)
			if errors.Is(uerr, syscall.EINVAL) || errors.Is(uerr, os.ErrNotExist) {
				break
			}
			if uerr != nil {
				return errors.Join(err, fmt.Errorf("unmount %s: %w", at, uerr))
			}
		}
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"errors"
	"fmt"

	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// ErrBadDeployment reports a deployment that lacks a directory every bootable
// one has.
var ErrBadDeployment = errors.New("not a bootable deployment")

// Places are the paths that the work happens at; the zero value is an
// initramfs.
type Places struct {
	Root  string // mount point of the physical root, "/sysroot" if empty
	Stage string // where the new root is put together, "/sysroot.tmp" if empty
	Run   string // "/run" if empty
}

func (p Places) withDefaults() Places {
	if p.Root == "" {
		p.Root = "/sysroot"
	}
	if p.Stage == "" {
		p.Stage = "/sysroot.tmp"
	}
	if p.Run == "" {
		p.Run = "/run"
	}
	return p
}

// State is all that a plan depends on.
type State struct {
	Places     Places
	Config     Config
	Deployment Deployment
	// RootReadOnly: the initramfs mounted the physical root read-only.
	RootReadOnly bool
	// LegacyReadOnly: the repository's configuration asks for a read-only sysroot.
	LegacyReadOnly bool
	// Dirs are the top-level directories that the deployment has.
	Dirs map[string]bool
	// HotfixUsr: the deployment carries a persistent overlay over /usr.
	HotfixUsr bool
	// OwnVar: the deployment's fstab mounts /var itself.
	OwnVar bool
	// TmpInSysroot: the deployment's /tmp is the link to sysroot/tmp, and the
	// physical root has that directory.
	TmpInSysroot bool
	// Dev and Ino identify the deployment's directory.
	Dev, Ino uint64
}

// OpKind says what an Op does.
type OpKind uint8

// The operations of a plan.
const (
	OpMkdir  OpKind = iota + 1 // make directory Target, mode 0755, if it is missing
	OpMount                    // mount(2) with the fields of the Op
	OpDetach                   // take the mount at Target out of the tree
	OpWrite                    // write Data to the file Target
)

// Op is one step of a plan.
type Op struct {
	Kind           OpKind
	Source, Target string
	FSType         string
	Flags          sys.MountFlags
	Data           string
}

// String describes the operation for logs.
func (o Op) String() string {
	switch o.Kind {
	case OpMkdir:
		return "mkdir " + o.Target
	case OpDetach:
		return "detach " + o.Target
	case OpWrite:
		return fmt.Sprintf("write %s (%d bytes)", o.Target, len(o.Data))
	}
	access := "rw"
	if o.Flags&sys.MountReadOnly != 0 {
		access = "ro"
	}
	switch {
	case o.Flags&sys.MountPrivate != 0:
		return "make-private " + o.Target
	case o.Flags&sys.MountMove != 0:
		return "move " + o.Source + " " + o.Target
	case o.Flags&sys.MountRemount != 0 && o.Flags&sys.MountBind != 0:
		return "remount-bind " + access + " " + o.Target
	case o.Flags&sys.MountRemount != 0:
		return "remount " + access + " " + o.Target
	case o.Flags&sys.MountBind != 0:
		return "bind " + o.Source + " " + o.Target
	}
	return fmt.Sprintf("mount %s %s %s", o.FSType, o.Target, o.Data)
}

// Plan lists the operations that make the root described by s. It reads and
// changes nothing.
func Plan(s State) ([]Op, error) {
	if err := s.Config.check(); err != nil {
		return nil, err
	}
	for _, dir := range []string{"usr", "etc", "var", "sysroot"} {
		if !s.Dirs[dir] {
			return nil, fmt.Errorf("deployment %s: no /%s: %w", s.Deployment.Path(), dir, ErrBadDeployment)
		}
	}
	b := builder{State: s}
	b.Places = s.Places.withDefaults()
	b.private()
	b.root()
	b.usr()
	b.etc()
	b.vars()
	b.sysroot()
	if err := b.booted(); err != nil {
		return nil, err
	}
	b.swap()
	return b.ops, nil
}

type builder struct {
	State
	ops []Op
}

func (b *builder) readOnlySysroot() bool {
	if b.Config.ReadOnlySysroot != nil {
		return *b.Config.ReadOnlySysroot
	}
	return b.LegacyReadOnly
}

func (b *builder) mkdir(path string) { b.ops = append(b.ops, Op{Kind: OpMkdir, Target: path}) }

func (b *builder) mount(op Op) {
	op.Kind = OpMount
	op.Flags |= sys.MountSilent
	b.ops = append(b.ops, op)
}

func (b *builder) bind(from, to string) {
	b.mount(Op{Source: from, Target: to, Flags: sys.MountBind})
}

func (b *builder) remountBind(target string, readOnly bool) {
	flags := sys.MountBind | sys.MountRemount
	if readOnly {
		flags |= sys.MountReadOnly
	}
	b.mount(Op{Target: target, Flags: flags})
}

// private stops the init system's shared propagation: a mount can't be moved
// out of a shared parent, and nothing done here may appear twice.
func (b *builder) private() {
	b.mount(Op{Target: "/", Flags: sys.MountPrivate | sys.MountRecursive})
}

// root puts the deployment on the stage. The filesystem itself must be writable
// for /etc and /var, whatever the initramfs chose; protection comes from the
// read-only flag of each mount instead.
func (b *builder) root() {
	if b.RootReadOnly {
		b.mount(Op{Target: b.Places.Root, Flags: sys.MountRemount})
	}
	b.mkdir(b.Places.Stage)
	deployment := b.Places.Root + "/" + b.Deployment.Path()
	if b.Config.TransientRoot {
		b.overlay(deployment, b.Places.Run+"/ostree/transient-root", b.Places.Stage)
		return
	}
	b.bind(deployment, b.Places.Stage)
}

// overlay stacks a writable layer in memory over lower.
func (b *builder) overlay(lower, store, target string) {
	upper, work := store+"/upper", store+"/work"
	b.mkdir(upper)
	b.mkdir(work)
	b.mount(Op{
		Source: "overlay", Target: target, FSType: "overlay",
		Data: "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work,
	})
}

func (b *builder) usr() {
	usr := b.Places.Stage + "/usr"
	if b.HotfixUsr {
		deployment := b.Places.Root + "/" + b.Deployment.Path()
		b.mount(Op{
			Source: "overlay", Target: usr, FSType: "overlay",
			Data: "lowerdir=" + deployment + "/usr,upperdir=" + deployment + "/.usr-ovl-upper,workdir=" +
				deployment + "/.usr-ovl-work",
		})
		return
	}
	b.bind(usr, usr)
	b.remountBind(usr, true)
}

func (b *builder) etc() {
	etc := b.Places.Stage + "/etc"
	if b.Config.TransientEtc {
		b.overlay(b.Places.Stage+"/usr/etc", b.Places.Run+"/ostree/transient-etc", etc)
		return
	}
	// A mount of its own keeps /etc writable when / becomes read-only.
	if !b.Config.TransientRoot {
		b.bind(etc, etc)
	}
}

func (b *builder) vars() {
	// The init system takes a mounted /var for done and would never reach the
	// fstab entry.
	if b.OwnVar {
		return
	}
	b.bind(b.Places.Root+"/"+b.Deployment.VarPath(), b.Places.Stage+"/var")
}

func (b *builder) sysroot() {
	inner := b.Places.Stage + "/sysroot"
	b.bind(b.Places.Root, inner)
	if !b.readOnlySysroot() {
		return
	}
	b.remountBind(inner, true)
	if b.TmpInSysroot {
		b.bind(b.Places.Root+"/tmp", inner+"/tmp")
	}
	// What lies in / outside of /usr is hard-linked from the repository too:
	// writing to it would damage every deployment that shares the object.
	if !b.Config.TransientRoot {
		b.remountBind(b.Places.Stage, true)
	}
}

// booted marks the running system as an OSTree one, for this and other programs.
func (b *builder) booted() error {
	var d gvariant.Dict
	d.Set("root.transient", gvariant.Bool(b.Config.TransientRoot))
	d.Set("sysroot-ro", gvariant.Bool(b.readOnlySysroot()))
	d.Set("transient-etc", gvariant.Bool(b.Config.TransientEtc))
	d.Set("backing-root-device-inode", gvariant.Tuple(gvariant.Uint64(b.Dev), gvariant.Uint64(b.Ino)))
	data, err := d.Marshal()
	if err != nil {
		return fmt.Errorf("encode boot mark: %w", err)
	}
	b.mkdir(b.Places.Run + "/ostree")
	b.ops = append(b.ops, Op{Kind: OpWrite, Target: b.Places.Run + "/ostree-booted", Data: string(data)})
	return nil
}

func (b *builder) swap() {
	b.ops = append(b.ops, Op{Kind: OpDetach, Target: b.Places.Root})
	b.mount(Op{Source: b.Places.Stage, Target: b.Places.Root, Flags: sys.MountMove})
}

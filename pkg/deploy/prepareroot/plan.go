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
	// Composefs: the root is the image of the deployment. Digest is what its fs-verity
	// digest has to be; "" means that nobody vouches for it.
	Composefs bool
	Digest    string
	// BootOnRoot: /boot is a directory of the physical root, and the deployment has
	// an empty one for it.
	BootOnRoot bool
	// RootBlock is "major:minor" of the disk below the physical root, "" if it has none
	// of its own.
	RootBlock string
	// HotfixUsr: the deployment carries a persistent overlay over /usr.
	HotfixUsr bool
	// OwnVar: the deployment's fstab mounts /var itself.
	OwnVar bool
	// TmpInSysroot: the deployment's /tmp is the link to sysroot/tmp, and the
	// physical root has that directory.
	TmpInSysroot bool
	// Dev and Ino identify the deployment's directory.
	Dev, Ino uint64
	// FromDev and FromIno identify the / that a soft reboot leaves.
	FromDev, FromIno uint64
	// Tag makes what is kept in Run distinct where roots are made one after the other.
	Tag string
}

// OpKind says what an Op does.
type OpKind uint8

// The operations of a plan.
const (
	OpMkdir   OpKind = iota + 1 // make directory Target, mode 0755, if it is missing
	OpPrivate                   // the same with mode 0700
	OpMount                     // mount(2) with the fields of the Op
	OpImage                     // mount the composefs image Source on Target, with Image
	OpDetach                    // take the mount at Target out of the tree
	OpWrite                     // write Data to the file Target
	OpLink                      // make Target a symbolic link to Source, unless it exists
)

// Op is one step of a plan.
type Op struct {
	Kind           OpKind
	Source, Target string
	FSType         string
	Flags          sys.MountFlags
	Data           string
	Image          Image
}

// String describes the operation for logs.
func (o Op) String() string {
	switch o.Kind {
	case OpMkdir:
		return "mkdir " + o.Target
	case OpPrivate:
		return "mkdir private " + o.Target
	case OpLink:
		return "link " + o.Target + " -> " + o.Source
	case OpImage:
		return "composefs " + o.Source + " " + o.Target + o.Image.words()
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
	if err := s.complete(); err != nil {
		return nil, err
	}
	b := builder{State: s}
	b.Places = s.Places.withDefaults()
	b.private()
	// The filesystem itself must be writable for /etc and /var, whatever the initramfs
	// chose; protection comes from the read-only flag of each mount instead.
	if b.RootReadOnly {
		b.mount(Op{Target: b.Places.Root, Flags: sys.MountRemount})
	}
	b.tree()
	if err := b.booted("/ostree-booted"); err != nil {
		return nil, err
	}
	b.volatileRoot()
	b.swap()
	return b.ops, nil
}

// complete tells whether the deployment has all that a root needs.
func (s State) complete() error {
	for _, dir := range []string{"usr", "etc", "var", "sysroot"} {
		if !s.Dirs[dir] {
			return fmt.Errorf("deployment %s: no /%s: %w", s.Deployment.Path(), dir, ErrBadDeployment)
		}
	}
	return nil
}

type builder struct {
	State
	ops []Op
}

// tree puts the new root together on the stage.
func (b *builder) tree() {
	b.root()
	b.usr()
	b.etc()
	b.vars()
	b.sysroot()
	b.boot()
}

// readOnlySysroot: with composefs, it takes a word to have it writable.
func (b *builder) readOnlySysroot() bool {
	if b.Config.ReadOnlySysroot != nil {
		return *b.Config.ReadOnlySysroot
	}
	return b.LegacyReadOnly || b.Config.Composefs.Use == Yes
}

func (b *builder) deployment() string { return b.Places.Root + "/" + b.Deployment.Path() }

// secret is where only root looks.
func (b *builder) secret() string { return b.Places.Run + "/ostree/.private" }

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

// root puts the deployment on the stage.
func (b *builder) root() {
	b.mkdir(b.Places.Stage)
	store := ""
	if b.Config.transientRoot() || b.Composefs {
		b.mkdir(b.Places.Run + "/ostree")
		b.ops = append(b.ops, Op{Kind: OpPrivate, Target: b.secret()})
	}
	if b.Config.transientRoot() {
		store = b.secret() + "/root" + b.Tag
	}
	switch {
	case b.Composefs:
		b.image(store)
	case store != "":
		b.overlay(b.deployment(), store, b.Places.Stage)
	default:
		b.bind(b.deployment(), b.Places.Stage)
	}
	// The flag of the mount only: a privileged service may have a mount namespace where
	// it is off.
	if b.Config.TransientRootReadOnly {
		b.remountBind(b.Places.Stage, true)
	}
}

// image makes the root of the deployment's image, whose files are those of the
// repository, and of a writable layer in store if there is one.
func (b *builder) image(store string) {
	i := Image{Lower: b.secret() + "/cfsroot-lower", Objects: b.Places.Root + "/ostree/repo/objects",
		Verity: b.Config.Composefs.Verity, Digest: b.Digest}
	b.mkdir(i.Lower)
	if store != "" {
		i.Upper, i.Work = store+"/upper", store+"/work"
		b.mkdir(i.Upper)
		b.mkdir(i.Work)
	}
	b.ops = append(b.ops, Op{Kind: OpImage, Source: b.deployment() + "/" + ImageName, Target: b.Places.Stage, Image: i})
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
	if b.HotfixUsr && (!b.Composefs || !b.Config.Composefs.Signed) {
		lower := b.deployment() + "/usr"
		if b.Composefs {
			lower = usr
		}
		b.mount(Op{
			Source: "overlay", Target: usr, FSType: "overlay",
			Data: "lowerdir=" + lower + ",upperdir=" + b.deployment() + "/.usr-ovl-upper,workdir=" +
				b.deployment() + "/.usr-ovl-work",
		})
		return
	}
	// The layers below are out of reach.
	if b.Composefs || b.Config.transientRoot() {
		return
	}
	b.bind(usr, usr)
	b.remountBind(usr, true)
}

func (b *builder) etc() {
	etc := b.Places.Stage + "/etc"
	if b.Config.TransientEtc {
		b.overlay(b.Places.Stage+"/usr/etc", b.transientEtc(), etc)
		return
	}
	// A mount of its own keeps /etc writable when / becomes read-only.
	b.bind(b.deployment()+"/etc", etc)
}

func (b *builder) transientEtc() string { return b.Places.Run + "/ostree/transient-etc" + b.Tag }

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
	if !b.Config.transientRoot() && !b.Composefs {
		b.remountBind(b.Places.Stage, true)
	}
}

// boot shows /boot where programs look for it.
func (b *builder) boot() {
	if !b.BootOnRoot {
		return
	}
	b.bind(b.Places.Root+"/boot", b.Places.Stage+"/boot")
}

// volatileRoot tells systemd which disk is below a root that has none, so that it finds
// the other partitions of that disk.
func (b *builder) volatileRoot() {
	if !b.Composefs || b.RootBlock == "" {
		return
	}
	b.mkdir(b.Places.Run + "/systemd")
	b.ops = append(b.ops, Op{Kind: OpLink, Source: "/dev/block/" + b.RootBlock, Target: b.Places.Run + "/systemd/volatile-root"})
}

// booted marks the system as an OSTree one, for this and other programs, with
// libostree's keys.
func (b *builder) booted(name string) error {
	var d gvariant.Dict
	if c := b.Config.Composefs; b.Composefs {
		d.Set("composefs", gvariant.Bool(true))
		d.Set("composefs.verity", gvariant.Bool(c.Verity))
		if c.Signed {
			d.Set("composefs.signed", gvariant.String(c.Keys()))
		}
	}
	d.Set("root.transient", gvariant.Bool(b.Config.transientRoot()))
	d.Set("root.transient-ro", gvariant.Bool(b.Config.TransientRootReadOnly))
	d.Set("sysroot-ro", gvariant.Bool(b.readOnlySysroot()))
	if b.Config.TransientEtc {
		d.Set("transient-etc", gvariant.String(b.transientEtc()))
	}
	d.Set("backing-root-device-inode", gvariant.Tuple(gvariant.Uint64(b.Dev), gvariant.Uint64(b.Ino)))
	if b.FromIno != 0 {
		d.Set(FromKey, gvariant.Tuple(gvariant.Uint64(b.FromDev), gvariant.Uint64(b.FromIno)))
	}
	data, err := d.Marshal()
	if err != nil {
		return fmt.Errorf("encode boot mark: %w", err)
	}
	b.mkdir(b.Places.Run + "/ostree")
	b.ops = append(b.ops, Op{Kind: OpWrite, Target: b.Places.Run + name, Data: string(data)})
	return nil
}

func (b *builder) swap() {
	b.ops = append(b.ops, Op{Kind: OpDetach, Target: b.Places.Root})
	b.mount(Op{Source: b.Places.Stage, Target: b.Places.Root, Flags: sys.MountMove})
}

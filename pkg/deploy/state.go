// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// State is a sysroot as it was on disk at one moment.
type State struct {
	// Deployments are in boot order; a staged one, which is to become the
	// default, comes first.
	Deployments []Deployment `json:"deployments"`
	Stateroots  []string     `json:"stateroots"`
	BootVersion int          `json:"bootVersion"` // V of /boot/loader.V
	Subversion  int          `json:"subversion"`  // S of ostree/boot.V.S
	// FinalizeFailure tells why the last staged deployment did not become the
	// default at shutdown; empty if it did.
	FinalizeFailure string `json:"finalizeFailure,omitempty"`
	// BootProblem tells that a place that the boot loader reads is not mounted in the
	// running system, so that nothing can be deployed.
	BootProblem string `json:"bootProblem,omitempty"`
	// Broken are ostree entries of the boot menu that lead to no deployment.
	Broken []BrokenEntry `json:"broken,omitempty"`
	// Trial is set while the default deployment has not proved good, and Blocked
	// lists the commits that did not.
	Trial   *Trial    `json:"trial,omitempty"`
	Blocked []Blocked `json:"blocked,omitempty"`

	good      []string // FullName of what booted well, the latest first
	tryLimit  int      // bootloader.TryLimit; 0: not known
	counts    bool     // the boot loader can count boots
	countsErr error    // why that is not known
	begun     *Trial   // of the record of boots, of whichever deployment
	foreign   []bootloader.Entry
	hasLoader bool // /boot/loader exists
}

// BrokenEntry is a boot menu entry that leads nowhere.
type BrokenEntry struct {
	File  string `json:"file"`
	Error string `json:"error"`
}

// Booted returns the deployment that the system runs from.
func (st State) Booted() (Deployment, bool) {
	for _, d := range st.Deployments {
		if d.Booted {
			return d, true
		}
	}
	return Deployment{}, false
}

// Staged returns the staged deployment.
func (st State) Staged() (Deployment, bool) {
	if len(st.Deployments) > 0 && st.Deployments[0].Staged {
		return st.Deployments[0], true
	}
	return Deployment{}, false
}

// Default returns the deployment that boots next if the system does not shut
// down in order: the first of the boot menu.
func (st State) Default() (Deployment, bool) {
	if list := st.Written(); len(list) > 0 {
		return list[0], true
	}
	return Deployment{}, false
}

// Written returns the deployments of the boot menu: all but a staged one.
func (st State) Written() []Deployment {
	if _, ok := st.Staged(); ok {
		return st.Deployments[1:]
	}
	return st.Deployments
}

// Merge returns the deployment whose /etc and kernel arguments a new one of the
// stateroot inherits: a pending one would lose what the administrator changed
// since, so it is the booted one, else the first of the stateroot.
func (st State) Merge(stateroot string) (Deployment, bool) {
	if d, ok := st.Booted(); ok && d.Stateroot == stateroot {
		return d, true
	}
	for _, d := range st.Written() {
		if d.Stateroot == stateroot {
			return d, true
		}
	}
	return Deployment{}, false
}

// Load reads the state from disk.
func (s *Sysroot) Load(ctx context.Context) (State, error) {
	st, err := s.load(ctx)
	if err != nil {
		return State{}, fmt.Errorf("read sysroot %s: %w", s.dir.Path(), err)
	}
	st.BootProblem = s.bootProblem(st)
	return st, nil
}

func (s *Sysroot) load(ctx context.Context) (State, error) {
	if err := ctx.Err(); err != nil {
		return State{}, err
	}
	var st State
	active, err := s.sw.Active(s.boot)
	if err != nil {
		return st, err
	}
	if st.hasLoader = active >= 0; st.hasLoader {
		st.BootVersion = active
	}
	if st.Subversion, err = s.subversion(st.BootVersion); err != nil {
		return st, err
	}
	if err := s.loadMenu(&st); err != nil {
		return st, err
	}
	if err := s.loadStaged(&st); err != nil {
		return st, err
	}
	if st.Stateroots, err = s.stateroots(); err != nil {
		return st, err
	}
	if st.FinalizeFailure, err = s.finalizeFailure(); err != nil {
		return st, err
	}
	for i := range st.Deployments {
		st.Deployments[i].Index = i
	}
	if err := s.loadTrial(ctx, &st); err != nil {
		return st, err
	}
	return st, s.markBooted(&st)
}

// subversion reads S from the link ostree/boot.V -> boot.V.S, 0 where there is none.
func (s *Sysroot) subversion(v int) (int, error) {
	target, err := s.dir.Readlink(fmt.Sprintf("ostree/boot.%d", v))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	switch target {
	case fmt.Sprintf("boot.%d.0", v):
		return 0, nil
	case fmt.Sprintf("boot.%d.1", v):
		return 1, nil
	}
	return 0, fmt.Errorf("link ostree/boot.%d names %q", v, target)
}

func (s *Sysroot) loadMenu(st *State) error {
	if !st.hasLoader {
		return nil
	}
	entries, foreign, bad, err := bootloader.ReadMenu(s.boot, s.sw, st.BootVersion)
	if err != nil {
		return err
	}
	st.foreign = foreign
	for name, err := range bad {
		if strings.HasPrefix(name, "ostree-") {
			st.Broken = append(st.Broken, BrokenEntry{name, err.Error()})
		}
	}
	slices.SortFunc(st.Broken, func(a, b BrokenEntry) int { return strings.Compare(a.File, b.File) })
	for _, e := range entries {
		d, err := s.fromEntry(e)
		if err != nil {
			st.Broken = append(st.Broken, BrokenEntry{e.Name, err.Error()})
			continue
		}
		st.Deployments = append(st.Deployments, d)
	}
	return nil
}

// fromEntry follows a boot entry to its deployment.
func (s *Sysroot) fromEntry(e bootloader.Entry) (Deployment, error) {
	kargs := bls.ParseKargs(e.Options)
	arg, ok := kargs.Value("ostree")
	if !ok {
		return Deployment{}, errors.New("no ostree= argument")
	}
	t, err := parseBootLink(arg)
	if err != nil {
		return Deployment{}, err
	}
	d := Deployment{Stateroot: t.stateroot, BootChecksum: t.bootsum, BootSerial: t.serial,
		Title: e.Title, Kargs: ownKargs(kargs), UKI: path.Ext(e.Linux) == ukiEnding, extra: e.Extra}
	if len(e.Initrd) > 1 {
		for _, line := range e.Initrd[1:] {
			d.overlays = append(d.overlays, overlayName(line))
		}
	}
	target, err := s.dir.Readlink(t.link())
	if err != nil {
		return Deployment{}, err
	}
	if path.Join("ostree", "boot.0", t.stateroot, t.bootsum, target) != path.Join(deployDir(t.stateroot), path.Base(target)) {
		return Deployment{}, fmt.Errorf("link %s leads to %q", t.link(), target)
	}
	if d.Checksum, d.Serial, err = parseName(path.Base(target)); err != nil {
		return Deployment{}, err
	}
	return d, s.fill(&d)
}

// ownKargs drops what Write generates.
func ownKargs(k bls.Kargs) bls.Kargs {
	out := bls.Kargs{}
	for _, a := range k.WithoutTrial().Without("ostree") {
		if !strings.HasPrefix(a, "init=/ostree/boot.") {
			out = append(out, a)
		}
	}
	return out
}

// fill adds what the deployment's directory, origin and commit say.
func (s *Sysroot) fill(d *Deployment) error {
	st, err := s.dir.Lstat(d.Dir())
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is no directory", d.Dir())
	}
	if d.Origin, err = readOrigin(s.dir, *d); err != nil {
		return err
	}
	d.Pinned = d.Origin.Pinned()
	if d.Unlocked, err = s.unlocked(*d); err != nil {
		return err
	}
	c, err := s.repo.LoadCommit(d.Checksum)
	if errors.Is(err, ostree.ErrNotFound) {
		s.log.Warn("commit of a deployment is missing", "commit", d.Checksum)
		return nil // it boots all the same
	}
	if err != nil {
		return err
	}
	d.Version, _ = c.Metadata.Str("version")
	d.Time = time.Unix(int64(c.Timestamp), 0).UTC()
	return nil
}

func (s *Sysroot) stateroots() ([]string, error) {
	list, err := s.dir.ReadDir("ostree/deploy")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range list {
		if e.IsDir() && validStateroot(e.Name) {
			out = append(out, e.Name)
		}
	}
	return out, err
}

// markBooted finds the booted deployment. Device and inode of / decide, because
// the links behind the ostree= argument may have changed since the boot.
func (s *Sysroot) markBooted(st *State) error {
	if s.o.Root == nil {
		return s.markByCmdline(st)
	}
	dev, ino, err := s.rootID()
	if err != nil {
		return err
	}
	for i := range st.Deployments {
		own, err := s.dir.Lstat(st.Deployments[i].Dir())
		if err != nil {
			return err
		}
		if own.Dev == dev && own.Ino == ino {
			st.Deployments[i].Booted = true
		}
	}
	return nil
}

func (s *Sysroot) markByCmdline(st *State) error {
	arg, ok := bls.ParseKargs(s.o.Cmdline).Value("ostree")
	if !ok {
		return nil
	}
	t, err := parseBootLink(arg)
	if err != nil {
		return err
	}
	target, err := s.dir.Readlink(t.link())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for i, d := range st.Deployments {
		if d.Stateroot == t.stateroot && d.Name() == path.Base(target) {
			st.Deployments[i].Booted = true
		}
	}
	return err
}

// rootID identifies the tree that is mounted as /. Where that is an image with
// the deployment behind it, the initramfs has left the deployment's identity in
// /run/ostree-booted.
func (s *Sysroot) rootID() (dev, ino uint64, err error) {
	if dev, ino, ok := s.backingRoot(); ok {
		return dev, ino, nil
	}
	st, err := s.o.Root.Lstat(".")
	return st.Dev, st.Ino, err
}

// markedRoot reads from a boot mark below /run which deployment it is for.
func (s *Sysroot) markedRoot(name string) (dev, ino uint64, ok bool) {
	return s.markedPair(name, "backing-root-device-inode")
}

// markedPair reads device and inode from a boot mark below /run.
func (s *Sysroot) markedPair(name, key string) (dev, ino uint64, ok bool) {
	data, err := s.o.Run.ReadFile(name, 1<<16)
	if err != nil {
		return 0, 0, false
	}
	info, err := gvariant.ParseDict(data)
	if err != nil {
		return 0, 0, false
	}
	v, found := info.Get(key)
	pair := v.Children()
	if !found || v.Type() != "(tt)" || len(pair) != 2 {
		return 0, 0, false
	}
	dev, _ = pair[0].Uint64()
	ino, _ = pair[1].Uint64()
	return dev, ino, true
}

const (
	failureStamp    = "ostree/finalize-failure.stamp"
	maxFailureStamp = 64 << 10
)

func (s *Sysroot) finalizeFailure() (string, error) {
	data, err := s.boot.ReadFile(failureStamp, maxFailureStamp)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fsx.ErrTooLarge) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}

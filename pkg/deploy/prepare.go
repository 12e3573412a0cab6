// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"strings"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/etcmerge"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// Request describes a new deployment.
type Request struct {
	Stateroot string
	Commit    ostree.Checksum // complete in the repository
	Origin    Origin
	// Merge is the deployment whose /etc changes and, unless Kargs is set, kernel
	// arguments are carried over; nil means State.Merge. NoMerge starts afresh.
	Merge   *Deployment
	NoMerge bool
	// Kargs are the kernel arguments; nil means those of Merge. ostree= is added
	// by Write and must not be there.
	Kargs bls.Kargs
	// KargsFrom is the deployment that Kargs come from; nil means Merge. What its
	// tree's usr/lib/bootc/kargs.d adds and that of Commit does not is taken out of
	// Kargs, and the reverse is put in, unless NoImageKargs is set.
	KargsFrom    *Deployment
	NoImageKargs bool
	// Owner, where not nil, replaces the arguments of one owner; those of the others, and
	// what they own, are carried over from where Kargs come from.
	Owner *OwnerKargs
	keys  []bls.Field // of the boot entry, once resolved
	// Overlays are checksums from AddOverlayInitrd, in load order. They are not
	// carried over from Merge.
	Overlays []string
	// Etc says what becomes of conflicts in /etc; staging records it for shutdown.
	Etc etcmerge.Policy
	// FailOnConflict refuses to deploy where a local change of /etc hides a new
	// default (ErrEtcConflict) and Etc does not settle it. Otherwise the report tells. It counts
	// when something is deployed or staged; at shutdown it is too late to refuse.
	FailOnConflict bool
	// Retention says what stays beside the new deployment. Staging records it.
	Retention Retention
}

// EtcReport tells what the merge of /etc did, or would do.
type EtcReport struct {
	Merged  bool              `json:"merged"` // there was a deployment to merge from
	Counts  etcmerge.Counts   `json:"counts"`
	Changes []etcmerge.Change `json:"changes,omitempty"`
	// Clashes are the changes in conflict, settled by the policy or not, with a diff.
	Clashes  []etcmerge.Clash `json:"conflicts,omitempty"`
	Vanished []string         `json:"vanished,omitempty"` // gone while the merge ran
}

// Conflicts returns the changes where a new default does not arrive.
func (r EtcReport) Conflicts() []etcmerge.Change { return etcmerge.Conflicts(r.Changes) }

// Deploy makes a new deployment with its merged /etc. It is not in the boot
// menu until Write gets it; an error, or a crash before that, leaves a
// directory for Cleanup.
func (l *Locked) Deploy(ctx context.Context, req Request) (Deployment, EtcReport, error) {
	d, rep, err := l.deploy(ctx, req)
	if err != nil {
		return Deployment{}, rep, fmt.Errorf("deploy %s: %w", req.Commit, err)
	}
	return d, rep, nil
}

func (l *Locked) deploy(ctx context.Context, req Request) (Deployment, EtcReport, error) {
	merge, err := l.s.resolveRequest(ctx, &req)
	if err != nil {
		return Deployment{}, EtcReport{}, err
	}
	d, err := l.s.prepare(ctx, req)
	if err != nil {
		return Deployment{}, EtcReport{}, err
	}
	rep, err := l.s.complete(ctx, d, merge, req.Etc, req.FailOnConflict)
	return d, rep, err
}

// resolveRequest checks a request and fills in its defaults. merge is nil where
// there is nothing to merge from.
func (s *Sysroot) resolveRequest(ctx context.Context, req *Request) (merge *Deployment, err error) {
	if ok, err := s.dir.Exists(path.Join(stateDir(req.Stateroot), "var")); err != nil || !ok || !validStateroot(req.Stateroot) {
		return nil, errors.Join(fmt.Errorf("stateroot %q: %w", req.Stateroot, ErrNoStateroot), err)
	}
	if partial, err := s.repo.CommitPartial(req.Commit); err != nil {
		return nil, err
	} else if partial {
		return nil, ErrPartialCommit
	}
	if !req.NoMerge {
		merge = req.Merge
		if merge == nil {
			st, err := s.Load(ctx)
			if err != nil {
				return nil, err
			}
			if d, ok := st.Merge(req.Stateroot); ok {
				merge = &d
			}
		}
	}
	if req.Kargs == nil && merge != nil {
		req.Kargs = merge.Kargs
	}
	req.Merge = merge
	if !req.NoImageKargs {
		if err := s.applyImageKargs(req); err != nil {
			return nil, err
		}
	}
	if err := req.applyOwner(); err != nil {
		return nil, err
	}
	return merge, checkKargs(req.Kargs)
}

func checkKargs(k bls.Kargs) error {
	for _, a := range k {
		// One argument must stay one when the line is split again.
		if again := bls.ParseKargs(a); len(again) != 1 || again[0] != a || strings.Count(a, `"`)%2 != 0 {
			return fmt.Errorf("%w %q", ErrInvalidKargs, a)
		}
		if strings.HasPrefix(a, "ostree=") {
			return fmt.Errorf("%w %q: it is set by the boot menu", ErrInvalidKargs, a)
		}
	}
	return nil
}

// prepare checks the commit out, gives it the default /etc and its origin. The
// result does not depend on the live /etc, so it may wait for shutdown.
func (s *Sysroot) prepare(ctx context.Context, req Request) (Deployment, error) {
	d := Deployment{Stateroot: req.Stateroot, Checksum: req.Commit, Origin: req.Origin, Kargs: req.Kargs, Index: -1}
	if d.Kargs == nil {
		d.Kargs = bls.Kargs{}
	}
	d.extra = req.keys
	d.overlays = req.Overlays
	// libostree makes a stateroot without it.
	err := s.dir.MkdirAll(deployDir(d.Stateroot), 0o755)
	if err != nil {
		return d, err
	}
	if d.Serial, err = s.nextSerial(d); err != nil {
		return d, err
	}
	parent, err := s.dir.OpenDir(deployDir(d.Stateroot))
	if err != nil {
		return d, err
	}
	defer parent.Close()
	if err := failpoint.Hit("deploy.checkout-begin"); err != nil {
		return d, err
	}
	s.o.Progress.Emit(progress.Event{Task: "Checking out tree", Kind: progress.Begin, Text: d.Checksum.String()[:12]})
	defer s.o.Progress.Emit(progress.Event{Task: "Checking out tree", Kind: progress.End})
	if err := s.repo.Checkout(ctx, d.Checksum, parent, d.Name(), ostree.CheckoutOptions{PassthroughWhiteouts: true}); err != nil {
		return d, err
	}
	if err := failpoint.Hit("deploy.checkout-done"); err != nil {
		return d, err
	}
	root, err := parent.OpenDir(d.Name())
	if err != nil {
		return d, err
	}
	defer root.Close()
	if err := prepareEtc(ctx, root); err != nil {
		return d, err
	}
	if err := s.writeImage(ctx, d, root); err != nil {
		return d, err
	}
	k, err := s.findKernel(dirTree{root})
	if err != nil {
		return d, err
	}
	if err := s.checkUKI(k, d.overlays); err != nil {
		return d, err
	}
	if d.BootChecksum, err = k.checksum(dirTree{root}); err != nil {
		return d, err
	}
	d.UKI = k.uki != nil
	if err := failpoint.Hit("deploy.etc-copied"); err != nil {
		return d, err
	}
	if err := s.writeOrigin(d); err != nil {
		return d, err
	}
	return d, s.fill(&d)
}

func (s *Sysroot) writeOrigin(d Deployment) error {
	if err := s.dir.WriteFileAtomic(originPath(d), d.Origin.Bytes(), 0o644); err != nil {
		return err
	}
	return failpoint.Hit("deploy.origin-written")
}

// nextSerial gives the first serial that neither a directory nor an origin file
// of the commit uses, leftovers of a crash included.
func (s *Sysroot) nextSerial(d Deployment) (int, error) {
	list, err := s.dir.ReadDir(deployDir(d.Stateroot))
	if err != nil {
		return 0, err
	}
	next := 0
	for _, e := range list {
		c, n, err := parseName(strings.TrimSuffix(e.Name, ".origin"))
		if err == nil && c == d.Checksum {
			next = max(next, n+1)
		}
	}
	return next, nil
}

// prepareEtc makes etc a copy of usr/etc. A tree that was committed with a plain
// etc gets it moved to usr/etc first.
func prepareEtc(ctx context.Context, root *fsx.Dir) error {
	from, err := defaultsDir(dirTree{root})
	if err != nil {
		return err
	}
	if from == "etc" {
		if err := root.RemoveAll("usr/etc"); err != nil {
			return err
		}
		if err := root.Rename("etc", root, "usr/etc"); err != nil {
			return err
		}
	}
	if err := root.Mkdir("etc", 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	src, err := root.OpenDir("usr/etc")
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := root.OpenDir("etc")
	if err != nil {
		return err
	}
	defer dst.Close()
	return etcmerge.CopyTree(ctx, src, dst)
}

// complete merges the live /etc of merge into d, sets up /var and makes d
// durable and immutable.
func (s *Sysroot) complete(ctx context.Context, d Deployment, merge *Deployment, pol etcmerge.Policy, failOnConflict bool) (EtcReport, error) {
	rep, err := s.mergeEtc(ctx, d, merge, pol, failOnConflict)
	if err != nil {
		return rep, err
	}
	if err := failpoint.Hit("deploy.etc-merged"); err != nil {
		return rep, err
	}
	if err := s.initVar(ctx, d); err != nil {
		return rep, err
	}
	if !s.o.Mutable {
		if err := s.setImmutable(d, true); err != nil {
			return rep, err
		}
	}
	if err := s.syncRoot(); err != nil {
		return rep, err
	}
	return rep, failpoint.Hit("deploy.tree-synced")
}

func (s *Sysroot) mergeEtc(ctx context.Context, d Deployment, merge *Deployment, pol etcmerge.Policy, failOnConflict bool) (EtcReport, error) {
	if merge == nil {
		return EtcReport{}, nil
	}
	dirs, err := s.openMerge(d, *merge)
	if err != nil {
		return EtcReport{}, err
	}
	defer dirs.close()
	rep, err := dirs.plan(ctx, pol)
	if err != nil {
		return rep, err
	}
	if err := rep.check(failOnConflict); err != nil {
		return rep, err
	}
	if s.o.StrictEtc {
		if err := refuseNewDirectories(rep.Changes, dirs.next); err != nil {
			return rep, err
		}
	}
	rep.Vanished, err = etcmerge.Apply(ctx, dirs.current, dirs.next, rep.Changes)
	if err != nil {
		return rep, err
	}
	if err := s.noteConflicts(d, rep); err != nil {
		return rep, err
	}
	s.o.Progress.Message(fmt.Sprintf("Copying /etc changes: %d modified, %d removed, %d added",
		rep.Counts.Modified, rep.Counts.Removed, rep.Counts.Added))
	// Units with ConditionNeedsUpdate=/etc run after an update because of this.
	if err := dirs.next.Remove(".updated"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return rep, err
	}
	return rep, nil
}

// refuseNewDirectories is for Options.StrictEtc.
func refuseNewDirectories(changes []etcmerge.Change, next *fsx.Dir) error {
	for _, c := range changes {
		if c.Op != etcmerge.OpCopy {
			continue
		}
		st, err := next.Lstat(c.Path)
		if err == nil && st.IsDir() {
			return fmt.Errorf("%w: Modified config file newly defaults to directory '%s', cannot merge", ErrEtcConflict, c.Path)
		}
	}
	return nil
}

func (r EtcReport) check(failOnConflict bool) error {
	conflicts := r.Conflicts()
	if !failOnConflict || len(conflicts) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrEtcConflict, strings.Join(etcmerge.Lines(conflicts), "; "))
}

// initVar gives a stateroot its first /var content: what the commit has there, or
// else what every system expects. Later commits do not touch /var.
func (s *Sysroot) initVar(ctx context.Context, d Deployment) error {
	dst, err := s.dir.OpenDir(path.Join(stateDir(d.Stateroot), "var"))
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := dst.Remove(".updated"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := dst.ReadDir(".")
	if err != nil || len(list) > 0 {
		return err
	}
	src, err := s.dir.OpenDir(d.Dir() + "/var")
	if errors.Is(err, fs.ErrNotExist) {
		return minimalVar(dst)
	}
	if err != nil {
		return err
	}
	defer src.Close()
	if list, err = src.ReadDir("."); err != nil {
		return err
	}
	if len(list) == 0 {
		return minimalVar(dst)
	}
	return etcmerge.CopyTree(ctx, src, dst)
}

// minimalVar makes what programs rely on before anything else fills /var.
func minimalVar(dir *fsx.Dir) error {
	for name, mode := range map[string]uint32{"lib": 0o755, "log": 0o755, "tmp": 0o1777} {
		if err := dir.Mkdir(name, 0o755); err != nil {
			return err
		}
		if err := dir.Chmod(name, mode); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"run": "../run", "lock": "../run/lock"} {
		if err := dir.Symlink(target, name); err != nil {
			return err
		}
	}
	return nil
}

// setImmutable sets chattr +i on the deployment's top directory, so that nobody
// creates files beside usr and etc by accident. Not every filesystem can.
func (s *Sysroot) setImmutable(d Deployment, on bool) error {
	root, err := s.dir.OpenDir(d.Dir())
	if err != nil {
		return err
	}
	defer root.Close()
	err = sys.SetImmutable(root.Fd(), on)
	runtime.KeepAlive(root)
	if sys.IsNotSupported(err) || errors.Is(err, fs.ErrPermission) {
		s.log.Debug("deployment directory stays mutable", "deployment", d.Name(), "error", err)
		return nil
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/etcmerge"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

const (
	stagedFile       = "ostree/staged-deployment" // below /run
	stagedLockedFile = "ostree/staged-deployment-locked"
	stagedRef        = "ostree/staged/0" // keeps the commit alive until Write does
	maxStagedFile    = 1 << 20
)

// StageOptions add to a Request what holds for a staged deployment.
type StageOptions struct {
	// Locked keeps FinalizeStaged from acting until Unlock.
	Locked bool
	// Tries makes the deployment one on trial, see Sysroot.Tries; 0: it is none.
	Tries int
}

// StageResult tells what was staged and what finalising it will do.
type StageResult struct {
	Deployment Deployment `json:"deployment"`
	Preview    Preview    `json:"preview"`
}

// Stage makes a new deployment that becomes the default at shutdown, by
// FinalizeStaged. A previous staged deployment is replaced. What would make
// finalisation fail is checked first, by Preflight: nothing is written then, and
// the preview is in the result all the same.
func (l *Locked) Stage(ctx context.Context, req Request, o StageOptions) (StageResult, error) {
	res, err := l.stage(ctx, req, o)
	if err != nil {
		return res, fmt.Errorf("stage %s: %w", req.Commit, err)
	}
	return res, nil
}

func (l *Locked) stage(ctx context.Context, req Request, o StageOptions) (StageResult, error) {
	var res StageResult
	s := l.s
	if s.o.Run == nil {
		return res, fmt.Errorf("%w: there is nowhere to record a staged deployment", ErrNotBooted)
	}
	merge, err := s.resolveRequest(ctx, &req)
	if err != nil {
		return res, err
	}
	if res.Preview, err = s.Preview(ctx, req); err != nil {
		return res, err
	}
	if err := l.Preflight(ctx, res.Preview, req.FailOnConflict); err != nil {
		return res, err
	}
	d, err := s.prepare(ctx, req)
	if err != nil {
		return res, err
	}
	if err := s.setStagedRef(ctx, d.Checksum); err != nil {
		return res, err
	}
	if err := s.syncRoot(); err != nil {
		return res, err
	}
	if err := failpoint.Hit("deploy.stage-synced"); err != nil {
		return res, err
	}
	data, err := encodeStaged(stagedRecord{target: d, merge: merge, locked: o.Locked, tries: o.Tries, etc: req.Etc, retention: &req.Retention})
	if err != nil {
		return res, err
	}
	if err := s.o.Run.MkdirAll("ostree", 0o755); err != nil {
		return res, err
	}
	if err := s.o.Run.Remove(stagedLockedFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return res, err
	}
	if err := s.o.Run.WriteFileAtomic(stagedFile, data, 0o600); err != nil {
		return res, err
	}
	if err := s.bumpMtime(); err != nil {
		return res, err
	}
	d.Staged, d.FinalizationLocked, d.EtcPolicy = true, o.Locked, &req.Etc
	res.Deployment = d
	return res, failpoint.Hit("deploy.staged")
}

func (s *Sysroot) setStagedRef(ctx context.Context, c ostree.Checksum) error {
	_, err := s.repo.Update(ctx, func(_ context.Context, t *ostree.Txn) error { return t.SetRef(stagedRef, c) })
	return err
}

// Unstage drops the staged deployment; its directory goes with the next Cleanup.
func (l *Locked) Unstage(context.Context) error {
	if l.s.o.Run == nil {
		return ErrNothingStaged
	}
	ok, err := l.s.o.Run.Exists(stagedFile)
	if err != nil {
		return err
	}
	if !ok {
		return ErrNothingStaged
	}
	return l.s.unstage()
}

func (s *Sysroot) unstage() error {
	for _, name := range []string{stagedFile, stagedLockedFile} {
		if err := s.o.Run.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// SetStagedLocked locks the staged deployment against finalisation, or unlocks it.
func (l *Locked) SetStagedLocked(ctx context.Context, locked bool) error {
	r, err := l.s.readStaged()
	if err != nil {
		return err
	}
	if r == nil {
		return ErrNothingStaged
	}
	r.locked = locked
	data, err := encodeStaged(*r)
	if err != nil {
		return err
	}
	if err := l.s.o.Run.WriteFileAtomic(stagedFile, data, 0o600); err != nil {
		return err
	}
	if err := l.s.o.Run.Remove(stagedLockedFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return ctx.Err()
}

// SetStagedKargs replaces the kernel arguments of the staged deployment.
func (l *Locked) SetStagedKargs(ctx context.Context, k bls.Kargs) error {
	r, err := l.s.readStaged()
	if err != nil {
		return err
	}
	if r == nil {
		return ErrNothingStaged
	}
	if err := checkKargs(k); err != nil {
		return err
	}
	r.target.Kargs = k
	data, err := encodeStaged(*r)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.s.o.Run.WriteFileAtomic(stagedFile, data, 0o600)
}

// SetStagedEtc replaces the policy for the merge of /etc of the staged deployment and
// tells what the merge would do now. With failOnConflict, if it leaves conflicts, the
// old policy stays (ErrEtcConflict).
func (l *Locked) SetStagedEtc(ctx context.Context, pol etcmerge.Policy, failOnConflict bool) (EtcReport, error) {
	r, err := l.s.readStaged()
	if err != nil {
		return EtcReport{}, err
	}
	if r == nil {
		return EtcReport{}, ErrNothingStaged
	}
	r.etc = pol
	rep, err := l.s.stagedEtc(ctx, *r)
	if err != nil {
		return rep, err
	}
	if err := rep.check(failOnConflict); err != nil {
		return rep, err
	}
	data, err := encodeStaged(*r)
	if err != nil {
		return rep, err
	}
	return rep, l.s.o.Run.WriteFileAtomic(stagedFile, data, 0o600)
}

// stagedRecord is the content of the state file.
type stagedRecord struct {
	target Deployment
	merge  *Deployment // identity only
	locked bool
	tries  int

	etc       etcmerge.Policy
	retention *Retention // Older and MaxAge; nil in a record of others
}

func encodeDeployment(d Deployment) gvariant.Value {
	var g gvariant.Dict
	g.Set("name", gvariant.String(d.Name()))
	g.Set("osname", gvariant.String(d.Stateroot))
	g.Set("bootcsum", gvariant.String(d.BootChecksum))
	return g.Value()
}

func encodeStaged(r stagedRecord) ([]byte, error) {
	var g gvariant.Dict
	g.Set("target", encodeDeployment(r.target))
	if r.merge != nil {
		g.Set("merge-deployment", encodeDeployment(*r.merge))
	}
	g.Set("kargs", gvariant.Strings(r.target.Kargs))
	if len(r.target.overlays) > 0 {
		g.Set("overlay-initrds", gvariant.Strings(r.target.overlays))
	}
	if len(r.target.extra) > 0 {
		var pairs []gvariant.Value
		for _, f := range r.target.extra {
			pairs = append(pairs, gvariant.Entry(gvariant.String(f.Key), gvariant.String(f.Value)))
		}
		g.Set("bootconfig-extra", gvariant.Array("{ss}", pairs...))
	}
	if r.locked {
		g.Set("locked", gvariant.Bool(true))
	}
	if r.tries > 0 {
		g.Set("hostctl-tries", gvariant.Uint32(uint32(r.tries)))
	}
	r.encodePolicy(&g)
	return g.Marshal()
}

func decodeDeployment(g gvariant.Dict, key string) (*Deployment, error) {
	v, ok := g.Get(key)
	if !ok {
		return nil, nil
	}
	sub, ok := v.Dict()
	if !ok {
		return nil, fmt.Errorf("%w: %s is no dictionary", ErrInvalidStateFile, key)
	}
	var d Deployment
	name, _ := sub.Str("name")
	d.Stateroot, _ = sub.Str("osname")
	d.BootChecksum, _ = sub.Str("bootcsum")
	if !validStateroot(d.Stateroot) || !isSHA256(d.BootChecksum) {
		return nil, fmt.Errorf("%w: %s has a bad osname or bootcsum", ErrInvalidStateFile, key)
	}
	var err error
	if d.Checksum, d.Serial, err = parseName(name); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalidStateFile, key, err)
	}
	return &d, nil
}

func decodeStaged(data []byte) (*stagedRecord, error) {
	g, err := gvariant.ParseDict(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidStateFile, err)
	}
	target, err := decodeDeployment(g, "target")
	if err != nil {
		return nil, err
	}
	if target == nil {
		return nil, fmt.Errorf("%w: no target", ErrInvalidStateFile)
	}
	r := &stagedRecord{target: *target}
	if r.merge, err = decodeDeployment(g, "merge-deployment"); err != nil {
		return nil, err
	}
	kargs, _ := g.Strings("kargs")
	r.target.Kargs = ownKargs(kargs) // libostree leaves the merge deployment's ostree= in
	r.target.overlays, _ = g.Strings("overlay-initrds")
	r.locked, _ = g.Bool("locked")
	if v, ok := g.Get("hostctl-tries"); ok {
		n, _ := v.Uint32()
		r.tries = int(min(n, bootloader.MaxTries))
	}
	if err := r.decodePolicy(g); err != nil {
		return nil, err
	}
	if v, ok := g.Get("bootconfig-extra"); ok && v.Type() == "a{ss}" {
		for _, e := range v.Children() {
			kv := e.Children()
			key, _ := kv[0].Str()
			val, _ := kv[1].Str()
			r.target.extra = append(r.target.extra, bls.Field{Key: key, Value: val})
		}
	}
	return r, nil
}

// readStaged reads the state file; nil where nothing is staged.
func (s *Sysroot) readStaged() (*stagedRecord, error) {
	if s.o.Run == nil {
		return nil, nil
	}
	data, err := s.o.Run.ReadFile(stagedFile, maxStagedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := decodeStaged(data)
	if err != nil {
		return nil, fmt.Errorf("read /run/%s: %w", stagedFile, err)
	}
	if ok, err := s.o.Run.Exists(stagedLockedFile); err != nil {
		return nil, err
	} else if ok {
		r.locked = true
	}
	return r, nil
}

// loadStaged puts the staged deployment in front. One whose directory is gone
// counts as not staged: the file in /run outlived a cleanup by another tool.
func (s *Sysroot) loadStaged(st *State) error {
	r, err := s.readStaged()
	if err != nil || r == nil {
		return err
	}
	d := r.target
	if err := s.fill(&d); err != nil {
		s.log.Warn("staged deployment is unusable", "deployment", d.Name(), "error", err)
		return nil
	}
	d.Staged, d.FinalizationLocked = true, r.locked
	d.EtcPolicy = &r.etc
	if d.UKI, err = s.bootsUKI(d); err != nil {
		s.log.Warn("kernel of the staged deployment cannot be read", "deployment", d.Name(), "error", err)
	}
	st.Deployments = append([]Deployment{d}, st.Deployments...)
	return nil
}

// FinalizeResult tells what FinalizeStaged did.
type FinalizeResult struct {
	Deployment Deployment  `json:"deployment"`
	Etc        EtcReport   `json:"etc"`
	Write      WriteResult `json:"write"`
}

// FinalizeStaged makes the staged deployment the default: it merges /etc as it
// is now, installs the kernel and writes the boot order. It is meant for
// shutdown, when nothing else changes /etc any more. ErrNothingStaged where there
// is nothing to do, ErrStagedLocked where it is not wanted yet.
//
// The record in /run is removed first, so that a failure is not repeated. Any
// later failure leaves the old default in force and its text in /boot, where
// State.FinalizeFailure finds it after the reboot.
//
// r says which deployments stay, where staging recorded nothing else.
func (l *Locked) FinalizeStaged(ctx context.Context, r Retention) (FinalizeResult, error) {
	var res FinalizeResult
	rec, err := l.s.readStaged()
	if err != nil {
		return res, l.s.recordFailure(fmt.Errorf("finalise staged deployment: %w", err))
	}
	if rec == nil {
		return res, ErrNothingStaged
	}
	if rec.locked {
		return res, ErrStagedLocked
	}
	if err := l.s.unstage(); err != nil {
		return res, fmt.Errorf("finalise staged deployment: %w", err)
	}
	if err := failpoint.Hit("deploy.finalize-begin"); err != nil {
		return res, l.s.recordFailure(err)
	}
	start := time.Now()
	if res, err = l.finalize(ctx, *rec, r); err != nil {
		return res, l.s.recordFailure(fmt.Errorf("finalise staged deployment %s: %w", rec.target.Name(), err))
	}
	l.s.log.Info("finalised staged deployment", "deployment", rec.target.Name(), "took", time.Since(start))
	return res, l.s.clearFailure()
}

func (l *Locked) finalize(ctx context.Context, rec stagedRecord, r Retention) (FinalizeResult, error) {
	res := FinalizeResult{Deployment: rec.target}
	st, err := l.s.Load(ctx)
	if err != nil {
		return res, err
	}
	if err := l.s.fill(&res.Deployment); err != nil {
		return res, err
	}
	merge := rec.merge
	if merge != nil {
		i := slices.IndexFunc(st.Deployments, merge.Same)
		if i < 0 {
			return res, fmt.Errorf("merge deployment %s: %w", merge.Name(), ErrNoDeployment)
		}
		merge = &st.Deployments[i]
	}
	if res.Etc, err = l.s.complete(ctx, res.Deployment, merge, rec.etc, false); err != nil {
		return res, err
	}
	order, err := l.s.OrderFor(st, res.Deployment, merge, rec.retain(r))
	if err != nil {
		return res, err
	}
	if err := l.BeginTrial(ctx, res.Deployment, rec.tries); err != nil {
		return res, err
	}
	res.Write, err = l.Write(ctx, order)
	return res, err
}

// recordFailure leaves err in /boot for the next boot and returns it.
func (s *Sysroot) recordFailure(err error) error {
	text := err.Error()
	if len(text) > maxFailureStamp/2 {
		text = text[:maxFailureStamp/2]
	}
	merr := s.boot.MkdirAll("ostree", 0o755)
	if merr == nil {
		merr = s.boot.WriteFileAtomic(failureStamp, []byte(text+"\n"), 0o644)
	}
	if merr != nil {
		s.log.Error("cannot record the failure in /boot", "error", merr)
	}
	return err
}

// clearFailure removes the record of an earlier failure.
func (s *Sysroot) clearFailure() error {
	if err := s.boot.Remove(failureStamp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ClearFinalizeFailure forgets a recorded failure, once it has been reported.
func (l *Locked) ClearFinalizeFailure(context.Context) error { return l.s.clearFailure() }

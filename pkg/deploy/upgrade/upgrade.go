// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/rpmcompose/pkglist"
)

// job is one operation under way.
type job struct {
	s   *deploy.Sysroot
	o   Options
	st  deploy.State
	res Result

	stateroot string
	// from is the deployment whose origin and kernel arguments are continued: a
	// staged or pending one carries the administrator's latest wishes. The /etc
	// changes come from deploy.State.Merge instead, the one in use.
	from        deploy.Deployment
	origin      deploy.Origin
	remote, ref string
	set         deploy.Settings // with what Options say
}

// Check tells what Upgrade would bring. It fetches commit objects only and
// changes no deployment; the ref of the remote moves in the repository.
func Check(ctx context.Context, s *deploy.Sysroot, o Options) (Result, error) {
	j, err := start(ctx, s, o, "")
	if err != nil {
		return Result{}, fmt.Errorf("check for an upgrade: %w", err)
	}
	commit, err := j.pull(ctx, pull.Request{Refs: []string{j.ref}, CommitMetadataOnly: true, TimestampCheck: true})
	if err == nil {
		err = j.compare(commit)
	}
	if err == nil && !j.refuse(commit) && !j.res.Unchanged {
		err = j.measure(ctx, commit)
	}
	if err != nil {
		return j.res, fmt.Errorf("check for an upgrade: %w", err)
	}
	return j.res, nil
}

// measure fills in what the pull of commit would receive, where that can be known.
func (j *job) measure(ctx context.Context, commit ostree.Checksum) error {
	if j.remote == "" {
		return nil
	}
	before := j.res.Pull
	res, err := j.receive(ctx, pull.Request{Refs: []string{j.ref + "@" + commit.String()}, DryRun: true})
	j.res.Pull = before
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		// The answer to the question is known; this is an extra.
		if j.o.Logger != nil {
			j.o.Logger.Warn("the size of the download is not known", "error", err)
		}
	case res.Transfer.Known:
		j.res.Download = &Download{Objects: res.Transfer.Objects, Bytes: res.Transfer.Bytes}
	}
	return nil
}

// Upgrade moves to the newest commit of the ref that the host follows. Where the
// default or staged deployment has that commit already, Result.Unchanged is set
// and nothing happens.
func Upgrade(ctx context.Context, s *deploy.Sysroot, o Options) (Result, error) {
	return locked(ctx, s, "upgrade", func(l *deploy.Locked) (*job, error) {
		j, err := start(ctx, s, o, "")
		if err != nil {
			return j, err
		}
		// A hold at one commit ends with a wish for the newest.
		j.origin = j.origin.WithOverrideCommit(ostree.Checksum{})
		if refused, err := j.refuseEarly(ctx); refused || err != nil {
			return j, err
		}
		commit, err := j.pull(ctx, pull.Request{Refs: []string{j.ref}, TimestampCheck: true})
		if err != nil {
			return j, err
		}
		return j, j.apply(ctx, l, commit)
	})
}

// Rebase follows another ref from now on and moves to its newest commit. spec is
// REMOTE:REF; REF for one of the same remote; REMOTE: for the same ref of another
// remote; :REF for one of the repository itself.
func Rebase(ctx context.Context, s *deploy.Sysroot, spec string, o Options) (Result, error) {
	o.AllowDowngrade = true // another ref has another history
	return locked(ctx, s, "rebase to "+spec, func(l *deploy.Locked) (*job, error) {
		j, err := start(ctx, s, o, spec)
		if err != nil {
			return j, err
		}
		j.origin = j.origin.WithRefspec(j.res.Refspec).WithOverrideCommit(ostree.Checksum{})
		commit, err := j.pull(ctx, pull.Request{Refs: []string{j.ref}})
		if err != nil {
			return j, err
		}
		return j, j.apply(ctx, l, commit)
	})
}

// DeployRevision moves to a revision of the ref that the host follows: a commit
// checksum, or a version, which is searched from the newest commit backwards.
// The origin records the commit; the next Upgrade leaves it.
func DeployRevision(ctx context.Context, s *deploy.Sysroot, revision string, o Options) (Result, error) {
	o.AllowDowngrade, o.AllowBlocked = true, true
	return locked(ctx, s, "deploy "+revision, func(l *deploy.Locked) (*job, error) {
		j, err := start(ctx, s, o, "")
		if err != nil {
			return j, err
		}
		commit, err := j.find(ctx, revision)
		if err != nil {
			return j, err
		}
		want := j.ref + "@" + commit.String()
		if j.remote == "" {
			want = commit.String()
		}
		if _, err := j.pull(ctx, pull.Request{Refs: []string{want}}); err != nil {
			return j, err
		}
		j.origin = j.origin.WithOverrideCommit(commit)
		return j, j.apply(ctx, l, commit)
	})
}

func locked(ctx context.Context, s *deploy.Sysroot, what string, fn func(*deploy.Locked) (*job, error)) (Result, error) {
	var res Result
	err := s.WithLock(ctx, func(l *deploy.Locked) error {
		j, err := fn(l)
		if j != nil {
			res = j.res
		}
		return err
	})
	if err != nil {
		return res, fmt.Errorf("%s: %w", what, err)
	}
	return res, nil
}

// start is begin for what pulls. spec, where given, names another ref than the
// origin's, see retarget.
func start(ctx context.Context, s *deploy.Sysroot, o Options, spec string) (*job, error) {
	j, err := begin(ctx, s, o)
	if err != nil {
		return nil, err
	}
	refspec := j.origin.Refspec()
	if spec != "" {
		if refspec, err = retarget(refspec, spec); err != nil {
			return nil, err
		}
	} else if todo := j.origin.UnconfiguredState(); todo != "" {
		return nil, fmt.Errorf("%s: %w: %s", j.from.Name(), ErrUnconfigured, todo)
	}
	if refspec == "" {
		return nil, fmt.Errorf("%s: %w", j.from.Name(), noOrigin(j.origin))
	}
	j.res.Refspec = refspec
	j.remote, j.ref, err = ostree.SplitRefspec(refspec)
	return j, err
}

// noOrigin says what an origin without a ref has instead, if that is known.
func noOrigin(o deploy.Origin) error {
	if what := o.Foreign(); what != "" {
		return fmt.Errorf("%w but %s; \"hostctl rebase REMOTE:REF\" changes that", ErrNoOrigin, what)
	}
	return fmt.Errorf("%w; \"hostctl rebase REMOTE:REF\" makes it follow one", ErrNoOrigin)
}

// begin reads the state and the origin.
func begin(ctx context.Context, s *deploy.Sysroot, o Options) (*job, error) {
	j := &job{s: s, o: o}
	var err error
	if j.st, err = s.Load(ctx); err != nil {
		return nil, err
	}
	if j.st.BootProblem != "" {
		return nil, fmt.Errorf("%w: %s", deploy.ErrBootMissing, j.st.BootProblem)
	}
	if j.set, err = o.settings(s); err != nil {
		return nil, err
	}
	if j.stateroot, err = pickStateroot(j.st, o.Stateroot); err != nil {
		return nil, err
	}
	found := false
	for _, d := range j.st.Deployments {
		if found = d.Stateroot == j.stateroot; found {
			j.from = d
			break
		}
	}
	if !found {
		return nil, fmt.Errorf("stateroot %s: %w", j.stateroot, ErrNoDeployment)
	}
	j.origin = j.from.Origin.Successor()
	j.res.Current, err = describe(s.Repo(), j.from.Checksum)
	return j, err
}

func pickStateroot(st deploy.State, want string) (string, error) {
	if want != "" {
		return want, nil
	}
	if d, ok := st.Booted(); ok {
		return d.Stateroot, nil
	}
	for _, d := range st.Deployments {
		if want != "" && d.Stateroot != want {
			return "", ErrAmbiguous
		}
		want = d.Stateroot
	}
	if want == "" {
		return "", ErrNoDeployment
	}
	return want, nil
}

// pull fetches what req says from the remote of the ref and returns the commit.
// A ref without a remote is in the repository already.
func (j *job) pull(ctx context.Context, req pull.Request) (ostree.Checksum, error) {
	if j.remote == "" {
		return j.resolve(req)
	}
	res, err := j.receive(ctx, req)
	if err != nil {
		return ostree.Checksum{}, err
	}
	if c, ok := res.Refs[j.remote+":"+j.ref]; ok {
		return c, nil
	}
	return j.s.Repo().ReadRef(j.remote + ":" + j.ref)
}

// receive does the part of pull that needs the remote.
func (j *job) receive(ctx context.Context, req pull.Request) (pull.Result, error) {
	repo := j.s.Repo()
	remote, err := pull.LoadRemote(repo, j.remote)
	if err != nil {
		return pull.Result{}, err
	}
	trust, err := pull.LoadTrust(repo, remote, j.o.Trust)
	if err != nil {
		return pull.Result{}, err
	}
	trust.Apply(&remote, &req)
	req.Network = j.o.Network
	req.Progress, req.Logger = j.o.Progress, j.o.Logger
	if req.TimestampCheck = req.TimestampCheck && !j.o.AllowDowngrade; req.TimestampCheck {
		// The deployed commit, not the ref: a check may have moved that already.
		req.TimestampFrom = j.from.Checksum
		if ok, err := repo.Has(ostree.ObjectName{Checksum: j.from.Checksum, Type: ostree.TypeCommit}); err != nil || !ok {
			req.TimestampFrom = ostree.Checksum{}
		}
	}
	j.o.Progress.Emit(progress.Event{Task: "Pulling " + j.res.Refspec, Kind: progress.Begin})
	defer j.o.Progress.Emit(progress.Event{Task: "Pulling " + j.res.Refspec, Kind: progress.End})
	res, err := pull.Pull(ctx, repo, remote, req)
	j.res.Pull.add(res)
	if err != nil {
		err = hint(oneLine(err), time.Now(), j.from.Time)
	}
	return res, err
}

// resolve is pull for what is in the repository already.
func (j *job) resolve(req pull.Request) (ostree.Checksum, error) {
	repo := j.s.Repo()
	c, err := repo.Resolve(req.Refs[0])
	if err != nil || !req.TimestampCheck || j.o.AllowDowngrade {
		return c, err
	}
	known, err := repo.Has(ostree.ObjectName{Checksum: j.from.Checksum, Type: ostree.TypeCommit})
	if err != nil || !known {
		return c, err
	}
	return c, pull.CheckTimestamps(repo, c, j.from.Checksum)
}

// compare fills in what the new commit is and how it differs.
func (j *job) compare(commit ostree.Checksum) (err error) {
	if j.res.New, err = describe(j.s.Repo(), commit); err != nil {
		return err
	}
	j.res.Unchanged = commit == j.from.Checksum
	if w := clockWarning(j.res.New.Timestamp, time.Now()); w != "" && !j.res.Unchanged {
		j.res.Warnings = []string{w}
	}
	j.res.Packages, err = pkglist.CompareCommits(j.s.Repo(), j.from.Checksum, commit)
	return err
}

// apply stages or deploys commit unless it is there already.
func (j *job) apply(ctx context.Context, l *deploy.Locked, commit ostree.Checksum) error {
	if err := j.compare(commit); err != nil {
		return err
	}
	if j.refuse(commit) {
		return nil
	}
	req := deploy.Request{Stateroot: j.stateroot, Commit: commit, Origin: j.origin, Kargs: j.from.Kargs, KargsFrom: &j.from,
		Etc: j.policy(), FailOnConflict: j.set.EtcConflicts == deploy.FailOnConflict, Retention: j.set.Retention(time.Now())}
	if j.o.Kargs != nil {
		var err error
		if req.Kargs, err = j.o.Kargs(req.Kargs); err != nil {
			return err
		}
	}
	sameOwner := j.o.Owner == nil || !j.o.Owner.Changes(j.from)
	if !sameOwner {
		req.Owner = j.o.Owner
	}
	if j.res.Unchanged && sameOwner && req.Kargs.String() == j.from.Kargs.String() {
		return errors.Join(j.settleStaged(ctx, l, req), j.follow(ctx, l))
	}
	j.res.Unchanged = false
	var err error
	if j.o.Stage {
		err = j.stage(ctx, l, req)
	} else {
		err = j.deploy(ctx, l, req)
	}
	if err != nil {
		return discard(ctx, l, err)
	}
	if j.o.NoCleanup {
		return nil
	}
	res, err := l.Cleanup(ctx)
	j.res.Cleanup = &res
	return err
}

// refuse tells, also in the result, that commit is blocked.
func (j *job) refuse(commit ostree.Checksum) bool {
	b, blocked := j.st.BlockOf(commit)
	if !blocked || j.o.AllowBlocked || j.res.Unchanged {
		return false
	}
	j.res.Unchanged, j.res.Blocked = true, &b
	return true
}

// refuseEarly is refuse for the newest commit, before anything but that is fetched.
func (j *job) refuseEarly(ctx context.Context) (bool, error) {
	if len(j.st.Blocked) == 0 || j.o.AllowBlocked {
		return false, nil
	}
	commit, err := j.pull(ctx, pull.Request{Refs: []string{j.ref}, CommitMetadataOnly: true, TimestampCheck: true})
	if err != nil {
		return false, err
	}
	if err := j.compare(commit); err != nil {
		return false, err
	}
	return j.refuse(commit), nil
}

// follow records a changed origin in the deployment that has the wanted commit
// already: nothing is to be deployed for it.
func (j *job) follow(ctx context.Context, l *deploy.Locked) error {
	if string(j.origin.Bytes()) == string(j.from.Origin.Successor().Bytes()) {
		return nil
	}
	hold, _ := j.origin.OverrideCommit()
	origin := j.from.Origin.WithRefspec(j.origin.Refspec()).WithOverrideCommit(hold)
	return l.SetOrigin(ctx, slices.IndexFunc(j.st.Deployments, j.from.Same), origin)
}

// discard removes what an operation that failed with cause left, also when it was
// cancelled: repeated failures must not fill the disk.
func discard(ctx context.Context, l *deploy.Locked, cause error) error {
	return errors.Join(cause, l.Discard(context.WithoutCancel(ctx)))
}

func (j *job) stage(ctx context.Context, l *deploy.Locked, req deploy.Request) error {
	tries, err := j.tries(req.Commit)
	if err != nil {
		return err
	}
	res, err := l.Stage(ctx, req, deploy.StageOptions{Locked: j.o.Locked, Tries: tries})
	j.preview(res.Preview)
	if err != nil {
		return err
	}
	j.res.Staged, j.res.Deployment = true, &res.Deployment
	return nil
}

func (j *job) deploy(ctx context.Context, l *deploy.Locked, req deploy.Request) error {
	p, err := j.s.Preview(ctx, req)
	j.preview(p)
	if err != nil {
		return err
	}
	if err := l.Preflight(ctx, p, req.FailOnConflict); err != nil {
		return err
	}
	tries, err := j.tries(req.Commit)
	if err != nil {
		return err
	}
	d, etc, err := l.Deploy(ctx, req)
	if err != nil {
		return err
	}
	j.res.Etc = etc
	var merge *deploy.Deployment
	if m, ok := j.st.Merge(j.stateroot); ok {
		merge = &m
	}
	order, err := j.s.OrderFor(j.st, d, merge, req.Retention)
	if err != nil {
		return err
	}
	if err := l.BeginTrial(ctx, d, tries); err != nil {
		return err
	}
	if _, err := l.Write(ctx, order); err != nil {
		return err
	}
	j.res.Deployment = &d
	return nil
}

func (j *job) preview(p deploy.Preview) {
	j.res.Etc, j.res.Boot, j.res.Disk = p.Etc, &p.Boot, &p.Disk
}

func describe(repo *ostree.Repo, c ostree.Checksum) (Commit, error) {
	out := Commit{Checksum: c}
	obj, err := repo.LoadCommit(c)
	if errors.Is(err, ostree.ErrNotFound) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Timestamp = time.Unix(int64(obj.Timestamp), 0).UTC()
	out.Version, _ = obj.Metadata.Str("version")
	out.EndOfLife, _ = obj.Metadata.Str("ostree.endoflife")
	out.EndOfLifeRebase, _ = obj.Metadata.Str("ostree.endoflife-rebase")
	return out, nil
}

// find turns a revision into a commit of the ref's history.
func (j *job) find(ctx context.Context, revision string) (ostree.Checksum, error) {
	if c, err := ostree.ParseChecksum(strings.TrimPrefix(revision, "revision=")); err == nil {
		return c, nil
	}
	version := strings.TrimPrefix(revision, "version=")
	tip, err := j.pull(ctx, pull.Request{Refs: []string{j.ref}, CommitMetadataOnly: true, Depth: pull.DepthAll})
	if err != nil {
		return ostree.Checksum{}, err
	}
	for c := tip; !c.IsZero(); {
		if err := ctx.Err(); err != nil {
			return ostree.Checksum{}, err
		}
		obj, err := j.s.Repo().LoadCommit(c)
		if errors.Is(err, ostree.ErrNotFound) {
			break // the server keeps no older ones
		}
		if err != nil {
			return ostree.Checksum{}, err
		}
		if v, _ := obj.Metadata.Str("version"); v == version {
			return c, nil
		}
		c = obj.Parent
	}
	return ostree.Checksum{}, fmt.Errorf("%q: %w", version, ErrNoVersion)
}

// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/etcmerge"
)

// Etc is a deployment's /etc beside the defaults that it began with.
type Etc struct {
	Defaults *fsx.Dir // usr/etc
	Live     *fsx.Dir // etc
}

// OpenEtc opens the /etc of a deployment that is written; a staged one has none
// before the machine shuts down. The caller closes it.
func (s *Sysroot) OpenEtc(d Deployment) (e Etc, err error) {
	if e.Defaults, err = s.dir.OpenDir(d.Dir() + "/usr/etc"); err != nil {
		return Etc{}, fmt.Errorf("open the default /etc: %w", err)
	}
	if e.Live, err = s.dir.OpenDir(d.Dir() + "/etc"); err != nil {
		return Etc{}, errors.Join(fmt.Errorf("open /etc: %w", err), e.Defaults.Close())
	}
	return e, nil
}

// Close closes both directories.
func (e Etc) Close() error { return errors.Join(e.Defaults.Close(), e.Live.Close()) }

// etcTrees are the three trees of a merge into a deployment that is checked out.
type etcTrees struct{ base, current, next *fsx.Dir }

func (s *Sysroot) openMerge(d, merge Deployment) (t etcTrees, err error) {
	for _, x := range []struct {
		dir  **fsx.Dir
		name string
	}{{&t.base, merge.Dir() + "/usr/etc"}, {&t.current, merge.Dir() + "/etc"}, {&t.next, d.Dir() + "/etc"}} {
		if *x.dir, err = s.dir.OpenDir(x.name); err != nil {
			t.close()
			return etcTrees{}, err
		}
	}
	return t, nil
}

func (t etcTrees) close() {
	for _, d := range []*fsx.Dir{t.base, t.current, t.next} {
		if d != nil {
			_ = d.Close()
		}
	}
}

func (t etcTrees) plan(ctx context.Context, pol etcmerge.Policy) (EtcReport, error) {
	changes, err := pol.Compare(ctx, t.base, t.current, t.next)
	if err != nil {
		return EtcReport{}, err
	}
	return newEtcReport(ctx, changes, etcmerge.FromDir(t.current), etcmerge.FromDir(t.next))
}

func newEtcReport(ctx context.Context, changes []etcmerge.Change, current, next etcmerge.Source) (EtcReport, error) {
	r := EtcReport{Merged: true, Changes: changes, Counts: etcmerge.Count(changes)}
	var err error
	r.Clashes, err = etcmerge.Explain(ctx, changes, current, next)
	return r, err
}

// StagedEtc tells what the merge of /etc at shutdown would do if it came now, by the
// policy that the staged deployment was made with. ErrNothingStaged if there is none.
func (s *Sysroot) StagedEtc(ctx context.Context) (EtcReport, error) {
	rec, err := s.readStaged()
	if err != nil {
		return EtcReport{}, err
	}
	if rec == nil {
		return EtcReport{}, ErrNothingStaged
	}
	return s.stagedEtc(ctx, *rec)
}

func (s *Sysroot) stagedEtc(ctx context.Context, rec stagedRecord) (EtcReport, error) {
	if rec.merge == nil {
		return EtcReport{}, nil
	}
	t, err := s.openMerge(rec.target, *rec.merge)
	if err != nil {
		return EtcReport{}, fmt.Errorf("preview the merge of /etc: %w", err)
	}
	defer t.close()
	r, err := t.plan(ctx, rec.etc)
	if err != nil {
		return r, fmt.Errorf("preview the merge of /etc: %w", err)
	}
	return r, nil
}

const maxConflictNote = 4 << 20

// conflictNote is where the conflicts of a deployment's merge are remembered: what
// was merged at shutdown had no reader then.
func conflictNote(d Deployment) string {
	return path.Join(stateDir(d.Stateroot), "backing", d.Name(), "etc-conflicts.json")
}

// noteConflicts reports the conflicts that the policy did not settle, to the log and
// for EtcConflicts. Libostree keeps no such notes.
func (s *Sysroot) noteConflicts(d Deployment, r EtcReport) error {
	list := r.Conflicts()
	if len(list) == 0 || s.o.StrictEtc {
		return nil
	}
	for _, c := range list {
		s.log.Info("conflict in /etc: the local version stays", "path", "/etc/"+c.Path, "conflict", c.Conflict, "saved", c.Saved)
	}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	name := conflictNote(d)
	if err := s.dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return s.dir.WriteFileAtomic(name, data, 0o644)
}

// EtcConflicts lists the conflicts that the merge of /etc into a deployment left and
// that nobody has dealt with since: the name still differs from its default, and what
// was saved beside it is still there.
func (s *Sysroot) EtcConflicts(ctx context.Context, d Deployment) ([]etcmerge.Clash, error) {
	data, err := s.dir.ReadFile(conflictNote(d), maxConflictNote)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list, open []etcmerge.Change
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w", conflictNote(d), err)
	}
	e, err := s.OpenEtc(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = e.Close() }()
	live, defaults := etcmerge.FromDir(e.Live), etcmerge.FromDir(e.Defaults)
	for _, c := range list {
		if !fs.ValidPath(c.Path) || c.Saved != "" && !fs.ValidPath(c.Saved) {
			return nil, fmt.Errorf("read %s: bad path %q", conflictNote(d), c.Path)
		}
		if c.Saved != "" {
			if ok, err := e.Live.Exists(c.Saved); err != nil || !ok {
				continue
			}
		}
		same, err := etcmerge.Same(live, defaults, c.Path)
		if err != nil {
			return nil, err
		}
		if !same {
			open = append(open, c)
		}
	}
	return etcmerge.Explain(ctx, open, live, defaults)
}

// etcSource reads the defaults of /etc of a commit, of which the snapshot is.
type etcSource struct {
	repoTree
	dir  string
	snap etcmerge.Snapshot
}

func (t etcSource) Node(name string) (etcmerge.Node, error) { return t.snap[name], nil }

func (t etcSource) Open(name string) (io.ReadCloser, error) { return t.open(path.Join(t.dir, name)) }

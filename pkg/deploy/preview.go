// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"fmt"
	"time"

	"github.com/hostctl/hostctl/pkg/etcmerge"
)

// Preview tells what deploying a commit would do, before anything is written.
type Preview struct {
	Etc    EtcReport `json:"etc"`
	Boot   BootSpace `json:"boot"`
	Disk   DiskSpace `json:"disk"`
	Kernel string    `json:"kernel"` // its version
}

// Preview computes the merge of /etc and the space in /boot for a request from
// the commit in the repository. It takes no lock and writes nothing. The plan
// comes from the code that Deploy and FinalizeStaged run; only what changes in
// /etc until then can make them differ.
func (s *Sysroot) Preview(ctx context.Context, req Request) (Preview, error) {
	p, err := s.preview(ctx, req)
	if err != nil {
		return p, fmt.Errorf("preview %s: %w", req.Commit, err)
	}
	return p, nil
}

func (s *Sysroot) preview(ctx context.Context, req Request) (Preview, error) {
	var p Preview
	merge, err := s.resolveRequest(ctx, &req)
	if err != nil {
		return p, err
	}
	t := repoTree{s.repo, req.Commit}
	k, err := s.findKernel(t)
	if err != nil {
		return p, err
	}
	if err := s.checkUKI(k, req.Overlays); err != nil {
		return p, err
	}
	p.Kernel = k.version
	if _, err := defaultsDir(t); err != nil {
		return p, err
	}
	sum, err := k.checksum(t)
	if err != nil {
		return p, err
	}
	st, err := s.Load(ctx)
	if err != nil {
		return p, err
	}
	commit, err := s.repo.LoadCommit(req.Commit)
	if err != nil {
		return p, err
	}
	next := Deployment{Time: time.Unix(int64(commit.Timestamp), 0).UTC(), Stateroot: req.Stateroot, Checksum: req.Commit, Serial: -1, BootChecksum: sum, Index: -1, overlays: req.Overlays}
	block, err := s.bootBlock()
	if err != nil {
		return p, err
	}
	if _, p.Boot, err = s.fitOrder(st, next, k.takes(block), merge, req.Retention); err != nil {
		return p, err
	}
	var sizes etcSizes
	if p.Etc, sizes, err = s.previewEtc(ctx, t, req); err != nil {
		return p, err
	}
	p.Disk, err = s.diskSpace(t, p, sizes)
	return p, err
}

func (s *Sysroot) previewEtc(ctx context.Context, t repoTree, req Request) (EtcReport, etcSizes, error) {
	next, err := t.etcSnapshot(ctx)
	sizes := etcSizes{defaults: next.snap}
	if err != nil || req.Merge == nil {
		return EtcReport{}, sizes, err
	}
	e, err := s.OpenEtc(*req.Merge)
	if err != nil {
		return EtcReport{}, sizes, err
	}
	defer func() { _ = e.Close() }()
	trees := []etcmerge.Tree{{Dir: e.Defaults}, {Dir: e.Live}, {Snapshot: next.snap}}
	for i, t := range trees[:2] {
		if trees[i].Snapshot, err = etcmerge.Scan(ctx, t.Dir); err != nil {
			return EtcReport{}, sizes, err
		}
	}
	if err := etcmerge.Hash(ctx, trees...); err != nil {
		return EtcReport{}, sizes, err
	}
	sizes.current = trees[1].Snapshot
	changes := req.Etc.Plan(trees[0].Snapshot, sizes.current, next.snap)
	rep, err := newEtcReport(ctx, changes, etcmerge.FromDir(e.Live), next)
	return rep, sizes, err
}

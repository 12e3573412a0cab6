// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"os"
	"slices"
	"time"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose"
	"github.com/hostctl/hostctl/pkg/rpmcompose/pkglist"
	"github.com/hostctl/hostctl/pkg/rpmcompose/sbom"
)

func (a *app) printPlan(p *rpmcompose.Plan) error {
	for _, pkg := range p.Packages {
		a.Line("%s (%s)", pkg.NEVRA(), pkg.Repo)
	}
	a.Line("%d packages, %s; input hash %s", len(p.Packages), ui.Bytes(p.Bytes()), p.InputHash)
	return nil
}

func (a *app) printResult(p *rpmcompose.Plan, res rpmcompose.Result, took time.Duration) {
	for _, s := range res.Steps {
		a.Line("  %-34s %6.1f s  %s", s.Name, s.Took.Seconds(), s.Detail)
	}
	if res.ScriptletLogs != "" {
		a.Line("Output of scriptlets: %s", res.ScriptletLogs)
	}
	a.Line("%s => %s", p.Ref, res.Commit)
	a.Line("Version %s, %d packages, %d new objects of %d, %s written, %.1f s", res.Version, len(p.Packages),
		res.Stats.ContentWritten+res.Stats.MetadataWritten, res.Stats.ContentTotal+res.Stats.MetadataTotal,
		ui.Bytes(res.Stats.BytesWritten), took.Seconds())
}

func (a *app) writeLockfile(name string, p *rpmcompose.Plan) error {
	if name == "" {
		return nil
	}
	data, err := p.JSON()
	if err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// composeJSON has the keys of rpm-ostree's --write-composejson-to, which leaves out
// what a commit has not.
type composeJSON struct {
	Ref             string `json:"ref,omitempty"`
	Commit          string `json:"ostree-commit"`
	Version         string `json:"ostree-version,omitempty"`
	Timestamp       string `json:"ostree-timestamp"`
	ContentChecksum string `json:"ostree-content-checksum"`
	BytesWritten    int64  `json:"ostree-content-bytes-written"`
	MetaTotal       int    `json:"ostree-n-metadata-total"`
	MetaWritten     int    `json:"ostree-n-metadata-written"`
	ContentTotal    int    `json:"ostree-n-content-total"`
	ContentWritten  int    `json:"ostree-n-content-written"`
	CacheHits       int    `json:"ostree-n-cache-hits"`
	InputHash       string `json:"rpm-ostree-inputhash"`
	// PkgDiff is missing without a parent that is there.
	PkgDiff []pkgChangeJSON `json:"pkgdiff,omitzero"`

	// What rpm-ostree does not have.
	Steps         []stepJSON      `json:"hostctl-steps"`
	Scriptlets    []scriptletJSON `json:"hostctl-scriptlets"`
	ScriptletLogs string          `json:"hostctl-scriptlet-logs,omitempty"`
	// SBOMs are paths by format.
	SBOMs map[sbom.Format]string `json:"hostctl-sbom,omitempty"`
}

// pkgChangeJSON is one entry of pkgdiff: the name, the kind of change, and the
// package before and after. Source: rpm-ostree's a(sua{sv}) of package differences,
// as its D-Bus interface documents it.
type pkgChangeJSON struct {
	Name     string
	Kind     int // 0 added, 1 removed, 2 upgraded, 3 downgraded
	Old, New *pkglist.Package
}

// MarshalJSON gives [NAME, KIND, {"PreviousPackage": [NAME, EVR, ARCH], "NewPackage": …}].
func (c pkgChangeJSON) MarshalJSON() ([]byte, error) {
	more := map[string][3]string{}
	for key, p := range map[string]*pkglist.Package{"PreviousPackage": c.Old, "NewPackage": c.New} {
		if p != nil {
			more[key] = [3]string{p.Name, p.Version(), p.Arch}
		}
	}
	return json.Marshal([]any{c.Name, c.Kind, more})
}

// pkgDiff lists how the packages of a commit differ from those of its parent, by kind
// and name, as rpm-ostree sorts them.
func pkgDiff(repo *ostree.Repo, sum ostree.Checksum) ([]pkgChangeJSON, error) {
	commit, err := repo.LoadCommit(sum)
	if err != nil || commit.Parent.IsZero() {
		return nil, err
	}
	d, err := pkglist.CompareCommits(repo, commit.Parent, sum)
	if err != nil || d == nil {
		return nil, err
	}
	out := []pkgChangeJSON{}
	for _, p := range d.Added {
		out = append(out, pkgChangeJSON{Name: p.Name, Kind: 0, New: &p})
	}
	for _, p := range d.Removed {
		out = append(out, pkgChangeJSON{Name: p.Name, Kind: 1, Old: &p})
	}
	for _, p := range d.Upgraded {
		out = append(out, pkgChangeJSON{Name: p.New.Name, Kind: 2, Old: &p.Old, New: &p.New})
	}
	for _, p := range d.Downgraded {
		out = append(out, pkgChangeJSON{Name: p.New.Name, Kind: 3, Old: &p.Old, New: &p.New})
	}
	slices.SortStableFunc(out, func(a, b pkgChangeJSON) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

func writeResults(f treeFlags, repo *ostree.Repo, p *rpmcompose.Plan, res rpmcompose.Result, boms map[sbom.Format]string) error {
	if f.commitTo != "" {
		if err := os.WriteFile(f.commitTo, []byte(res.Commit.String()+"\n"), 0o644); err != nil {
			return err
		}
	}
	if f.touchIfChanged != "" {
		if err := os.WriteFile(f.touchIfChanged, nil, 0o644); err != nil {
			return err
		}
	}
	if f.composeTo == "" {
		return nil
	}
	changes, err := pkgDiff(repo, res.Commit)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(composeJSON{
		Ref: p.Ref, Commit: res.Commit.String(), Version: res.Version, Timestamp: res.Timestamp.UTC().Format(time.RFC3339),
		ContentChecksum: res.ContentChecksum.String(), BytesWritten: res.Stats.ContentBytes,
		MetaTotal: res.Stats.MetadataTotal, MetaWritten: res.Stats.MetadataWritten,
		ContentTotal: res.Stats.ContentTotal, ContentWritten: res.Stats.ContentWritten,
		CacheHits: res.Stats.CacheHits, InputHash: res.InputHash, PkgDiff: changes,
		Steps: stepsJSON(res.Steps), Scriptlets: scriptletsJSON(res.Scriptlets), ScriptletLogs: res.ScriptletLogs, SBOMs: boms,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(f.composeTo, append(data, '\n'), 0o644)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/rpmcompose"
	"github.com/hostctl/hostctl/pkg/rpmcompose/sbom"
)

func (a *app) printPlan(p *rpmcompose.Plan) error {
	for _, pkg := range p.Packages {
		fmt.Fprintf(a.Out, "%s (%s)\n", pkg.NEVRA(), pkg.Repo)
	}
	fmt.Fprintf(a.Out, "%d packages, %s; input hash %s\n", len(p.Packages), ui.Bytes(p.Bytes()), p.InputHash)
	return nil
}

func (a *app) printResult(p *rpmcompose.Plan, res rpmcompose.Result, took time.Duration) {
	for _, s := range res.Steps {
		fmt.Fprintf(a.Out, "  %-34s %6.1f s  %s\n", s.Name, s.Took.Seconds(), s.Detail)
	}
	if res.ScriptletLogs != "" {
		fmt.Fprintf(a.Out, "Output of scriptlets: %s\n", res.ScriptletLogs)
	}
	fmt.Fprintf(a.Out, "%s => %s\n", p.Ref, res.Commit)
	fmt.Fprintf(a.Out, "Version %s, %d packages, %d new objects of %d, %s written, %.1f s\n", res.Version, len(p.Packages),
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

// composeJSON has the keys of rpm-ostree's --write-composejson-to.
type composeJSON struct {
	Ref             string `json:"ref"`
	Commit          string `json:"ostree-commit"`
	Version         string `json:"ostree-version"`
	Timestamp       string `json:"ostree-timestamp"`
	ContentChecksum string `json:"ostree-content-checksum"`
	BytesWritten    int64  `json:"ostree-content-bytes-written"`
	MetaTotal       int    `json:"ostree-n-metadata-total"`
	MetaWritten     int    `json:"ostree-n-metadata-written"`
	ContentTotal    int    `json:"ostree-n-content-total"`
	ContentWritten  int    `json:"ostree-n-content-written"`
	InputHash       string `json:"rpm-ostree-inputhash"`

	// What rpm-ostree does not have.
	Steps         []stepJSON      `json:"hostctl-steps"`
	Scriptlets    []scriptletJSON `json:"hostctl-scriptlets"`
	ScriptletLogs string          `json:"hostctl-scriptlet-logs,omitempty"`
	// SBOMs are paths by format.
	SBOMs map[sbom.Format]string `json:"hostctl-sbom,omitempty"`
}

func writeResults(f treeFlags, p *rpmcompose.Plan, res rpmcompose.Result, boms map[sbom.Format]string) error {
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
	data, err := json.MarshalIndent(composeJSON{
		Ref: p.Ref, Commit: res.Commit.String(), Version: res.Version, Timestamp: res.Timestamp.UTC().Format(time.RFC3339),
		ContentChecksum: res.ContentChecksum.String(), BytesWritten: res.Stats.BytesWritten,
		MetaTotal: res.Stats.MetadataTotal, MetaWritten: res.Stats.MetadataWritten,
		ContentTotal: res.Stats.ContentTotal, ContentWritten: res.Stats.ContentWritten, InputHash: res.InputHash,
		Steps: stepsJSON(res.Steps), Scriptlets: scriptletsJSON(res.Scriptlets), ScriptletLogs: res.ScriptletLogs, SBOMs: boms,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(f.composeTo, append(data, '\n'), 0o644)
}

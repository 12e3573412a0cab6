// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// scriptletLogs is the directory of the cache that holds the output of the last
// compose's scriptlets, one file for each package.
const scriptletLogs = "scriptlets"

func (r *run) scriptlets(ctx context.Context, work, root *fsx.Dir, pkgs []localPackage, asm *assemble.Result, o scripts.Options) error {
	start := time.Now()
	install := scripts.InstallOptions{Filter: r.filter(), Owners: asm.Owners, Progress: r.env.Progress, NoScripts: r.env.NoScriptlets,
		Rules: append(slices.Clip(r.env.ScriptRules), scripts.DefaultRules()...)}
	var rep *scripts.Report
	err := scripts.With(ctx, root, work, o, func(ctx context.Context, s *scripts.Sandbox) (err error) {
		if rep, err = scripts.Install(ctx, s, headers(pkgs), install); err != nil {
			return err
		}
		return r.checkAccounts(s.Root())
	})
	if rep != nil {
		r.res.Scriptlets, r.res.ScriptletLogs = rep.Steps, r.env.Cache.Path()+"/"+scriptletLogs
		if logErr := writeScriptletLogs(r.env.Cache, rep.Steps); logErr != nil {
			return errors.Join(err, fmt.Errorf("keep output of scriptlets: %w", logErr))
		}
	}
	if err != nil {
		if rep != nil {
			return fmt.Errorf("%w (the output of all scriptlets is in %s)", err, r.res.ScriptletLogs)
		}
		return err
	}
	r.reportScriptlets(start, rep)
	return nil
}

func (r *run) reportScriptlets(start time.Time, rep *scripts.Report) {
	skipped := 0
	for _, s := range rep.Steps {
		if s.Skipped != "" {
			skipped++
			r.env.Progress.Message(fmt.Sprintf("Skipped %s: %s", s.Name, s.Skipped))
		}
		if s.Failed != "" {
			r.env.Progress.Message(fmt.Sprintf("Tolerated failure of %s: %s", s.Name, s.Failed))
		}
	}
	r.res.Steps = append(r.res.Steps, Step{Name: "  accounts", Took: rep.Sysusers}, Step{Name: "  owners", Took: rep.Owners, Detail: fmt.Sprintf("%d paths", rep.OwnersSet)})
	for _, s := range slowest(rep.Steps, 5) {
		r.res.Steps = append(r.res.Steps, Step{Name: "  " + s.Name, Took: s.Duration})
	}
	r.res.step("scriptlets", start, "%d run, %d skipped", rep.Scripts, skipped)
}

// slowest gives at most n steps of 50 ms and more, the longest first.
func slowest(list []scripts.Done, n int) []scripts.Done {
	list = slices.DeleteFunc(slices.Clone(list), func(d scripts.Done) bool { return d.Duration < 50*time.Millisecond })
	slices.SortStableFunc(list, func(a, b scripts.Done) int { return cmp.Compare(b.Duration, a.Duration) })
	return list[:min(n, len(list))]
}

// checkAccounts compares the tree's ids with those of the previous commit where
// the treefile asks for it, which is the default except for containers.
func (r *run) checkAccounts(root *fsx.Dir) error {
	m := r.plan.manifest
	if r.prev.commit.IsZero() {
		return nil
	}
	now, err := assemble.TreeAccounts(root)
	if err != nil {
		return fmt.Errorf("read accounts of the tree: %w", err)
	}
	before := r.accounts
	if m.CheckPasswd.Type != treefile.CheckPrevious {
		before.Passwd = ""
	}
	if m.CheckGroups.Type != treefile.CheckPrevious {
		before.Group = ""
	}
	if err := assemble.CheckDrift(before, now); err != nil {
		return fmt.Errorf("compare with commit %s: %w", r.prev.commit, err)
	}
	return nil
}

// writeScriptletLogs replaces the files of the last compose.
func writeScriptletLogs(cache *fsx.Dir, steps []scripts.Done) error {
	if err := cache.RemoveAll(scriptletLogs); err != nil {
		return err
	}
	if err := cache.Mkdir(scriptletLogs, 0o755); err != nil {
		return err
	}
	texts := map[string]*strings.Builder{}
	for _, s := range steps {
		b := texts[s.Package]
		if b == nil {
			b = &strings.Builder{}
			texts[s.Package] = b
		}
		if _, err := s.WriteTo(b); err != nil {
			return err
		}
	}
	for name, b := range texts {
		if err := cache.WriteFile(scriptletLogs+"/"+logName(name), []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// logName is a file name for a package, whose own may hold anything.
func logName(pkg string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == '/' || r > '~' {
			return '_'
		}
		return r
	}, pkg) + ".log"
}

// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// Env is where Execute works and what it adds to the plan.
type Env struct {
	Sources
	// Repo receives the commit.
	Repo *ostree.Repo
	// Version of the commit; "" lets automatic-version-prefix decide.
	Version string
	// Force composes even if the plan's input hash is that of the last commit.
	Force bool
	// NoParent starts a new history on the ref.
	NoParent bool
	// Metadata is added to the commit, as strings.
	Metadata map[string]string
	// Epoch overrides the commit's time (SOURCE_DATE_EPOCH).
	Epoch *time.Time
	// ScriptTimeout limits one scriptlet; 0 means the default of package scripts.
	ScriptTimeout time.Duration
	// LuaHelper is a command that calls scripts.ServeLua; without one, Lua scripts
	// run in this process, where their memory is not bounded.
	LuaHelper []string
	// Sign signs the commit and the repository's summary, once each.
	Sign []sign.Signer
	// ScriptRules stand in front of scripts.DefaultRules.
	ScriptRules []scripts.Rule
	// NoScriptlets and NoInitramfs leave out the slowest steps, to measure the
	// others: such a tree is not meant to be booted. All three make another input
	// hash, so that a compose without them is not taken for unchanged.
	NoScriptlets, NoInitramfs bool
	// Composefs records the digest of the commit's composefs image also where the tree's
	// prepare-root.conf does not ask for one.
	Composefs bool
	// Sizes records in the commit how large its objects are in an archive repository.
	// With them clients know what an update costs; without them the commit is smaller,
	// and the same in repositories of every mode.
	Sizes bool
	// TreefileDir is the treefile's folder, for the programs of finalize.d.
	TreefileDir string
	// LayerRepo has the commits of ostree-layers; nil means Repo.
	LayerRepo *ostree.Repo

	layers []layer
}

// inputHash is that of the plan, unless an option of the compose changes the tree.
func (e *Env) inputHash(p *Plan) string {
	if len(e.ScriptRules)+len(e.layers) == 0 && !e.NoScriptlets && !e.NoInitramfs && !e.Composefs && !e.Sizes {
		return p.InputHash
	}
	h := sha256.New()
	field(h, []byte(p.InputHash))
	field(h, fmt.Appendf(nil, "scriptlets %t initramfs %t", !e.NoScriptlets, !e.NoInitramfs))
	for _, r := range e.ScriptRules {
		field(h, fmt.Appendf(nil, "%q %q %q %d", r.Package, r.Kind, r.Body, r.Action))
	}
	if e.Composefs {
		field(h, []byte("composefs"))
	}
	if e.Sizes {
		field(h, []byte("sizes"))
	}
	for _, l := range e.layers {
		field(h, fmt.Appendf(nil, "layer %s %s", l.key, l.commit))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Step is one part of a compose, for reports.
type Step struct {
	Name   string
	Detail string
	Took   time.Duration
}

// Result tells what Execute made.
type Result struct {
	Commit          ostree.Checksum
	ContentChecksum ostree.Checksum
	Version         string
	Timestamp       time.Time
	Stats           ostree.Stats
	// InputHash is what the commit carries to be recognised by the next compose.
	InputHash string
	Steps     []Step
	// Scriptlets are all scriptlets of the packages, in the order in which they
	// ran; ScriptletLogs is the directory with their output.
	Scriptlets    []scripts.Done
	ScriptletLogs string
}

func (r *Result) step(name string, start time.Time, format string, args ...any) {
	r.Steps = append(r.Steps, Step{Name: name, Took: time.Since(start), Detail: strings.TrimSpace(fmt.Sprintf(format, args...))})
}

// workPrefix begins the name of a work directory in the cache.
const workPrefix = "work-"

// Execute makes the commit that a plan describes. If the ref's last commit came
// from an equal plan it returns that commit with ErrUnchanged. On any error and
// on cancellation the repository is as it was; the work directory is removed.
func Execute(ctx context.Context, plan *Plan, env Env) (Result, error) {
	env.fill()
	prev, err := loadPrevious(env.Repo, plan.Ref)
	if err != nil {
		return Result{}, err
	}
	if env.layers, err = resolveLayers(env.layerRepo(), plan.manifest); err != nil {
		return Result{}, err
	}
	if prev.inputHash == env.inputHash(plan) && !env.Force {
		return Result{Commit: prev.commit, Version: prev.version}, ErrUnchanged
	}
	cache, err := openPackageCache(env)
	if err != nil {
		return Result{}, fmt.Errorf("open package cache: %w", err)
	}
	r := &run{plan: plan, env: env, cache: cache, prev: prev}
	res, err := r.inWork(ctx)
	if closeErr := cache.close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("close package cache: %w", closeErr))
	}
	return res, err
}

func (r *run) inWork(ctx context.Context) (Result, error) {
	cache := r.env.Cache
	if err := removeStaleWork(cache); err != nil {
		return Result{}, err
	}
	work, err := cache.Mkdtemp(workPrefix)
	if err != nil {
		return Result{}, fmt.Errorf("make work directory: %w", err)
	}
	// A commit removes the tree as soon as it has read it, while it waits for the disk.
	r.removeWork = sync.OnceValue(func() error { return cache.RemoveAll(work) })
	res, err := r.do(ctx, work)
	if rmErr := r.removeWork(); rmErr != nil {
		err = errors.Join(err, fmt.Errorf("remove work directory: %w", rmErr))
	}
	return res, err
}

// removeStaleWork drops what a killed compose left; the caller holds the
// cache's lock, so nobody works there.
func removeStaleWork(cache *fsx.Dir) error {
	entries, err := cache.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name, workPrefix) {
			if err := cache.RemoveAll(e.Name); err != nil {
				return fmt.Errorf("remove stale work directory: %w", err)
			}
		}
	}
	return nil
}

// run is one execution.
type run struct {
	plan  *Plan
	env   Env
	cache *packageCache
	prev  previous
	res   Result
	// accounts are those of the previous commit.
	accounts assemble.Accounts
	// removeWork removes the work directory, once.
	removeWork func() error
}

func (r *run) do(ctx context.Context, workName string) (Result, error) {
	work, err := r.env.Cache.OpenDir(workName)
	if err != nil {
		return Result{}, err
	}
	defer work.Close()
	start := time.Now()
	pkgs, err := fetchPackages(ctx, r.plan, r.env.Sources, &imports{r.cache.repo, importer.Options{Filter: r.filter()}})
	if err != nil {
		return Result{}, err
	}
	r.res.step("download and verify", start, "%d packages", len(pkgs))
	layers, err := r.importAll(ctx, pkgs)
	if err != nil {
		return Result{}, err
	}
	asm, err := r.assemble(ctx, layers, work)
	if err != nil {
		return Result{}, err
	}
	if err := r.preparePolicyStore(work); err != nil {
		return Result{}, err
	}
	return r.commit(ctx, work, pkgs, asm)
}

func (r *run) filter() importer.Filter {
	m := r.plan.manifest
	return importer.Filter{NoDocs: !m.Documentation, InstallLangs: m.InstallLangs, IMA: m.IMA}
}

func (r *run) importAll(ctx context.Context, pkgs []localPackage) ([]assemble.Layer, error) {
	start := time.Now()
	sources := make([]importer.Source, len(pkgs))
	for i, p := range pkgs {
		sources[i] = p.source()
	}
	results, err := importer.All(ctx, r.cache.repo, sources, importer.AllOptions{Filter: r.filter(), Logger: r.env.Log, Progress: r.env.Progress})
	if err != nil {
		return nil, err
	}
	layers, cached := make([]assemble.Layer, len(results)), 0
	for i, res := range results {
		layers[i] = assemble.Layer{Package: pkgs[i].pkg, Commit: res.Commit}
		if res.Cached {
			cached++
		}
	}
	r.res.step("import", start, "%d packages, %d from the cache", len(results), cached)
	return layers, nil
}

const rootName = "rootfs"

func (r *run) assemble(ctx context.Context, layers []assemble.Layer, work *fsx.Dir) (*assemble.Result, error) {
	start := time.Now()
	if !r.prev.commit.IsZero() {
		var err error
		if r.accounts, err = assemble.LoadAccounts(ctx, r.env.Repo, r.prev.commit); err != nil {
			return nil, fmt.Errorf("read accounts of the previous commit: %w", err)
		}
	}
	seed, err := r.seedAccounts()
	if err != nil {
		return nil, err
	}
	asm, err := assemble.Assemble(ctx, r.cache.repo, layers, work, rootName, assemble.Options{Filter: r.filter(), Seed: seed, Logger: r.env.Log})
	if err != nil {
		return nil, err
	}
	r.cache.sync()
	r.res.step("assemble", start, "%d files", asm.Files)
	if err := r.addLayers(ctx, work); err != nil {
		return nil, err
	}
	return asm, nil
}

func headers(pkgs []localPackage) []*rpm.Package {
	out := make([]*rpm.Package, len(pkgs))
	for i, p := range pkgs {
		out[i] = p.pkg
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose"
	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// treeFlags are the options of `tree`; the names are those of rpm-ostree compose tree.
type treeFlags struct {
	repo, cache, arch           string
	force, dryRun, noParent     bool
	offline                     bool
	unchanged77                 bool
	version                     string
	metadata                    []string
	commitTo, composeTo, lockTo string
	touchIfChanged              string
	variables                   map[string]string
	scriptTimeout               time.Duration
	scriptRules                 string
	noScriptlets, noInitramfs   bool
	composefs, sizes            bool
	sign                        signFlags
	locks                       lockFlags
	layerRepo, sbomDir          string
}

func (a *app) treeCmd() *cobra.Command {
	var f treeFlags
	cmd := &cobra.Command{
		Use:   "tree TREEFILE --repo DIR",
		Short: "Compose a treefile's packages into a commit",
		Long: `Compose the packages that a treefile names into an OSTree commit on the
treefile's ref. Repositories are the *.repo files beside the treefile.

The repository is made (in archive mode) if it does not exist. When neither the
treefile nor the chosen packages changed since the ref's last commit, nothing is
done. Packages are downloaded and imported once, into the cache. Needs root.

The same packages and treefile give the same commit checksum, wherever and
whenever it is composed. Times in it are those of the newest package, or
SOURCE_DATE_EPOCH (seconds since 1970) of the environment.

The output of every scriptlet is in the folder "scriptlets" of the cache, in a
file for each package. The table at the end says how long each step took.`,
		Example: `  compose-server tree treefile.toml --repo /srv/repo
  compose-server tree treefile.toml --repo /srv/repo --dry-run
  compose-server tree treefile.toml --repo /srv/repo --offline`,
		Args: cli.OneArg("one treefile"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.tree(cmd.Context(), args[0], f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.repo, "repo", "r", "", "repository to commit to")
	fl.StringVar(&f.cache, "cachedir", "", "folder for packages and metadata (default: the user's cache)")
	fl.StringVar(&f.arch, "arch", "x86_64", "architecture to compose for")
	fl.BoolVar(&f.force, "force-nocache", false, "compose even if nothing changed")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the packages and stop")
	fl.BoolVar(&f.offline, "offline", false, "use no network: metadata as the last run left it, packages from the cache")
	fl.BoolVar(&f.noParent, "no-parent", false, "commit without a parent")
	fl.BoolVar(&f.unchanged77, "unchanged-exit-77", false, "exit with 77 when nothing changed")
	fl.StringVar(&f.version, "version", "", "version of the commit (default: from automatic-version-prefix)")
	fl.StringArrayVar(&f.metadata, "add-metadata-string", nil, "KEY=VALUE to add to the commit's metadata (repeatable)")
	fl.StringVar(&f.commitTo, "write-commitid-to", "", "file to write the commit's checksum to")
	fl.StringVar(&f.composeTo, "write-composejson-to", "", "file to write the result to, as JSON")
	fl.StringVar(&f.lockTo, "write-lockfile-to", "", "file to write the chosen packages to, as JSON")
	fl.StringVar(&f.sbomDir, "sbom-dir", "", "folder to write the commit's bills of materials to: COMMIT.spdx.json and COMMIT.cdx.json")
	fl.StringVar(&f.touchIfChanged, "touch-if-changed", "", "file to touch when a commit was made")
	fl.DurationVar(&f.scriptTimeout, "script-timeout", 5*time.Minute, "time limit of one scriptlet")
	fl.StringVar(&f.scriptRules, "script-rules", "", "TOML file with exceptions for scriptlets, before the built-in ones")
	fl.BoolVar(&f.noScriptlets, "no-scriptlets", false, "for measuring only: run no scriptlet; the tree is incomplete and may not boot")
	fl.BoolVar(&f.noInitramfs, "no-initramfs", false, "for measuring only: make no initramfs; the tree does not boot")
	fl.BoolVar(&f.composefs, "generate-composefs-metadata", false, "record the digest of the commit's composefs image also if prepare-root.conf of the tree does not enable composefs")
	fl.BoolVar(&f.sizes, "generate-sizes", false, "record the sizes of objects in an archive repository (ostree.sizes), from which clients know the size of a download; the commit is about 45 bytes larger per object")
	fl.StringToStringVar(&f.variables, "variable", nil, "NAME=VALUE for the treefile's ${NAME} and conditions")
	f.sign.add(fl)
	f.locks.add(fl)
	fl.StringVar(&f.layerRepo, "layer-repo", "", "repository with the commits of ostree-layers (default: that of --repo)")
	_ = cmd.MarkFlagRequired("repo")
	return cmd
}

func (a *app) tree(ctx context.Context, name string, f treeFlags) error {
	start := time.Now()
	// Files of the tree must not depend on the mask of whoever composes.
	syscall.Umask(0o022)
	metadata, err := parseMetadata(f.metadata)
	if err != nil {
		return err
	}
	rules, err := loadRules(f.scriptRules)
	if err != nil {
		return err
	}
	epoch, err := sourceDateEpoch(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	manifest, repos, err := loadTreefile(name, f)
	if err != nil {
		return err
	}
	signers, err := f.sign.signers(ctx, manifest.GPGKey)
	if err != nil {
		return err
	}
	locks, err := f.locks.load()
	if err != nil {
		return err
	}
	cache, err := openCache(f.cache)
	if err != nil {
		return err
	}
	defer cache.Close()
	lock, err := cache.Lock(ctx, "compose.lock", false, 0)
	if err != nil {
		return fmt.Errorf("another compose uses this cache: %w", err)
	}
	defer lock.Unlock()
	src := rpmcompose.Sources{Repos: repos, Cache: cache, Lock: locks, Progress: a.Progress(), Log: a.Log(), Offline: f.offline}
	plan, err := rpmcompose.Resolve(ctx, manifest, src)
	if err != nil {
		return explainOffline(err)
	}
	if err := a.writeLockfile(f.lockTo, plan); err != nil {
		return err
	}
	if f.dryRun {
		return a.printPlan(plan)
	}
	repo, err := openOrCreateRepo(f.repo, a)
	if err != nil {
		return err
	}
	defer repo.Close()
	layers, err := openLayerRepo(f.layerRepo, a)
	if err != nil {
		return err
	}
	if layers != nil {
		defer layers.Close()
	}
	folder, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("find the treefile's folder: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, which interprets Lua: %w", err)
	}
	res, err := rpmcompose.Execute(ctx, plan, rpmcompose.Env{Sources: src, Repo: repo, Version: f.version, Force: f.force,
		NoParent: f.noParent, Metadata: metadata, Epoch: epoch, ScriptTimeout: f.scriptTimeout, Sign: signers, ScriptRules: rules, LuaHelper: []string{self, "internal", "lua"},
		NoScriptlets: f.noScriptlets, NoInitramfs: f.noInitramfs, Composefs: f.composefs, Sizes: f.sizes, TreefileDir: folder, LayerRepo: layers})
	if errors.Is(err, rpmcompose.ErrUnchanged) {
		a.Line("No change: %s is at %s with the same packages and treefile", plan.Ref, res.Commit)
		if f.unchanged77 {
			return err
		}
		return nil
	}
	if err != nil {
		return explainOffline(err)
	}
	a.printResult(plan, res, time.Since(start))
	boms, err := writeSBOMs(ctx, repo, res.Commit, f.sbomDir)
	if err != nil {
		return err
	}
	return writeResults(f, repo, plan, res, boms)
}

// explainOffline says what to do where the cache lacks a file.
func explainOffline(err error) error {
	if errors.Is(err, fetch.ErrOffline) {
		return fmt.Errorf("%w; run once without --offline, with the same --cachedir", err)
	}
	return err
}

// maxRulesFile bounds a file of rules for scriptlets.
const maxRulesFile = 4 << 20

func loadRules(name string) ([]scripts.Rule, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read rules for scriptlets: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRulesFile+1))
	if err != nil {
		return nil, fmt.Errorf("read rules for scriptlets: %w", err)
	}
	if len(data) > maxRulesFile {
		return nil, fmt.Errorf("read rules for scriptlets: %s is larger than %d bytes", name, maxRulesFile)
	}
	return scripts.ParseRules(name, data)
}

// sourceDateEpoch reads the variable of that name; nil where it is not set.
// Source: https://reproducible-builds.org/specs/source-date-epoch/
func sourceDateEpoch(value string) (*time.Time, error) {
	if value == "" {
		return nil, nil
	}
	// Times of the package database have 32 bits.
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return nil, ui.UsageError{Err: fmt.Errorf("SOURCE_DATE_EPOCH=%q: want seconds since 1970", value)}
	}
	t := time.Unix(int64(n), 0)
	return &t, nil
}

func parseMetadata(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, ui.UsageError{Err: fmt.Errorf("--add-metadata-string %q: want KEY=VALUE", kv)}
		}
		out[k] = v
	}
	return out, nil
}

// loadTreefile reads the treefile and every .repo file beside it; neither can
// reach outside of that folder.
func loadTreefile(name string, f treeFlags) (*treefile.Manifest, []rpmmd.Repo, error) {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, nil, fmt.Errorf("open folder of treefile: %w", err)
	}
	vars := map[string]treefile.Value{}
	for k, v := range f.variables {
		vars[k] = treefile.ParseValue(v)
	}
	m, err := treefile.Load(root.FS(), filepath.Base(name), treefile.Options{Basearch: f.arch, Variables: vars})
	if err != nil {
		return nil, nil, err
	}
	files, err := fs.Glob(root.FS(), "*.repo")
	if err != nil {
		return nil, nil, err
	}
	var repos []rpmmd.Repo
	repovars := map[string]string{"basearch": m.Basearch, "releasever": m.Releasever}
	for k, v := range m.Repovars {
		repovars[k] = v
	}
	for _, file := range files {
		data, err := fs.ReadFile(root.FS(), file)
		if err != nil {
			return nil, nil, fmt.Errorf("read repository definition: %w", err)
		}
		list, err := rpmmd.ParseRepos(filepath.Join(filepath.Dir(name), file), data, repovars)
		if err != nil {
			return nil, nil, err
		}
		repos = append(repos, list...)
	}
	return m, repos, nil
}

func openCache(dir string) (*fsx.Dir, error) {
	if dir == "" {
		base := os.Getenv("HOSTCTL_CACHE")
		if base == "" {
			user, err := os.UserCacheDir()
			if err != nil {
				return nil, fmt.Errorf("find the cache folder (name one with --cachedir): %w", err)
			}
			base = filepath.Join(user, "hostctl")
		}
		dir = filepath.Join(base, "compose")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cache folder: %w", err)
	}
	return fsx.OpenDir(dir)
}

func openOrCreateRepo(dir string, a *app) (*ostree.Repo, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make repository folder: %w", err)
	}
	d, err := fsx.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	exists, err := d.Exists("objects")
	if err != nil {
		return nil, err
	}
	open := func() (*ostree.Repo, error) { return ostree.Open(d, ostree.Options{Logger: a.Log()}) }
	if !exists {
		open = func() (*ostree.Repo, error) {
			return ostree.Create(d, ostree.ModeArchive, ostree.Options{Logger: a.Log()})
		}
	}
	r, err := open()
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", dir, err)
	}
	return r, nil
}

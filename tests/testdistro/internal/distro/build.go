// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/tests/testdistro/internal/debian"
)

// formatVersion is part of every cache key: raise it when the conversion, the
// rpmbuild options or the spec writer change what comes out.
const formatVersion = "testdistro-3"

// Options of a build.
type Options struct {
	Out            string // output folder; replaced piece by piece
	Cache          string
	HostctlRoot    string // install root of our own tools; "" for none
	HostctlVersion string
	Treefile       string   // text of treefile.toml
	RepoTemplate   string   // text of the .repo file, with @BASEURL@ and @GPGKEY@
	Jobs           int      // 0 means 2
	Backports      []string // source packages to take from the archive's backports, if newer
	Packages       []string // to have beside those of every build
	Log            func(format string, args ...any)
}

// State is one of the two repositories.
type State struct {
	Number   int
	Packages []*debian.Package
	own      []ownSpec
}

// Name is the repository's folder.
func (s State) Name() string { return fmt.Sprintf("v%d", s.Number) }

// Plan is what a build will make.
type Plan struct {
	Codename string
	States   []State
}

// MakePlan selects the packages of both states from the configured archive, and from its
// backports those that the options name; their lists are kept in the cache.
func MakePlan(ctx context.Context, o Options) (*Plan, error) {
	a, err := debian.LoadArchive(ctx)
	if err != nil {
		return nil, err
	}
	var newer []*debian.Package
	if len(o.Backports) > 0 {
		if newer, err = debian.LoadBackports(ctx, a, filepath.Join(o.Cache, "apt"), o.Backports); err != nil {
			return nil, err
		}
	}
	plan := &Plan{Codename: a.Codename}
	for n, lists := range [][][]*debian.Package{{a.Release, newer}, {a.Release, a.Security, newer}} {
		st, err := makeState(n+1, lists, o.Packages)
		if err != nil {
			return nil, fmt.Errorf("plan state %d: %w", n+1, err)
		}
		plan.States = append(plan.States, st)
	}
	return plan, nil
}

func makeState(number int, lists [][]*debian.Package, more []string) (State, error) {
	st := State{Number: number}
	x, err := debian.NewIndex(lists...)
	if err != nil {
		return st, err
	}
	drop := set(words(dropped)...)
	extras := extrasV1
	if number > 1 {
		extras = extrasV2
	}
	var essential []string
	for _, p := range x.Essential() {
		if !drop[p.Name] {
			essential = append(essential, p.Name)
		}
	}
	essential = append(essential, "mawk") // base-files, which we replace, requires an awk
	names := slices.Concat(words(wanted), words(unlisted), essential, extras, more)
	st.Packages, err = x.Closure(debian.Selection{Names: names, Drop: drop})
	if err != nil {
		return st, err
	}
	st.own, err = ownSpecs(specData{State: number, Essential: essential, Extras: extras})
	return st, err
}

// absorbed finds the package whose files the recipe of p takes, p itself if none.
func (s State) absorbed(p *debian.Package, r Recipe) (*debian.Package, error) {
	if r.Absorb == "" {
		return p, nil
	}
	for _, q := range s.Packages {
		if q.Name != p.Name && r.pattern(r.Absorb).MatchString(q.Name) {
			return q, nil
		}
	}
	return nil, fmt.Errorf("plan %s: no package matches %s", p.Name, r.Absorb)
}

// folded reports packages that exist only as part of another one.
func folded(p *debian.Package) bool {
	for name, r := range recipes() {
		if r.Absorb != "" && name != p.Name && r.pattern(r.Absorb).MatchString(p.Name) {
			return true
		}
	}
	return false
}

// Build makes both repositories in o.Out.
func Build(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Jobs <= 0 {
		o.Jobs = 2
	}
	if err := checkTools(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return err
	}
	start := time.Now()
	plan, err := MakePlan(ctx, o)
	if err != nil {
		return err
	}
	o.Log("planned %d and %d archive packages (%.1f s)", len(plan.States[0].Packages), len(plan.States[1].Packages), time.Since(start).Seconds())
	key, err := loadKey(ctx, filepath.Join(o.Cache, "gnupg"))
	if err != nil {
		return err
	}
	defer key.stopAgent()
	if err := fetchAll(ctx, o, plan); err != nil {
		return err
	}
	f := &forge{cache: o.Cache, key: key, jobs: o.Jobs, log: o.Log}
	lists, all, err := allJobs(o, plan, key)
	if err != nil {
		return err
	}
	start = time.Now()
	built, err := f.run(ctx, all)
	if err != nil {
		return err
	}
	o.Log("packages: %d built, %d from the cache (%.1f s)", built, len(all)-built, time.Since(start).Seconds())
	if err := publish(ctx, o, f, plan, lists); err != nil {
		return err
	}
	return trimCache(o.Cache, used(plan, all), time.Now())
}

func fetchAll(ctx context.Context, o Options, plan *Plan) error {
	seen := map[string]bool{}
	var list []*debian.Package
	for _, st := range plan.States {
		for _, p := range st.Packages {
			if !seen[p.SHA256] {
				seen[p.SHA256] = true
				list = append(list, p)
			}
		}
	}
	start := time.Now()
	n, size, err := debian.Download(ctx, filepath.Join(o.Cache, "debs"), list, func(done, total int) {
		o.Log("downloaded %d/%d", done, total)
	})
	if err != nil {
		return err
	}
	if n > 0 {
		o.Log("downloads: %d packages, %d MiB (%.1f s)", n, size>>20, time.Since(start).Seconds())
	}
	return nil
}

// allJobs lists the jobs of each state, and of both together.
func allJobs(o Options, plan *Plan, key signingKey) (lists [][]job, all []job, err error) {
	seen := map[string]bool{}
	for _, st := range plan.States {
		jobs, err := stateJobs(o, st, key)
		if err != nil {
			return nil, nil, err
		}
		lists = append(lists, jobs)
		for _, j := range jobs {
			if !seen[j.key] {
				seen[j.key] = true
				all = append(all, j)
			}
		}
	}
	return lists, all, nil
}

func stateJobs(o Options, st State, key signingKey) ([]job, error) {
	var jobs []job
	for _, p := range st.Packages {
		if folded(p) {
			continue
		}
		j, err := debJob(o, st, p, key)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	for _, s := range st.own {
		jobs = append(jobs, ownJob(s, key))
	}
	if o.HostctlRoot != "" {
		j, err := hostctlJob(o, key)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// jobKey hashes what decides a result; JSON keeps the parts apart.
func jobKey(parts ...any) (string, error) {
	data, err := json.Marshal(append([]any{formatVersion}, parts...))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

func debJob(o Options, st State, p *debian.Package, key signingKey) (job, error) {
	r := recipe(p.Name)
	from, err := st.absorbed(p, r)
	if err != nil {
		return job{}, err
	}
	k, err := jobKey("deb", p.SHA256, from.SHA256, r, words(dropped), words(standardDirs), skipAlways.String(), key.fingerprint)
	if err != nil {
		return job{}, err
	}
	prepare := func(ctx context.Context, work string) (*recipeOutput, error) {
		root := filepath.Join(work, "root")
		u, err := unpackDeb(ctx, debian.DebPath(filepath.Join(o.Cache, "debs"), from), root, r)
		if err != nil {
			return nil, err
		}
		c, err := convert(p, u, r, set(words(dropped)...), root)
		if err != nil {
			return nil, err
		}
		out := &recipeOutput{spec: filepath.Join(work, p.Name+".spec"), buildRoot: root, epoch: u.newest.Unix(), wantFiles: len(u.files)}
		if out.epoch <= 0 {
			out.epoch = ownEpoch
		}
		if out.meta, err = readMeta(root, u, c); err != nil {
			return nil, err
		}
		return out, os.WriteFile(out.spec, []byte(c.spec.Text()), 0o644)
	}
	return job{name: p.Name, key: k, weight: from.Size, prepare: prepare}, nil
}

func readMeta(root string, u *unpacked, c *converted) (meta, error) {
	m := meta{KVER: c.kver}
	r, err := openChangelog(root, u.control["Package"])
	if err != nil || r == nil {
		return m, err
	}
	defer r.Close()
	m.Changes = parseChangelog(r, 12)
	return m, nil
}

func ownJob(s ownSpec, key signingKey) job {
	k, _ := jobKey("own", s.Text, key.fingerprint) // strings always marshal
	return job{name: s.Name, key: k, prepare: func(_ context.Context, work string) (*recipeOutput, error) {
		spec := filepath.Join(work, s.Name+".spec")

		return &recipeOutput{spec: spec, epoch: ownEpoch}, os.WriteFile(spec, []byte(strings.TrimLeft(s.Text, "\n")), 0o644)
	}}
}

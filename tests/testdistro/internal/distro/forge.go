// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// ownEpoch dates the packages that no .deb dates: 2024-01-01. Signatures and
// the key carry it too, so a second build with the same key gives equal bytes.
const ownEpoch = 1704067200

// job makes one RPM.
type job struct {
	name   string
	key    string // hex SHA-256 over everything that decides the result
	weight int64  // the heaviest start first
	// prepare writes the spec into work and returns how rpmbuild has to treat it.
	prepare func(ctx context.Context, work string) (*recipeOutput, error)
}

// recipeOutput is what prepare leaves for rpmbuild.
type recipeOutput struct {
	spec      string // path
	buildRoot string // path of a filled build root; "" where %install fills it
	epoch     int64
	wantFiles int // entries the package must have; 0: not checked
	meta      meta
}

// meta is stored beside a cached RPM.
type meta struct {
	Name    string      `json:"name"`
	File    string      `json:"file"`
	KVER    string      `json:"kver,omitempty"`
	Changes []debChange `json:"changes,omitempty"`
}

// forge builds RPMs into a cache. Layout: rpms/KEY/{FILE.rpm,meta.json}; a
// folder of that name is complete, since it arrives by rename.
type forge struct {
	cache string
	key   signingKey
	jobs  int
	log   func(format string, args ...any)
}

func (f *forge) dir(key string) string { return filepath.Join(f.cache, "rpms", key) }

// load returns the cached result of a key.
func (f *forge) load(key string) (meta, string, error) {
	var m meta
	data, err := os.ReadFile(filepath.Join(f.dir(key), "meta.json"))
	if err != nil {
		return m, "", err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, "", fmt.Errorf("read cached meta.json of %s: %w", key, err)
	}
	file := filepath.Join(f.dir(key), m.File)
	_, err = os.Stat(file)
	return m, file, err
}

// run builds every job whose result is not cached, signs the new packages in
// one go, and moves them into the cache. It returns how many were built.
func (f *forge) run(ctx context.Context, list []job) (int, error) {
	var todo []job
	seen := map[string]bool{}
	for _, j := range list {
		if _, _, err := f.load(j.key); err == nil || seen[j.key] {
			continue
		}
		seen[j.key] = true
		todo = append(todo, j)
	}
	if len(todo) == 0 {
		return 0, nil
	}
	slices.SortStableFunc(todo, func(a, b job) int { return int(min(max(b.weight-a.weight, -1), 1)) })
	work, err := os.MkdirTemp(f.cache, "work-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(work)
	done, buildErr := f.buildAll(ctx, work, todo)
	// One bad package must not cost the others' time again.
	if err := f.keep(context.WithoutCancel(ctx), work, done); err != nil {
		return 0, errors.Join(buildErr, err)
	}
	return len(done), buildErr
}

// buildAll returns the jobs that succeeded, and the first error.
func (f *forge) buildAll(ctx context.Context, work string, todo []job) ([]job, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.jobs)
	var mu sync.Mutex
	var done []job
	for _, j := range todo {
		g.Go(func() error {
			start := time.Now()
			if err := f.build(ctx, filepath.Join(work, j.key), j); err != nil {
				return fmt.Errorf("build %s: %w", j.name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			done = append(done, j)
			if n, d := len(done), time.Since(start); d > 8*time.Second || n%50 == 0 || n == len(todo) {
				f.log("built %d/%d (%s, %.1f s)", n, len(todo), j.name, d.Seconds())
			}
			return nil
		})
	}
	err := g.Wait()
	return done, err
}

// build leaves exactly the RPM and meta.json in dir.
func (f *forge) build(ctx context.Context, dir string, j job) error {
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	out, err := j.prepare(ctx, work)
	if err != nil {
		return err
	}
	if err := rpmbuild(ctx, work, dir, out); err != nil {
		return err
	}
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.rpm"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("rpmbuild left %d packages, want 1", len(found))
	}
	if err := checkFiles(ctx, found[0], out.wantFiles); err != nil {
		return err
	}
	out.meta.Name, out.meta.File = j.name, filepath.Base(found[0])
	data, err := json.Marshal(out.meta)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "meta.json"), data, 0o644)
}

// keep signs what was built and publishes it in the cache.
func (f *forge) keep(ctx context.Context, work string, todo []job) error {
	var files []string
	for _, j := range todo {
		found, err := filepath.Glob(filepath.Join(work, j.key, "*.rpm"))
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	start := time.Now()
	if err := f.key.signPackages(ctx, files); err != nil {
		return err
	}
	f.log("signed %d packages (%.1f s)", len(files), time.Since(start).Seconds())
	if err := os.MkdirAll(filepath.Join(f.cache, "rpms"), 0o755); err != nil {
		return err
	}
	for _, j := range todo {
		err := os.Rename(filepath.Join(work, j.key), f.dir(j.key))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// generators are rpm's dependency generators that would look for RPM names of
// perl, python … modules. ELF and scripts stay on.
var generators = []string{"perl", "perllib", "python", "pythondist", "pythonname", "pkgconfig", "metainfo", "desktop", "ocaml", "libtool", "font", "rpm_macro", "debuginfo"}

// requiresExclude names what scripts and plugins of Debian's packages refer to
// without depending on it: examples with odd interpreters, iproute2's plugin for
// ATM networks.
const requiresExclude = `^(/usr/local/.*|/usr/bin/perl5.*|/usr/bin/pkg-config|libatm\.so.*)$`

// rpmbuild runs one build. Time, host and clamped mtimes make equal input give
// equal bytes.
func rpmbuild(ctx context.Context, work, out string, r *recipeOutput) error {
	args := []string{"-bb", "--quiet", "--nodeps", "--target", "x86_64-linux"}
	define := func(name, value string) { args = append(args, "--define", name+" "+value) }
	define("_topdir", work)
	define("_rpmdir", out)
	define("_build_name_fmt", "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm")
	define("_binary_payload", "w3.zstdio")
	define("_build_id_links", "none")
	define("debug_package", "%{nil}")
	define("__os_install_post", "%{nil}")
	define("_unpackaged_files_terminate_build", "0")
	define("_binaries_in_noarch_packages_terminate_build", "0")
	define("source_date_epoch_from_changelog", "0")
	define("use_source_date_epoch_as_buildtime", "1")
	define("clamp_mtime_to_source_date_epoch", "1")
	define("_buildhost", "build.example.test")
	define("_changelog_trimtime", "0")
	define("__requires_exclude", requiresExclude)
	for _, g := range generators {
		for _, k := range []string{"requires", "provides", "recommends", "conflicts"} {
			define("__"+g+"_"+k, "%{nil}")
		}
	}
	if r.buildRoot != "" {
		define("__spec_install_pre", "%{___build_pre}")
		args = append(args, "--buildroot", r.buildRoot)
	} else {
		args = append(args, "--buildroot", filepath.Join(work, "root"))
	}
	cmd := exec.CommandContext(ctx, "rpmbuild", append(args, r.spec)...)
	// A personal ~/.rpmmacros must not change the packages.
	cmd.Env = append(os.Environ(), "HOME="+work, "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.epoch, 10), "LC_ALL=C.UTF-8", "TZ=UTC")
	outText, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("rpmbuild: %w: %s", err, tail(outText, 1500))
	}
	return nil
}

// checkFiles catches a %files line that rpm understood as something else.
func checkFiles(ctx context.Context, file string, want int) error {
	if want == 0 {
		return nil
	}
	out, err := exec.CommandContext(ctx, "rpm", "-qp", "--nosignature", "--qf", "[%{FILENAMES}\n]", file).Output()
	if err != nil {
		return fmt.Errorf("list files of %s: %w", filepath.Base(file), err)
	}
	if got := bytes.Count(out, []byte("\n")); got != want {
		return fmt.Errorf("%s holds %d files, want %d", filepath.Base(file), got, want)
	}
	return nil
}

func tail(b []byte, n int) string {
	s := strings.TrimSpace(string(b))
	if len(s) > n {
		s = "… " + s[len(s)-n:]
	}
	return s
}

// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// archiveKeys verify every suite of the archive.
const archiveKeys = "/usr/share/keyrings/debian-archive-keyring.gpg"

// LoadBackports lists the packages that the archive's backports suite has of some source
// packages. The machine's apt is not touched: its mirror is asked with package lists of
// their own, kept in dir, and what is listed there counts until they are removed.
func LoadBackports(ctx context.Context, a *Archive, dir string, sources []string) ([]*Package, error) {
	suite := a.Codename + "-backports"
	dir = filepath.Join(dir, suite)
	conf, err := privateApt(dir, "deb [signed-by="+archiveKeys+"] "+a.Mirror+" "+suite+" main\n")
	if err != nil {
		return nil, fmt.Errorf("set up apt for %s: %w", suite, err)
	}
	list, err := backportsIndex(ctx, dir, conf, Suite{Codename: suite, Config: conf})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", suite, err)
	}
	if list, err = OfSources(list, sources); err != nil {
		return nil, fmt.Errorf("read %s: %w", suite, err)
	}
	return list, nil
}

// OfSources picks the packages that were built of some source packages, of which each
// must have one.
func OfSources(list []*Package, sources []string) ([]*Package, error) {
	var out []*Package
	have := map[string]bool{}
	for _, p := range list {
		if slices.Contains(sources, p.Source) {
			out = append(out, p)
			have[p.Source] = true
		}
	}
	for _, s := range sources {
		if !have[s] {
			return nil, fmt.Errorf("no package of the source package %s", s)
		}
	}
	return out, nil
}

// privateApt makes a configuration file for APT_CONFIG.
func privateApt(dir, sources string) (conf string, err error) {
	for _, d := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	conf = filepath.Join(dir, "apt.conf")
	text := fmt.Sprintf(`Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "%[1]s/lists";
Dir::Cache "%[1]s";
APT::Sandbox::User "root";
`, dir)
	return conf, errors.Join(os.WriteFile(filepath.Join(dir, "sources.list"), []byte(sources), 0o644),
		os.WriteFile(conf, []byte(text), 0o644))
}

func backportsIndex(ctx context.Context, dir, conf string, suite Suite) ([]*Package, error) {
	files, err := filepath.Glob(filepath.Join(dir, "lists", "*_Packages*"))
	if err == nil && len(files) == 0 {
		if out, err := aptGet(ctx, conf, "update", "-qq").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("update the package lists: %w: %s", err, strings.TrimSpace(string(out)))
		}
		files, err = filepath.Glob(filepath.Join(dir, "lists", "*_Packages*"))
	}
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("the mirror has no such suite")
	}
	var all []*Package
	for _, f := range files {
		list, err := readIndexFile(ctx, f, suite)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// aptGet runs with the configuration of a suite.
func aptGet(ctx context.Context, conf string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	if conf != "" {
		cmd.Env = append(os.Environ(), "APT_CONFIG="+conf)
	}
	return cmd
}

// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
)

// verifyState asks rpm whether all packages of a state install together: every
// dependency met, no conflict between packages or files.
func verifyState(ctx context.Context, cache, dir string, pkgs []published) error {
	db, err := os.MkdirTemp(cache, "db-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(db)
	// ignoresize: the test transaction would look at this machine's disks.
	args := []string{"--dbpath", db, "--force-debian", "-i", "--test", "--nosignature", "--ignoresize"}
	for _, p := range pkgs {
		args = append(args, filepath.Join(dir, p.File))
	}
	if out, err := exec.CommandContext(ctx, "rpm", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("test installation of %d packages: %w: %s", len(pkgs), err, tail(out, 3000))
	}
	return nil
}

// verifyOrder asks rpm whether every updated package compares newer: the
// mapping of versions has to keep dpkg's order.
func verifyOrder(ctx context.Context, before, now []published) error {
	old := map[string]string{}
	for _, p := range before {
		old[p.Name] = p.EVR
	}
	var lua strings.Builder
	want := 0
	for _, p := range now {
		if evr, ok := old[p.Name]; ok && evr != p.EVR {
			fmt.Fprintf(&lua, "if not (rpm.ver(%q) > rpm.ver(%q)) then print(%q .. ' ') end ", p.EVR, evr, p.Name)
			want++
		}
	}
	if want == 0 {
		return nil
	}
	out, err := exec.CommandContext(ctx, "rpm", "--eval", "%{lua:"+lua.String()+"}").Output()
	if err != nil {
		return fmt.Errorf("compare versions: %w", err)
	}
	if bad := strings.TrimSpace(string(out)); bad != "" {
		return fmt.Errorf("compare versions: not newer than in the state before: %s", bad)
	}
	return nil
}

// verifyTreefile sees to it that the state has every package the treefile names.
func verifyTreefile(text string, pkgs []published) error {
	var t struct {
		Packages []string `toml:"packages"`
	}
	if _, err := toml.Decode(text, &t); err != nil {
		return fmt.Errorf("read treefile.toml: %w", err)
	}
	have := map[string]bool{}
	for _, p := range pkgs {
		have[p.Name] = true
	}
	for _, n := range t.Packages {
		if !have[n] {
			return fmt.Errorf("read treefile.toml: package %s is not in the repository", n)
		}
	}
	return nil
}

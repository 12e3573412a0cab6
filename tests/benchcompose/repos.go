// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/hostctl/hostctl/tests/measure"
)

// changed are the packages of the second state that the update brings.
var changed = []string{"rsync-", "unzip-", "tzdata-"}

// bootable is the treefile of a tree that has what an initramfs needs.
const bootable = "bootable.toml"

type bench struct {
	options
	treefile                string
	dnf, ostree, createrepo string
	packages                []string
	count                   int
}

func (b *bench) path(elem ...string) string {
	return filepath.Join(append([]string{b.dir}, elem...)...)
}

// prepare makes two repositories, old and new, which differ in the packages of
// changed, and for each a treefile and a configuration of dnf.
func (b *bench) prepare(ctx context.Context) error {
	var tree struct{ Packages []string }
	if _, err := toml.DecodeFile(b.treefile, &tree); err != nil {
		return err
	}
	b.packages = tree.Packages
	for _, state := range []string{"old", "new"} {
		if err := b.repository(ctx, state); err != nil {
			return fmt.Errorf("make repository %s: %w", state, err)
		}
		if err := b.definitions(state); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) repository(ctx context.Context, state string) error {
	dir := b.path(state, "Packages")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	list, err := os.ReadDir(filepath.Join(b.distro, "v1", "Packages"))
	if err != nil {
		return err
	}
	b.count = len(list)
	for _, e := range list {
		from := filepath.Join(b.distro, "v1", "Packages", e.Name())
		if i := updated(e.Name()); state == "new" && i >= 0 {
			if from, err = newest(filepath.Join(b.distro, "v2", "Packages"), changed[i]); err != nil {
				return err
			}
		}
		to := filepath.Join(dir, filepath.Base(from))
		if os.Link(from, to) == nil {
			continue
		}
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			return err
		}
	}
	_, _, err = measure.Run(ctx, nil, b.createrepo, "--quiet", b.path(state))
	return err
}

func updated(file string) int {
	for i, prefix := range changed {
		if strings.HasPrefix(file, prefix) {
			return i
		}
	}
	return -1
}

func newest(dir, prefix string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, prefix+"*.rpm"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d packages in %s begin with %s, want one", len(found), dir, prefix)
	}
	return found[0], nil
}

// definitions writes what both programs read. Packages are verified by both; the
// metadata is made here and has no signature.
func (b *bench) definitions(state string) error {
	tree, err := os.ReadFile(b.treefile)
	if err != nil {
		return err
	}
	repo := fmt.Sprintf("[testdistro]\nname=TestDistro\nbaseurl=file://%s\nenabled=1\ngpgcheck=1\nrepo_gpgcheck=0\ngpgkey=file://%s\n",
		b.path(state), filepath.Join(b.distro, "RPM-GPG-KEY-testdistro"))
	for name, text := range map[string]string{
		"tree/treefile.toml": string(tree), "tree/" + bootable: "include = \"treefile.toml\"\npackages = [\"hostctl\"]\n", "tree/testdistro.repo": repo, "dnf/testdistro.repo": repo, "dnf.conf": "[main]\ngpgcheck=1\n",
	} {
		name = b.path(state+".conf", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

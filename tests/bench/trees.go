// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/tests/lab"
)

// inputs are the trees, in the forms that the works start from.
type inputs struct {
	archive  string // repository with v1 and v2 as refs v1 and v2, no delta
	deltas   string // the same with a delta from v1 to v2
	bare     string // bare repository with both
	bareV1   string // bare repository with v1 only
	tree     string // checkout of v1
	from, to string // checksums
	files    int
	bytes    int64
}

// trees measures the test distribution.
func (b *bench) trees(ctx context.Context) (err error) {
	if err := b.lab.Prepare(ctx); err != nil {
		return err
	}
	in, err := b.inputs(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\nThe tree of v1 has %d files and links, %s.\n", in.files, mib(in.bytes))
	if err := b.header(); err != nil {
		return err
	}
	if b.web, err = startServer(ctx, b.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.web.close()) }()
	for _, w := range append(b.localWorks(in), b.networkWorks(in, b.web.url)...) {
		if err := b.measure(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) inputs(ctx context.Context) (in inputs, err error) {
	p := func(name string) string { return filepath.Join(b.dir, name) }
	in = inputs{archive: p("archive"), deltas: p("deltas"), bare: p("bare"), bareV1: p("bare-v1"), tree: p("tree")}
	if in.from, err = b.lab.Rev(lab.Ref + "^"); err != nil {
		return in, err
	}
	if in.to, err = b.lab.Rev(lab.Ref); err != nil {
		return in, err
	}
	pull := func(repo, mode string, commits ...string) error {
		if err := b.peerRun(ctx, "init", "--repo="+repo, "--mode="+mode); err != nil {
			return err
		}
		for _, c := range commits {
			if err := b.peerRun(ctx, "pull-local", "--repo="+repo, "--disable-fsync", b.lab.Repo, c); err != nil {
				return err
			}
			name := map[string]string{in.from: "v1", in.to: "v2"}[c]
			if err := b.peerRun(ctx, "refs", "--repo="+repo, c, "--create="+name); err != nil {
				return err
			}
		}
		return nil
	}
	for _, step := range []func() error{
		func() error { return pull(in.archive, "archive", in.from, in.to) },
		func() error { return pull(in.bare, "bare", in.from, in.to) },
		func() error { return pull(in.bareV1, "bare", in.from) },
		func() error { return b.peerRun(ctx, "summary", "--repo="+in.archive, "-u") },
		func() error { return copyRepo(ctx, in.archive, in.deltas) },
		func() error { return b.makeDelta(ctx, in) },
		func() error { return b.peerRun(ctx, "checkout", "--repo="+in.bare, "-C", "v1", in.tree) },
	} {
		if err := step(); err != nil {
			return in, err
		}
	}
	in.files, in.bytes, err = count(in.tree)
	return in, err
}

// makeDelta is made by our program, which is much faster; both programs get it.
func (b *bench) makeDelta(ctx context.Context, in inputs) error {
	if !b.only.MatchString("pull by delta") {
		return nil
	}
	out, err := exec.CommandContext(ctx, b.programs[ours], "static-delta", "generate", "--repo="+in.deltas, "--from="+in.from, "--to="+in.to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make a delta: %w\n%s", err, out)
	}
	return b.peerRun(ctx, "summary", "--repo="+in.deltas, "-u")
}

// copyRepo makes a repository with the same objects as hard links.
func copyRepo(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", "-al", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w\n%s", from, err, out)
	}
	// What is rewritten in place by some program must not be shared.
	for _, name := range []string{"config", "summary"} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(to, name)); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func count(tree string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(tree, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		files++
		bytes += info.Size()
		return err
	})
	return files, bytes, err
}

func dirSize(dir string) (int64, error) {
	_, n, err := count(dir)
	return n, err
}

// deltaSize is what a client fetches for the delta: its files, and the objects
// that it leaves out.
func (b *bench) deltaSize(dir string) (int64, error) {
	total, err := dirSize(filepath.Join(repo(dir), "deltas"))
	if err != nil {
		return 0, err
	}
	fallbacks, err := b.fallbacks(repo(dir))
	return total + fallbacks, err
}

// fallbacks sums the objects that the delta in repo leaves to be fetched whole.
func (b *bench) fallbacks(repo string) (int64, error) {
	list, err := exec.Command(b.programs[theirs], "static-delta", "list", "--repo="+repo).Output()
	if err != nil {
		return 0, fmt.Errorf("list the deltas: %w", err)
	}
	out, err := exec.Command(b.programs[theirs], "static-delta", "show", "--repo="+repo, strings.TrimSpace(string(list))).Output()
	if err != nil {
		return 0, fmt.Errorf("show the delta: %w", err)
	}
	m := regexp.MustCompile(`Total Fallback Size: (\d+)`).FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("show the delta: no size of fallbacks in\n%s", out)
	}
	return strconv.ParseInt(string(m[1]), 10, 64)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// growth measures made-up trees of several sizes with our program alone: time
// per file and memory must stay flat. What a run made is removed before the next, which
// has the memory that it was in: see forget. So the median is of runs with memory at hand,
// where the folder is in memory, too.
func (b *bench) growth(ctx context.Context, sizes string) (err error) {
	if b.web, err = startServer(ctx, b.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.web.close()) }()
	fmt.Printf("| files | work | wall | CPU | wall per file | CPU per file | memory |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, text := range strings.Split(sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("--growth: %w", err)
		}
		if err := b.grow(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) grow(ctx context.Context, n int) error {
	p := func(name string) string { return filepath.Join(b.dir, fmt.Sprintf("%s-%d", name, n)) }
	in := inputs{archive: p("archive"), bare: p("bare"), tree: p("tree")}
	if err := makeTree(in.tree, n); err != nil {
		return err
	}
	commit := func(repo string) []string {
		return []string{"commit", "--repo=" + repo, "--branch=v1", "--tree=dir=" + in.tree}
	}
	for _, w := range []work{
		{name: "commit to archive", prepare: b.initAnew(in.archive, "archive"), reads: []string{in.tree}, argv: func(string) []string { return commit(in.archive) }},
		{name: "commit to bare", prepare: b.initAnew(in.bare, "bare"), reads: []string{in.tree}, argv: func(string) []string { return commit(in.bare) }},
		{name: "pull over HTTP, archive to bare", prepare: func(ctx context.Context, dir string) error {
			if err := b.initRepo("bare")(ctx, dir); err != nil {
				return err
			}
			return b.peerRun(ctx, "remote", "add", "--repo="+repo(dir), "--no-gpg-verify", "origin", b.web.url+"/"+filepath.Base(in.archive))
		}, reads: []string{in.archive}, argv: func(dir string) []string { return []string{"pull", "--repo=" + repo(dir), "origin", "v1"} }},
		{name: "fsck", reads: []string{in.bare}, argv: func(string) []string { return []string{"fsck", "--quiet", "--repo=" + in.bare} }},
		{name: "hard-link checkout", argv: func(dir string) []string {
			return []string{"checkout", "--repo=" + in.bare, "--require-hardlinks", "v1", filepath.Join(dir, "out")}
		}},
	} {
		s, err := b.again(ctx, w)
		if err != nil {
			return fmt.Errorf("%s of %d files: %w", w.name, n, err)
		}
		each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(n) }
		fmt.Printf("| %d | %s | %.2f s | %.2f s | %.0f µs | %.0f µs | %s |\n", n, w.name, s.wall.Seconds(), s.cpu.Seconds(), each(s.wall), each(s.cpu), mib(s.maxRSS))
	}
	return removeAll(in.tree)
}

// again gives the median of the rounds of a work.
func (b *bench) again(ctx context.Context, w work) (sample, error) {
	var got []sample
	for range b.rounds {
		s, err := b.once(ctx, w, ours)
		if err == nil {
			err = removeAll(b.runDir())
		}
		if err != nil {
			return sample{}, err
		}
		got = append(got, s)
	}
	return median(got), nil
}

// initAnew makes an empty repository where an earlier round left one.
func (b *bench) initAnew(name, mode string) func(context.Context, string) error {
	return func(ctx context.Context, _ string) error {
		if err := removeAll(name); err != nil {
			return err
		}
		return b.peerRun(ctx, "init", "--repo="+name, "--mode="+mode)
	}
}

// makeTree writes n files of up to 16 KiB, a hundred in a folder; the same n
// gives the same tree.
func makeTree(dir string, n int) error {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	data := make([]byte, 16<<10)
	for i := range n {
		folder := filepath.Join(dir, strconv.Itoa(i/10000), strconv.Itoa(i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return err
			}
		}
		// Half of the bytes repeat, as in programs and texts.
		size := r.IntN(len(data))
		for j := range size {
			data[j] = "the quick brown fox "[j%20]
			if j/64%2 == 0 {
				data[j] = byte(r.Uint32())
			}
		}
		if err := os.WriteFile(filepath.Join(folder, strconv.Itoa(i)), data[:size], 0o644); err != nil {
			return err
		}
	}
	return nil
}

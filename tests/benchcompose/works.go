// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/tests/measure"
)

// The works, in the order in which a round does them: each continues where the
// one before ended.
var works = []struct {
	name, state string
	ratio       float64       // limit of our time as a part of the peer's; 0: none
	wall        time.Duration // limit of our time; 0: none
}{
	{name: "cold", state: "old", ratio: 0.30},
	{name: "unchanged", state: "old", wall: time.Second},
	{name: "three packages changed", state: "new", ratio: 0.08},
}

const maxMemory = 400 << 20

// all measures and prints the table.
func (b *bench) all(ctx context.Context) error {
	ours, theirs := make([]measure.Sample, len(works)), make([]measure.Sample, len(works))
	for round := range b.rounds {
		if err := b.round(ctx, round, ours, theirs); err != nil {
			return err
		}
	}
	fmt.Println("| work | dnf + ostree | ours | ratio | of CPU time | limit |\n| --- | --- | --- | --- | --- | --- |")
	var missed []string
	for i, w := range works {
		// An unchanged or updated tree costs the peer what a new one costs.
		peer := theirs[i]
		if peer.Wall == 0 {
			peer = theirs[0]
		}
		ratio := ours[i].Wall.Seconds() / peer.Wall.Seconds()
		limit := fmt.Sprintf("%.2f", w.ratio)
		ok := ratio <= w.ratio
		if w.wall > 0 {
			limit, ok = w.wall.String(), ours[i].Wall <= w.wall
		}
		fmt.Printf("| %s | %s | %s | %.3f | %.3f | %s |\n", w.name, peer, ours[i], ratio, ours[i].CPU.Seconds()/peer.CPU.Seconds(), limit)
		if !ok {
			missed = append(missed, w.name)
		}
		if ours[i].Peak > maxMemory {
			missed = append(missed, w.name+" (memory)")
		}
	}
	if b.profile {
		if err := b.withScriptlets(ctx); err != nil {
			return err
		}
	}
	if b.check && len(missed) > 0 {
		return errors.New("limits are not met: " + strings.Join(missed, ", "))
	}
	return nil
}

// round does every work once with both programs; the first one alternates.
func (b *bench) round(ctx context.Context, round int, ours, theirs []measure.Sample) error {
	for _, name := range []string{"cache", "repo", "peer", "peer-cache", "peer-repo"} {
		if err := removeAll(b.path(name)); err != nil {
			return err
		}
	}
	for i, w := range works {
		turns := []func() error{
			func() error {
				return b.best(&ours[i], func() (measure.Sample, error) { return b.compose(ctx, w.state) })
			},
			func() error {
				if w.wall > 0 {
					return nil
				}
				return b.best(&theirs[i], func() (measure.Sample, error) { return b.peer(ctx, w.state) })
			},
		}
		for n := range turns {
			if err := turns[(n+round)%len(turns)](); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	return nil
}

// best keeps the run with the least wall time.
func (b *bench) best(s *measure.Sample, run func() (measure.Sample, error)) error {
	syscall.Sync() // what is left to write belongs to others
	got, err := run()
	if err == nil && (s.Wall == 0 || got.Wall < s.Wall) {
		*s = got
	}
	return err
}

func (b *bench) composeArgs(state, treefile string) []string {
	return []string{b.program, "--progress=none", "tree", b.path(state+".conf", "tree", treefile), "--repo", b.path("repo"), "--cachedir", b.path("cache")}
}

func (b *bench) compose(ctx context.Context, state string) (measure.Sample, error) {
	s, out, err := measure.Run(ctx, nil, append(b.composeArgs(state, "treefile.toml"), "--no-scriptlets", "--no-initramfs")...)
	if err == nil {
		fmt.Fprintf(os.Stderr, "ours, %s: %s\n%s\n", state, s, out)
	}
	return s, err
}

// peer installs into an empty root and commits that.
func (b *bench) peer(ctx context.Context, state string) (measure.Sample, error) {
	if err := removeAll(b.path("peer")); err != nil {
		return measure.Sample{}, err
	}
	// dnf does not make the folder of its library's log.
	if err := os.MkdirAll(b.path("peer-log"), 0o755); err != nil {
		return measure.Sample{}, err
	}
	if _, err := os.Stat(b.path("peer-repo")); errors.Is(err, os.ErrNotExist) {
		if _, _, err := measure.Run(ctx, nil, b.ostree, "--repo="+b.path("peer-repo"), "init", "--mode=archive"); err != nil {
			return measure.Sample{}, err
		}
	}
	argv := append([]string{b.dnf, "-y", "-q", "-c", b.path(state+".conf", "dnf.conf"), "--installroot=" + b.path("peer"), "--releasever=1",
		"--setopt=reposdir=" + b.path(state+".conf", "dnf"), "--setopt=cachedir=" + b.path("peer-cache"), "--setopt=logdir=" + b.path("peer-log"),
		"--setopt=tsflags=noscripts,notriggers", "--setopt=install_weak_deps=False", "install"}, b.packages...)
	install, _, err := measure.Run(ctx, []string{"LC_ALL=C.UTF-8"}, argv...)
	if err != nil {
		return install, err
	}
	commit, _, err := measure.Run(ctx, nil, b.ostree, "--repo="+b.path("peer-repo"), "commit", "--branch=bench", "--tree=dir="+b.path("peer"))
	sum := install.Add(commit)
	if err == nil {
		fmt.Fprintf(os.Stderr, "peer, %s: dnf %s; ostree %s\n\n", state, install, commit)
	}
	return sum, err
}

// withScriptlets composes everything, the packages being imported, and once more with
// an initramfs that is known.
func (b *bench) withScriptlets(ctx context.Context) error {
	for _, title := range []string{"With scriptlets and an initramfs, packages imported before", "The same again, the initramfs being known"} {
		s, out, err := measure.Run(ctx, nil, append(b.composeArgs("new", bootable), "--force-nocache")...)
		if err != nil {
			return err
		}
		fmt.Printf("\n%s: %s. Where the time goes:\n\n```\n%s```\n", title, s, out)
	}
	return nil
}

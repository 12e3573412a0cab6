// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/tests/lab"
	"github.com/hostctl/hostctl/tests/measure"
)

// The programs, as indices.
const (
	ours = iota
	theirs
)

type bench struct {
	lab      *lab.Lab
	dir      string
	rounds   int
	only     *regexp.Regexp
	programs [2]string
	peer     string
	web      *server // nil where nothing is pulled
	runs     int
}

// work is one line of the table. prepare makes, untimed, what the command
// needs; it and the command get the folder of this run.
type work struct {
	name    string
	rounds  int // 0: as many as asked for
	prepare func(ctx context.Context, dir string) error
	// reads are folders that the work reads. They are read before each run, as is its own.
	reads []string
	argv  func(dir string) []string // without the program
	// size, if not nil, is a result whose bytes are compared as well.
	size func(dir string) (int64, error)
}

// sample is what one run took.
type sample struct {
	wall   time.Duration
	cpu    time.Duration // of the program, user and system
	server time.Duration // the same of the file server
	maxRSS int64         // bytes
	size   int64
}

// measure runs w with both programs in turn and prints its line.
func (b *bench) measure(ctx context.Context, w work) error {
	if !b.only.MatchString(w.name) {
		return nil
	}
	rounds := w.rounds
	if rounds == 0 {
		rounds = b.rounds
	}
	var got [2][]sample
	for round := range rounds {
		for turn := range b.programs {
			// Who goes first alternates too.
			p := (turn + round) % len(b.programs)
			s, err := b.once(ctx, w, p)
			if err != nil {
				return fmt.Errorf("%s with %s: %w", w.name, b.programs[p], err)
			}
			got[p] = append(got[p], s)
		}
	}
	b.print(w, median(got[ours]), median(got[theirs]))
	return nil
}

func (b *bench) print(w work, our, their sample) {
	ratio := func(of func(sample) time.Duration) string {
		return fmt.Sprintf("%.2f", of(our).Seconds()/of(their).Seconds())
	}
	result := ""
	if w.size != nil {
		result = mib(our.size) + " against " + mib(their.size)
	}
	fmt.Println("|", strings.Join([]string{w.name, their.String(), our.String(), ratio(func(s sample) time.Duration { return s.wall }),
		ratio(func(s sample) time.Duration { return s.cpu }), result}, " | "), "|")
}

func (s sample) String() string {
	text := fmt.Sprintf("%.2f s, %.2f s", s.wall.Seconds(), s.cpu.Seconds())
	if s.server > 0 {
		text += fmt.Sprintf(" + %.2f s", s.server.Seconds())
	}
	return text + ", " + mib(s.maxRSS)
}

// once prepares and runs w in a folder of its own with one program. The folder
// stays until the end: creating files costs ext4 much more for a minute after many
// were deleted.
func (b *bench) once(ctx context.Context, w work, p int) (s sample, err error) {
	b.runs++
	dir := b.runDir()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return s, err
	}
	if w.prepare != nil {
		if err := w.prepare(ctx, dir); err != nil {
			return s, fmt.Errorf("prepare: %w", err)
		}
	}
	// What is left to write belongs to the preparation.
	syscall.Sync()
	if err := warm(append(slices.Clone(w.reads), dir)); err != nil {
		return s, err
	}
	argv := w.argv(dir)
	before, err := b.web.cpu()
	if err != nil {
		return s, err
	}
	took, _, err := measure.Run(ctx, nil, append([]string{b.programs[p]}, argv...)...)
	if err != nil {
		return s, err
	}
	s.wall, s.cpu, s.maxRSS = took.Wall, took.CPU, took.Peak
	after, err := b.web.cpu()
	if err != nil {
		return s, err
	}
	s.server = after - before
	if w.size != nil {
		if s.size, err = w.size(dir); err != nil {
			return s, err
		}
	}
	syscall.Sync() // what is still to be written stays in memory
	return s, forget(dir)
}

// runDir is the folder of the present run.
func (b *bench) runDir() string { return filepath.Join(b.dir, fmt.Sprintf("run-%d", b.runs)) }

// forget drops the files of a run from the page cache. A virtual machine gets memory that it
// touches for the first time from its host, which takes as long as to copy it a few times:
// who runs next is to have memory that was in use a moment ago. All caches must not go: a
// filesystem would read its bitmaps again.
func forget(dir string) error {
	return eachFile(dir, func(f *os.File) error {
		if err := sys.DropCached(int(f.Fd())); err != nil {
			return fmt.Errorf("drop %s from the page cache: %w", f.Name(), err)
		}
		return nil
	})
}

// warm reads all files below some folders: machines that give memory back drop what was
// not used for a minute, and who came first would read from the disk.
func warm(dirs []string) error {
	buf := make([]byte, 256<<10)
	for _, dir := range dirs {
		err := eachFile(dir, func(f *os.File) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, buf)
			return err
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", dir, err)
		}
	}
	return nil
}

func eachFile(dir string, do func(*os.File) error) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return do(f)
	})
}

// median is the mean of the two in the middle where the number is even.
func median(list []sample) sample {
	pick := func(of func(sample) int64) int64 {
		var all []int64
		for _, s := range list {
			all = append(all, of(s))
		}
		slices.Sort(all)
		n := len(all)
		return (all[(n-1)/2] + all[n/2]) / 2
	}
	return sample{
		wall:   time.Duration(pick(func(s sample) int64 { return int64(s.wall) })),
		cpu:    time.Duration(pick(func(s sample) int64 { return int64(s.cpu) })),
		server: time.Duration(pick(func(s sample) int64 { return int64(s.server) })),
		maxRSS: pick(func(s sample) int64 { return s.maxRSS }),
		size:   list[0].size,
	}
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// header prints what is compared, and the disk's own speed.
func (b *bench) header() error {
	speed, err := diskSpeed(filepath.Join(b.dir, "speed"))
	if err != nil {
		return err
	}
	fmt.Printf("%d processors; the disk takes %.0f MiB/s of one file with fsync.\n\n", runtime.NumCPU(), speed)
	fmt.Printf("Each cell has the wall time, the processor time of the program (+ that of the file server), and peak memory.\n\n")
	fmt.Printf("| work | %s | ours | wall ratio | CPU ratio | result |\n| --- | --- | --- | --- | --- | --- |\n", b.peer)
	return nil
}

// diskSpeed writes and syncs 256 MiB and gives MiB per second.
func diskSpeed(name string) (float64, error) {
	const total = 256
	block := bytes.Repeat([]byte("not all zeroes: "), 1<<16)
	start := time.Now()
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer os.Remove(name)
	defer f.Close()
	for range total {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return total / time.Since(start).Seconds(), nil
}

// peerRun runs the peer for a preparation, so that both programs start from the
// same state.
func (b *bench) peerRun(ctx context.Context, argv ...string) error {
	out, err := exec.CommandContext(ctx, b.programs[theirs], argv...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ostree %v: %w\n%s", argv, err, out)
	}
	return nil
}

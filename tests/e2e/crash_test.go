// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/hostctl/hostctl/internal/diskimage"
	"github.com/hostctl/hostctl/tests/lab"
)

// TestKilledMachine kills QEMU again and again between the start of an upgrade and
// the end of the shutdown that finishes it. Each time the machine must boot the old
// or the new tree, whichever is possible there, with every local change in /etc and
// /var; its filesystems and its repository must be clean, and upgrading must go on.
// HOSTCTL_CRASHES sets how often (default 2), HOSTCTL_SEED repeats the choices of a
// run, HOSTCTL_ROOTFS (ext4, xfs, btrfs) and HOSTCTL_BOOT (see diskimage.Boot) say
// what kind of machine is killed.
func TestKilledMachine(t *testing.T) {
	need(t, "crash")
	tl := &tally{Machine: "the machine"}
	defer func() { t.Logf("TALLY\n%s", table([]*tally{tl})) }()
	killAll(t, crashLab(t), number(t, "HOSTCTL_CRASHES", 2), seeded(t), tl, true)
}

// crashKinds are the machines that TestCrashMatrix kills, by name.
func crashKinds() map[string]lab.Lab {
	return map[string]lab.Lab{
		"ext4":  {RootFS: "ext4"},
		"xfs":   {RootFS: "xfs"},
		"btrfs": {RootFS: "btrfs"},
		"fat":   {Boot: string(diskimage.UEFISystemdBoot)},
	}
}

// TestCrashMatrix is TestKilledMachine for roots on ext4, xfs and btrfs under BIOS
// and GRUB and for /boot on FAT under UEFI and systemd-boot, HOSTCTL_CRASHES times
// each (default 15), with one table at the end. HOSTCTL_CRASH_KINDS names some (commas); the
// table has those of earlier runs, too, which are kept in build/lab/crash. As many
// machines run side by side as the -parallel flag says; HOSTCTL_SEED repeats the
// choices of each.
func TestCrashMatrix(t *testing.T) {
	need(t, "crash-matrix")
	kinds := []string{"ext4", "xfs", "btrfs", "fat"}
	if v := os.Getenv("HOSTCTL_CRASH_KINDS"); v != "" {
		kinds = strings.Split(v, ",")
	}
	n := number(t, "HOSTCTL_CRASHES", 15)
	machines := crashKinds()
	results := filepath.Join(widerLab(t, "", "").Dir, "crash")
	t.Run("machines", func(t *testing.T) {
		for _, name := range kinds {
			kind, ok := machines[name]
			if !ok {
				t.Fatalf("HOSTCTL_CRASH_KINDS: there is no %q", name)
			}
			if n == 0 {
				continue // the table of earlier runs
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				killAll(t, widerLab(t, kind.Boot, kind.RootFS), n, seeded(t), newTally(t, results, name), false)
			})
		}
	})
	t.Logf("TALLY\n%s", table(readTallies(t, results)))
}

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := number(t, "HOSTCTL_SEED", int(time.Now().UnixNano()&0xffffff))
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(uint64(seed), 0))
}

// crashLab is the usual lab unless another kind of machine is asked for.
func crashLab(t *testing.T) *lab.Lab {
	t.Helper()
	boot, root := os.Getenv("HOSTCTL_BOOT"), os.Getenv("HOSTCTL_ROOTFS")
	if boot == "" && root == "" {
		return theLab(t)
	}
	return widerLab(t, boot, root)
}

// kill is one kill and what came of it.
type kill struct {
	Phase    string   `json:"phase"`
	Point    string   `json:"point"`   // the last that was reported before
	Outcome  string   `json:"outcome"` // empty: the test was ended before it was known
	Problems []string `json:"problems,omitempty"`
}

// tally is what came of the kills of one machine. It is written after each of them,
// so that a test that ends early has its table, too.
type tally struct {
	Machine string    `json:"machine"`
	Began   time.Time `json:"began"`
	Kills   []kill    `json:"kills"`

	t    *testing.T
	file string // "": nowhere
}

func newTally(t *testing.T, dir, name string) *tally {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return &tally{Machine: name, Began: time.Now().UTC(), t: t, file: filepath.Join(dir, name+".json")}
}

func (tl *tally) add(k kill) int {
	tl.Kills = append(tl.Kills, k)
	tl.save()
	return len(tl.Kills) - 1
}

func (tl *tally) set(i int, k kill) {
	tl.Kills[i] = k
	tl.save()
}

func (tl *tally) save() {
	if tl.file == "" {
		return
	}
	data, err := json.MarshalIndent(tl, "", "  ")
	if err == nil {
		err = os.WriteFile(tl.file, data, 0o644)
	}
	if err != nil {
		tl.t.Error(err)
	}
}

func readTallies(t *testing.T, dir string) []*tally {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out []*tally
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var tl tally
		if err := json.Unmarshal(data, &tl); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, &tl)
	}
	return out
}

// table shows, for each machine and part of an update, how many kills led to the old
// and to the new system, and how many to anything else or to damage or loss.
func table(list []*tally) string {
	phases := []string{phasePull, phaseStage, phaseFinalise, phaseSwitch, phaseDone}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "machine\tkills\t%s\tneither\tproblems\n", strings.Join(phases, "\t"))
	all := tally{Machine: "all"}
	for _, tl := range list {
		all.Kills = append(all.Kills, tl.Kills...)
	}
	for _, tl := range append(slices.Clone(list), &all) {
		fmt.Fprintf(w, "%s\t%d", tl.Machine, len(tl.Kills)-tl.count("", ""))
		for _, p := range phases {
			fmt.Fprintf(w, "\t%d old %d new", tl.count(p, outcomeOld), tl.count(p, outcomeNew))
		}
		bad := 0
		for _, k := range tl.Kills {
			if len(k.Problems) > 0 {
				bad++
			}
		}
		fmt.Fprintf(w, "\t%d\t%d\n", tl.count("", outcomeNone), bad)
	}
	_ = w.Flush()
	return b.String()
}

// count counts kills of a phase, of all if it is empty, with an outcome.
func (tl *tally) count(phase, outcome string) int {
	n := 0
	for _, k := range tl.Kills {
		if (phase == "" || k.Phase == phase) && k.Outcome == outcome {
			n++
		}
	}
	return n
}

func number(t *testing.T, name string, def int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

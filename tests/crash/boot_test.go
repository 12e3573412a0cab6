// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// changes are recorded, one after the other, on a machine that begins empty.
func changes(l loader) []string {
	list := []string{"upgrade 1", "upgrade 2", "rollback", "upgrade 3", "kargs quiet", "reorder"}
	if l.initrds != 1 {
		list = append(list, "overlay 1")
	}
	return append(list, "upgrade 2", "undeploy")
}

// TestPowerLoss cuts the power after every file operation of every change of the
// boot order, for every boot loader, and has a model of it boot what is left. It
// must be the old or the new order, whole. -v prints how many states there were.
func TestPowerLoss(t *testing.T) {
	testutil.Tool(t, "strace")
	var mu sync.Mutex
	total := 0
	t.Run("loaders", func(t *testing.T) {
		for _, l := range loaders() {
			t.Run(l.name, func(t *testing.T) {
				t.Parallel()
				n := losePower(t, newMachine(t, l))
				mu.Lock()
				defer mu.Unlock()
				total += n
			})
		}
	})
	t.Logf("%d states in all", total)
}

func losePower(t *testing.T, m *machine) (states int) {
	self, err := os.Executable()
	testutil.Must(t, err)
	for i, what := range changes(m.loader) {
		before := m.boots()
		if (before == "nothing" || before == other) != (i == 0) {
			t.Fatalf("%s: boots %s", what, before)
		}
		rec, err := Record(m.place, append(m.env(what), self)...)
		testutil.Must(t, err)
		states += m.cut(what, rec, before, m.boots())
	}
	for _, next := range []string{"cleanup", "upgrade 4"} {
		states += killedThenCut(t, m, self, next)
	}
	t.Logf("%-17s %7d states", m.name, states)
	return states
}

// killedThenCut kills a change right behind its flip, which memory knows then and
// the disk does not, and cuts the power during the next change.
func killedThenCut(t *testing.T, m *machine, self, next string) int {
	m.must("upgrade 1", "upgrade 3")
	before := m.boots()
	m.must("reorder")
	killed := m.boots()
	m.must("reorder")
	if m.boots() != before || killed == before {
		t.Fatalf("reorder: %s, %s", before, killed)
	}
	point := "deploy.after-flip"
	if m.fat {
		point = "bootloader.switch-written"
	}
	argv := append(m.env("reorder"), "sh", "-c", "HOSTCTL_FAILPOINTS="+point+`=kill "$0"; test $? = 137 && `+changeEnv+`="`+next+`" "$0"`, self)
	rec, err := Record(m.place, argv...)
	testutil.Must(t, err)
	return m.cut("killed, "+next, rec, before, killed, m.boots())
}

// cut cuts the power at every point of a recording; what boots must be one of allowed,
// of which the first and the last must be met.
func (m *machine) cut(what string, rec *Recording, allowed ...string) int {
	t := m.t
	t.Helper()
	retries := 0
	check := &bootCheck{firmware: m.firmware, fat: m.fat, seed: uint64(len(what)), judge: judge(m.loader, allowed), retry: 20}
	check.again = func(lay func(string) error) error {
		retries++
		return m.recover(lay)
	}
	if err := check.run(rec); err != nil {
		t.Fatalf("%s: allowed %q: %v", what, allowed, err)
	}
	if check.seen[allowed[0]] == 0 || check.seen[allowed[len(allowed)-1]] == 0 || check.states < 20 || retries == 0 {
		t.Errorf("%s: %d states, %v, %d retries: no crash on one side of the commit point", what, check.states, check.seen, retries)
	}
	t.Logf("%-17s %7d states, %d recovered: %s", what, check.states, retries, tally(check.seen))
	return check.states
}

// recover deploys on what a power cut left.
func (m *machine) recover(lay func(string) error) error {
	again := *m
	again.place = filepath.Join(m.t.TempDir(), "again")
	defer os.RemoveAll(again.place)
	if err := lay(again.place); err != nil {
		return err
	}
	if err := again.change("upgrade 1"); err != nil {
		return err
	}
	if got := again.boots(); !strings.HasPrefix(got, "1a ") {
		return fmt.Errorf("boots %s", got)
	}
	return nil
}

// boots says what the machine boots, "nothing" if it does not.
func (m *machine) boots() string {
	m.t.Helper()
	name, err := m.boot()
	if err != nil {
		return "nothing"
	}
	return name
}

func tally(seen map[string]int) string {
	var out []string
	for _, v := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, fmt.Sprintf("%s %d", v, seen[v]))
	}
	return strings.Join(out, ", ")
}

func judge(l loader, allowed []string) func(booted, error, string) (string, error) {
	return func(b booted, err error, version string) (string, error) {
		name := "nothing"
		if err == nil {
			if name, err = describe(l, b, version); err != nil {
				return name, err
			}
		}
		if !slices.Contains(allowed, name) {
			return name, fmt.Errorf("boots %s", name)
		}
		return name, nil
	}
}

// TestPowerLossIsFound shows that the models find what they are for: without syncs
// there is a state that boots neither.
func TestPowerLossIsFound(t *testing.T) {
	testutil.Tool(t, "strace")
	self, err := os.Executable()
	testutil.Must(t, err)
	for _, l := range loaders() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, l)
			m.must("upgrade 1")
			before := m.boots()
			rec, err := Record(m.place, append(m.env("upgrade 2"), self)...)
			testutil.Must(t, err)
			rec.calls = slices.DeleteFunc(rec.calls, func(c call) bool { return c.name == "syncfs" })
			check := &bootCheck{firmware: m.firmware, fat: m.fat, judge: judge(l, []string{before, m.boots()})}
			if err := check.run(rec); err == nil {
				t.Errorf("%d states, and all of them boot", check.states)
			}
		})
	}
}

// TestFATModel: other programs find in the model's image what the model was told.
func TestFATModel(t *testing.T) {
	t.Parallel()
	fsck, mtype := testutil.Tool(t, "fsck.vfat"), testutil.Tool(t, "mtype")
	d := newFAT()
	want := map[string]string{}
	for i := range 60 { // more than a directory's first cluster
		name := fmt.Sprintf("loader/entries/ostree-%d-with-a-long-name.conf", i)
		if i == 0 {
			testutil.Must(t, errors.Join(d.mkdir("loader"), d.mkdir("loader/entries")))
		}
		data := strings.Repeat(fmt.Sprint(i, " "), i*20)
		testutil.Must(t, errors.Join(d.create(name), d.write(name, []byte(data+data)), d.write(name, []byte(data))))
		want[name] = data
	}
	rename := func(from, to string) {
		testutil.Must(t, d.rename(from, to))
		want[to] = want[from]
		delete(want, from)
	}
	rename("loader/entries/ostree-3-with-a-long-name.conf", "loader/other name.conf")
	rename("loader/entries/ostree-4-with-a-long-name.conf", "loader/entries/ostree-5-with-a-long-name.conf")
	testutil.Must(t, d.remove("loader/entries/ostree-6-with-a-long-name.conf"))
	delete(want, "loader/entries/ostree-6-with-a-long-name.conf")
	image := filepath.Join(t.TempDir(), "image")
	testutil.Must(t, os.WriteFile(image, d.image(), 0o644))
	if out, err := exec.Command(fsck, "-n", image).CombinedOutput(); err != nil {
		t.Fatalf("fsck: %v\n%s", err, out)
	}
	v := fatVolume{get: func(n int) sector { return d.now[n] }}
	if n := len(v.list("loader/entries")); n != len(want)-1 {
		t.Errorf("%d entries", n)
	}
	for name, data := range want {
		got, err := v.file(name)
		if err != nil || string(got) != data {
			t.Errorf("%s: %v", name, err)
		}
		cmd := exec.Command(mtype, "-i", image, "::"+name)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Run(); err != nil || out.String() != data {
			t.Errorf("%s: mtype: %v, %d bytes of %d", name, err, out.Len(), len(data))
		}
	}
}

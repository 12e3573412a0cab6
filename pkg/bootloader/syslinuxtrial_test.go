// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
)

const extlinuxStub = "UI menu.c32\nTIMEOUT 10\nINCLUDE /loader/syslinux.cfg\n"

// extlinuxUnit is a /boot with EXTLINUX.
type extlinuxUnit struct {
	t    *testing.T
	boot *fsx.Dir
	root string
}

func newExtlinux(t *testing.T, stub string) extlinuxUnit {
	t.Helper()
	empty, err := adv{}.format()
	testutil.Must(t, err)
	code := strings.Repeat("code", 1024)
	boot, root := bootDir(t, map[string]string{syslinuxStub: stub, advFile: code + string(empty) + string(empty)})
	return extlinuxUnit{t, boot, root}
}

// write makes a menu the one in force, up to Finish.
func (u extlinuxUnit) write(version, tries int) Menu {
	u.t.Helper()
	m := sampleMenu(version)
	m.Tries = tries
	sw := LinkSwitch{}
	testutil.Must(u.t, WriteMenu(u.boot, sw, m))
	for range 2 { // as after a crash
		testutil.Must(u.t, syslinux{}.Prepare(u.t.Context(), u.boot, m))
	}
	testutil.Must(u.t, sw.Arm(u.boot, version))
	testutil.Must(u.t, sw.Flip(u.boot, version))
	return m
}

func (u extlinuxUnit) finish(m Menu) {
	u.t.Helper()
	for range 2 {
		testutil.Must(u.t, syslinux{}.Finish(u.t.Context(), u.boot, m))
	}
}

func (u extlinuxUnit) config() string {
	u.t.Helper()
	data, err := os.ReadFile(filepath.Join(u.root, "loader/syslinux.cfg"))
	testutil.Must(u.t, err)
	return string(data)
}

// start plays EXTLINUX with its menu: what is asked for once is taken out of both
// sectors before it is started. Labels end at a space, and one that is not found is
// the first of the menu.
func (u extlinuxUnit) start() (label string, options string) {
	u.t.Helper()
	a, err := readADV(u.boot)
	testutil.Must(u.t, err)
	want := a.get(advOnce)
	if want != "" {
		testutil.Must(u.t, overwriteADVOf(u.boot, a.with(advOnce, "")))
	} else {
		for line := range strings.Lines(u.config()) {
			if d, ok := strings.CutPrefix(line, "DEFAULT "); ok {
				want = strings.TrimRight(d, "\n")
			}
		}
	}
	blocks := strings.Split(u.config(), "LABEL ")
	blocks = slices.DeleteFunc(blocks, func(b string) bool { return !strings.Contains(b, "\n\tKERNEL ") })
	found := 0
	for i, b := range blocks {
		if name, _, _ := strings.Cut(b, "\n"); name == want && !strings.Contains(name, " ") {
			found = i
		}
	}
	label, rest, _ := strings.Cut(blocks[found], "\n")
	_, options, _ = strings.Cut(rest, "\tAPPEND ")
	return label, strings.TrimSpace(options)
}

func overwriteADVOf(boot *fsx.Dir, a adv) error {
	data, err := a.format()
	if err != nil {
		return err
	}
	return overwriteADV(boot, data)
}

func (u extlinuxUnit) expect(kernel string, trial bool) {
	u.t.Helper()
	label, options := u.start()
	_, rest, _ := strings.Cut(u.config(), "LABEL "+label+"\n\tKERNEL ")
	if line, _, _ := strings.Cut(rest, "\n"); !strings.HasSuffix(line, "vmlinuz-"+kernel) || strings.Contains(options, strings.Join(TrialKargs(), " ")) != trial {
		u.t.Fatalf("started %q %q %q, want kernel %s, on trial: %v\n%s", label, line, options, kernel, trial, u.config())
	}
}

func (u extlinuxUnit) counter(left, done int, counting bool) {
	u.t.Helper()
	l, d, c, err := syslinux{}.Tries(u.t.Context(), u.boot)
	if l != left || d != done || c != counting || err != nil {
		u.t.Fatalf("Tries: %d %d %v %v, want %d %d %v", l, d, c, err, left, done, counting)
	}
}

func TestExtlinuxTrial(t *testing.T) {
	t.Parallel()
	u := newExtlinux(t, extlinuxStub)
	u.finish(u.write(0, 0))
	u.counter(0, 0, false)
	u.expect("2", false)

	// Given up.
	m := u.write(1, 3)
	u.expect("1", false) // a crash right behind the flip
	u.counter(1, 0, true)
	u.finish(m)
	u.counter(1, 0, true)
	u.expect("2", true)
	u.counter(0, 1, true)
	u.finish(m) // does not begin it again
	for range 2 {
		u.expect("1", false)
		u.counter(0, 1, true)
	}

	// Good.
	u.finish(u.write(0, 1))
	u.expect("2", true)
	u.counter(0, 1, true)
	for range 2 {
		testutil.Must(t, syslinux{}.Bless(t.Context(), u.boot))
		u.counter(0, 0, false)
		u.expect("2", false)
	}

	// Good without having been tried: somebody chose it in the menu.
	u.finish(u.write(1, 1))
	testutil.Must(t, syslinux{}.Bless(t.Context(), u.boot))
	u.expect("2", false)

	// A menu that takes a trial back before it is tried.
	u.finish(u.write(0, 1))
	u.finish(u.write(1, 0))
	u.counter(0, 0, false)
	u.expect("2", false)
	if strings.Contains(u.config(), fallbackLabel) || strings.Contains(u.config(), trialLabel) {
		t.Errorf("a trial is left:\n%s", u.config())
	}
	if st, err := os.Stat(filepath.Join(u.root, advFile)); err != nil || st.Size() != 5120 {
		t.Error(st, err)
	}

	// What the loader cannot read it takes for empty.
	u.finish(u.write(0, 1))
	testutil.Must(t, os.WriteFile(filepath.Join(u.root, advFile), make([]byte, 5120), 0o644))
	if _, _, _, err := (syslinux{}).Tries(t.Context(), u.boot); !errors.Is(err, ErrBadADV) {
		t.Error(err)
	}
}

func TestExtlinuxNoTrial(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stub   string
		change func(u extlinuxUnit, m *Menu)
		want   bool
	}{
		"yes":           {extlinuxStub, nil, true},
		"waits":         {strings.ReplaceAll(extlinuxStub, "10", "0"), nil, false},
		"no timeout":    {"INCLUDE /loader/syslinux.cfg\n", nil, false},
		"other default": {extlinuxStub + "default memtest\n", nil, false},
		"ontimeout":     {extlinuxStub + "ONTIMEOUT x\n", nil, false},
		"alone":         {extlinuxStub, func(_ extlinuxUnit, m *Menu) { m.Entries = m.Entries[:1] }, false},
		"no vector":     {extlinuxStub, func(u extlinuxUnit, _ *Menu) { testutil.Must(u.t, os.Remove(filepath.Join(u.root, advFile))) }, false},
		"half a sector": {extlinuxStub, func(u extlinuxUnit, _ *Menu) {
			testutil.Must(u.t, os.Truncate(filepath.Join(u.root, advFile), 5000))
		}, false},
	} {
		u := newExtlinux(t, c.stub)
		m := sampleMenu(1)
		m.Tries = 1
		if c.change != nil {
			c.change(u, &m)
		}
		testutil.Must(t, WriteMenu(u.boot, LinkSwitch{}, m))
		testutil.Must(t, syslinux{}.Prepare(t.Context(), u.boot, m))
		data, err := os.ReadFile(filepath.Join(u.root, "loader.1/syslinux.cfg"))
		if n, _ := trialNumber(data); (n > 0) != c.want || err != nil {
			t.Errorf("%s: trial %d, want %v: %v", name, n, c.want, err)
		}
	}
}

func TestADV(t *testing.T) {
	t.Parallel()
	// As extlinux --once=x of SYSLINUX 6.04 wrote it.
	known := make([]byte, advSector)
	copy(known, "\xa5\x2f\x2d\x5a")
	copy(known[8:], "\x01\x01x")
	copy(known[508:], "\x64\xbf\x28\xdd")
	copy(known[4:], "\x66\x16\x8c\xa2")
	a, err := parseADV(known)
	if d := cmp.Diff(adv{{advOnce, []byte("x")}}, a, cmp.AllowUnexported(advItem{})); err != nil || d != "" {
		t.Fatal(err, d)
	}
	data, err := a.with(advTried, "7").with(advOnce, "").with(advTried, "").with(advOnce, "x").format()
	if err != nil || !bytes.Equal(data, known) {
		t.Fatal(err, data)
	}
	full := adv{{3, make([]byte, 250)}, {4, make([]byte, 246)}}
	if data, err := full.format(); err != nil {
		t.Error(err)
	} else if got, err := parseADV(data); err != nil || len(got) != 2 {
		t.Error(got, err)
	}
	for name, bad := range map[string]adv{"too long": full.with(9, "x"), "item": {{3, make([]byte, 256)}}, "tag": {{0, nil}}} {
		if _, err := bad.format(); !errors.Is(err, ErrBadADV) {
			t.Errorf("%s: %v", name, err)
		}
	}
	overrun, err := full.format()
	testutil.Must(t, err)
	overrun[260+1], overrun[4] = 255, overrun[4]-9 // the second item's length
	for name, bad := range map[string][]byte{"short": known[:511], "no head": append([]byte{0}, known[1:]...),
		"checksum": append(slices.Clone(known[:4]), append([]byte{0}, known[5:]...)...), "overrun": overrun} {
		if _, err := parseADV(bad); !errors.Is(err, ErrBadADV) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Of two sectors the first that is good.
	u := newExtlinux(t, extlinuxStub)
	other, err := adv{{advOnce, []byte("second")}}.format()
	testutil.Must(t, err)
	name := filepath.Join(u.root, advFile)
	for want, both := range map[string][]byte{"x": append(slices.Clone(known), other...), "second": append(make([]byte, advSector), other...)} {
		testutil.Must(t, os.WriteFile(name, both, 0o644))
		if a, err := readADV(u.boot); a.get(advOnce) != want || err != nil {
			t.Errorf("%s: %v %v", want, a, err)
		}
	}
}

func FuzzADV(f *testing.F) {
	for _, a := range []adv{{}, {{advOnce, []byte("label")}, {advTried, []byte("1")}}} {
		data, err := a.format()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[advData:advEnd])
	}
	f.Fuzz(func(t *testing.T, items []byte) {
		data, err := adv{}.format()
		testutil.Must(t, err)
		copy(data[advData:advEnd], items)
		sum := uint32(advSum) - advWords(data)
		data[4], data[5], data[6], data[7] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		a, err := parseADV(data)
		if err != nil {
			return
		}
		out, err := a.format()
		if err != nil {
			t.Fatalf("accepted and not written: %v", err)
		}
		again, err := parseADV(out)
		if d := cmp.Diff(a, again, cmp.AllowUnexported(advItem{})); err != nil || d != "" {
			t.Fatal(err, d)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
)

func TestMain(m *testing.M) { os.Exit(testutil.InMemory(m)) }

// trialBoot is a /boot in whose generation 1 a menu with tries is in force.
func trialBoot(t *testing.T, tries int) (boot *fsx.Dir, root string) {
	t.Helper()
	boot, root = bootDir(t, map[string]string{"grub/grub.cfg": "configfile /loader/grub.cfg\n"})
	m := sampleMenu(1)
	m.Tries = tries
	sw := LinkSwitch{}
	testutil.Must(t, WriteMenu(boot, sw, m))
	testutil.Must(t, grub2{}.Prepare(t.Context(), boot, m))
	testutil.Must(t, sw.Arm(boot, 1))
	testutil.Must(t, sw.Flip(boot, 1))
	return boot, root
}

// firmware runs grub.cfg with a shell, which reads all that is in it: entries
// become functions, GRUB's commands are functions, too. load_env and save_env are
// done by GRUB's own grub-editenv. $1 is the /boot, $2 the stub's default, $3
// the entry that somebody picks, if any. It prints the kernel's command line.
const firmware = `
set() { declare -g "$1"; }
linux() { echo "$@"; }
initrd() { :; }
load_env() { local f=$2 n v; shift 2; while IFS== read -r n v; do for w; do [ "$w" = "$n" ] && declare -g "$n=$v"; done; done < <(grub-editenv "$f" list); :; }
save_env() { [ -n "$BROKEN" ] && return 1; grub-editenv "$2" set "$3=${!3}"; }
default=$2
`

func (g gunit) bootOnce(def, pick string) string {
	g.t.Helper()
	script, err := os.ReadFile(filepath.Join(g.root, "loader/grub.cfg"))
	testutil.Must(g.t, err)
	entry := regexp.MustCompile(`(?m)^menuentry .* --id '([^']*)' \{$`)
	var ids []string
	text := entry.ReplaceAllStringFunc(string(script), func(line string) string {
		ids = append(ids, entry.FindStringSubmatch(line)[1])
		return "entry_" + strings.ReplaceAll(ids[len(ids)-1], "-", "_") + "() {"
	})
	text = strings.ReplaceAll(text, "set bootdir=/boot\n", "set bootdir="+g.root+"/boot\n")
	text = strings.ReplaceAll(text, "set bootdir=\n", "set bootdir="+g.root+"\n")
	text += "\nchoice=${3:-$default}; [ \"$choice\" = 0 ] && choice=" + ids[0] + "\nentry_${choice//-/_}\n"
	cmd := exec.Command("bash", "-c", firmware+text, "grub", g.root, def, pick)
	cmd.Env = append(os.Environ(), g.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("%v\n%s\n%s", err, stderr.String(), text)
	}
	return string(out)
}

type gunit struct {
	t    *testing.T
	root string
	env  []string
}

func (g gunit) expect(def, pick, kernel string, trial bool) {
	g.t.Helper()
	got := g.bootOnce(def, pick)
	if !strings.Contains(got, "vmlinuz-"+kernel) || strings.Contains(got, strings.Join(TrialKargs(), " ")) != trial {
		g.t.Fatalf("booted %swant kernel %s, on trial: %v", got, kernel, trial)
	}
}

func (g gunit) counter(boot *fsx.Dir, left, done int, counting bool) {
	g.t.Helper()
	l, d, c, err := grub2{}.Tries(context.Background(), boot)
	if l != left || d != done || c != counting || err != nil {
		g.t.Fatalf("Tries: %d %d %v %v, want %d %d %v", l, d, c, err, left, done, counting)
	}
}

// TestGrubCounts plays boots of the generated script.
func TestGrubCounts(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "grub-editenv")
	for _, tries := range []int{1, 3, MaxTries} {
		boot, root := trialBoot(t, tries)
		g := gunit{t: t, root: root}
		g.counter(boot, tries, 0, true)
		g.expect("0", "ostree-1-os", "1", false) // somebody picks the old one
		for i := range tries {
			g.counter(boot, tries-i, i, true)
			g.expect("0", "", "2", true)
		}
		g.counter(boot, 0, tries, true)
		for range 2 {
			g.expect("", "", "1", false)
			g.counter(boot, 0, tries, true)
		}
		g.expect("0", "ostree-2", "2", true) // looked into by hand
		g.expect("0", "", "1", false)
	}

	boot, root := trialBoot(t, 2)
	g := gunit{t: t, root: root}
	g.expect("0", "", "2", true)
	for range 2 {
		testutil.Must(t, grub2{}.Bless(t.Context(), boot))
		g.counter(boot, 0, 0, false)
	}
	for range 4 {
		g.expect("0", "", "2", false)
	}

	// The stub's own choice holds and is not counted.
	boot, root = trialBoot(t, 1)
	g = gunit{t: t, root: root}
	g.expect("ostree-1-os", "", "1", false)
	g.counter(boot, 1, 0, true)
	// What cannot be counted is not tried.
	g.env = []string{"BROKEN=1"}
	g.expect("0", "", "1", false)
	g.counter(boot, 1, 0, true)
	g.env = nil
	testutil.Must(t, os.WriteFile(root+"/loader.1/grubenv", bytes.Repeat([]byte{0}, grubEnvSize), 0o644))
	if _, _, _, err := (grub2{}).Tries(t.Context(), boot); !errors.Is(err, ErrBadEnvironment) {
		t.Error(err)
	}
}

// TestGrubTrialScript: GRUB's own parser takes it, and the block has the form
// and the blocks that save_env wants.
func TestGrubTrialScript(t *testing.T) {
	t.Parallel()
	_, root := trialBoot(t, 3)
	if out, err := exec.Command(testutil.Tool(t, "grub-script-check"), filepath.Join(root, "loader.1/grub.cfg")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	// A kernel that cannot be loaded is left for the entry before, by its number.
	script, err := os.ReadFile(filepath.Join(root, "loader.1/grub.cfg"))
	if err != nil || !bytes.Contains(script, []byte("\tset fallback=1\n")) {
		t.Errorf("no fallback: %v\n%s", err, script)
	}
	out, err := exec.Command(testutil.Tool(t, "grub-editenv"), filepath.Join(root, "loader.1/grubenv"), "list").CombinedOutput()
	if want := "boot_counter=3\nboot_success=0\nhostctl_tries=3\n"; err != nil || string(out) != want {
		t.Errorf("%v %s", err, out)
	}
	// Without tries there is no counter, also after an attempt with some.
	boot, root := trialBoot(t, 0)
	if _, err := os.Lstat(root + "/loader.1/grubenv"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	gunit{t: t}.counter(boot, 0, 0, false)
}

func TestNotCounted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		menu  func(*Menu)
		want  int
	}{
		"stub":     {map[string]string{"grub/grub.cfg": "configfile /loader/grub.cfg\n"}, nil, 3},
		"too many": {map[string]string{"grub/grub.cfg": "configfile /loader/grub.cfg\n"}, func(m *Menu) { m.Tries = 50 }, MaxTries},
		"no stub":  {nil, nil, 3},
		"blscfg":   {map[string]string{"grub2/grub.cfg": "blscfg\n"}, nil, 0},
		"alone":    {nil, func(m *Menu) { m.Entries = m.Entries[:1] }, 0},
		"foreign":  {nil, func(m *Menu) { m.Entries = []Entry{m.Entries[0], m.Entries[2]} }, 0},
	} {
		boot, _ := bootDir(t, c.files)
		m := sampleMenu(1)
		m.Tries = 3
		if c.menu != nil {
			c.menu(&m)
		}
		if got, err := countable(boot, m); err != nil || got.Tries != c.want {
			t.Errorf("%s: %d tries, want %d: %v", name, got.Tries, c.want, err)
		}
	}
}

func TestGrubEnv(t *testing.T) {
	t.Parallel()
	env := grubEnv{{"a", "x=1"}, {"b", "back\\slash\nline"}, {"empty", ""}}
	data, err := env.format()
	if err != nil || len(data) != grubEnvSize {
		t.Fatal(len(data), err)
	}
	name := filepath.Join(t.TempDir(), "env")
	testutil.Must(t, os.WriteFile(name, data, 0o644))
	if out, err := exec.Command(testutil.Tool(t, "grub-editenv"), name, "set", "c=3").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	data, err = os.ReadFile(name)
	testutil.Must(t, err)
	got, err := parseGrubEnv(data)
	if d := cmp.Diff(env.with("c", "3"), got, cmp.AllowUnexported(grubVar{})); err != nil || d != "" {
		t.Fatal(err, d)
	}
	pad := func(s string) []byte { return append([]byte(s), bytes.Repeat([]byte("#"), grubEnvSize-len(s))...) }
	for what, data := range map[string][]byte{
		"short":        data[:1000],
		"no header":    pad("a=1\n"),
		"no end":       bytes.Repeat([]byte("#"), grubEnvSize),
		"twice":        pad(grubEnvHeader + "a=\na=2\n"),
		"no variable":  pad(grubEnvHeader + "a\n"),
		"bad name":     pad(grubEnvHeader + "a b=1\n"),
		"zero padding": append([]byte(grubEnvHeader+"a=1\n"), make([]byte, grubEnvSize-len(grubEnvHeader)-4)...),
	} {
		if _, err := parseGrubEnv(data); !errors.Is(err, ErrBadEnvironment) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := (grubEnv{{"a", strings.Repeat("x", grubEnvSize)}}).format(); !errors.Is(err, ErrBadEnvironment) {
		t.Error(err)
	}
	if got, err := parseGrubEnv(pad(grubEnvHeader + "# WARNING: Do not edit\na=1\n")); err != nil || got.get("a") != "1" {
		t.Error(got, err)
	}
}

func FuzzGrubEnv(f *testing.F) {
	data, err := grubEnv{{"boot_counter", "3"}, {"b", "x\\\ny"}}.format()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(bytes.Repeat([]byte("#"), grubEnvSize))
	f.Fuzz(func(t *testing.T, data []byte) {
		env, err := parseGrubEnv(data)
		if err != nil {
			return
		}
		out, err := env.format()
		if err != nil {
			t.Fatalf("accepted and not written: %v", err)
		}
		again, err := parseGrubEnv(out)
		if d := cmp.Diff(env, again, cmp.AllowUnexported(grubVar{})); err != nil || d != "" {
			t.Fatal(err, d)
		}
	})
}

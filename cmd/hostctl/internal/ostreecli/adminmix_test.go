// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// modelDeployment is what the test expects of one deployment.
type modelDeployment struct {
	OS, Commit, Version string
	Serial              int
	Kargs               []string
	Pinned              bool
	Marks               []string // files that were added to /etc
}

func (d modelDeployment) name() string { return fmt.Sprintf("%s.%d", d.Commit, d.Serial) }

// mix is one sysroot on which both programs take turns.
type mix struct {
	t          *testing.T
	rng        *rand.Rand
	real, ours *side
	versions   [][2]string // commit, version
	list       []modelDeployment
	marks      int
	log        []string
}

// TestAdminMix: libostree and this program change one sysroot in random order. A
// model says what must be there after every step; both programs have to agree with
// it and with each other. HOSTCTL_ADMIN_STEPS sets the number of steps and
// HOSTCTL_SEED repeats a run.
func TestAdminMix(t *testing.T) {
	t.Parallel()
	testutil.Root(t, "a bare repository needs root")
	steps, seed := envInt(t, "HOSTCTL_ADMIN_STEPS", 25), envInt(t, "HOSTCTL_SEED", int(time.Now().UnixNano()&0x7fffffff))
	t.Logf("HOSTCTL_SEED=%d HOSTCTL_ADMIN_STEPS=%d", seed, steps)
	m := newMix(t, uint64(seed))
	turns := map[*side]int{}
	for range steps {
		s := m.real
		if m.rng.IntN(2) == 0 {
			s = m.ours
		}
		turns[s]++
		m.step(s)
		m.check()
	}
	m.real.must(t, "fsck", "--repo=root/ostree/repo", "-q")
	m.ours.must(t, "fsck", "--repo=root/ostree/repo", "-q")
	t.Logf("%d steps by libostree, %d by this program, %d deployments at the end", turns[m.real], turns[m.ours], len(m.list))
}

func envInt(t *testing.T, name string, def int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	testutil.Must(t, err)
	return n
}

func newMix(t *testing.T, seed uint64) *mix {
	t.Helper()
	self, err := os.Executable()
	testutil.Must(t, err)
	env := []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", "OSTREE_SKIP_CACHE=1", "OSTREE_SYSROOT=root", "OSTREE_SYSROOT_DEBUG=mutable-deployments"}
	dir := t.TempDir()
	m := &mix{t: t, rng: rand.New(rand.NewPCG(seed, 1)), real: &side{dir: dir, program: realOstree(t), env: env}}
	m.ours = &side{dir: dir, program: self, env: append(env[:len(env):len(env)], asProgram+"=1")}
	withSysroot(t, "syslinux")(m.real)
	m.ours.must(t, "admin", "os-init", "other")
	for i, kernel := range []string{"A", "A", "B", "C"} {
		osRelease(t, m.real, i+1, kernel)
		m.real.must(t, "pull-local", "--repo=root/ostree/repo", "--remote=r", "src", "main")
		rev := strings.TrimSpace(m.real.run(t, "rev-parse", "--repo=root/ostree/repo", "r:main").Out)
		m.real.must(t, "refs", "--repo=root/ostree/repo", "--create=v"+strconv.Itoa(i+1), rev)
		m.versions = append(m.versions, [2]string{rev, strconv.Itoa(i + 1)})
	}
	return m
}

// step does something at random, on the sysroot and on the model.
func (m *mix) step(s *side) {
	m.t.Helper()
	n := len(m.list)
	roll := m.rng.IntN(100)
	switch {
	case n == 0 || roll < 35 && n < 7:
		m.deploy(s)
	case roll < 55:
		m.undeploy(s)
	case roll < 70:
		m.pin(s)
	case roll < 80:
		m.setKargs(s)
	case roll < 86:
		m.editInPlace(s)
	case roll < 91:
		m.mark()
	case roll < 95:
		m.run(s, true, "admin", "cleanup")
	default:
		m.setDefault()
	}
}

// run calls a program and wants it to succeed or to fail.
func (m *mix) run(s *side, succeed bool, args ...string) {
	m.t.Helper()
	who := "libostree"
	if s == m.ours {
		who = "ours"
	}
	m.log = append(m.log, who+": ostree "+strings.Join(args, " "))
	if o := s.run(m.t, args...); (o.Code == 0) != succeed {
		m.t.Fatalf("status %d: %s%s\n%s", o.Code, o.Out, o.Err, m.history())
	}
}

func (m *mix) history() string { return strings.Join(m.log, "\n") }

func (m *mix) deploy(s *side) {
	v := m.versions[m.rng.IntN(len(m.versions))]
	d := modelDeployment{OS: []string{"os", "os", "other"}[m.rng.IntN(3)], Commit: v[0], Version: v[1]}
	args := []string{"admin", "deploy", "--os=" + d.OS}
	merge := slices.IndexFunc(m.list, func(x modelDeployment) bool { return x.OS == d.OS })
	if m.rng.IntN(10) == 0 {
		args, merge = append(args, "--no-merge"), -1
	}
	if merge >= 0 {
		d.Kargs, d.Marks = slices.Clone(m.list[merge].Kargs), slices.Clone(m.list[merge].Marks)
	}
	switch word := m.word(); m.rng.IntN(4) {
	case 0:
		args, d.Kargs = append(args, "--karg="+word), replaceWord(d.Kargs, word)
	case 1:
		args, d.Kargs = append(args, "--karg-append="+word), append(d.Kargs, word)
	case 2:
		if len(d.Kargs) > 0 && merge >= 0 {
			i := m.rng.IntN(len(d.Kargs))
			args = append(args, "--karg-delete="+d.Kargs[i])
			d.Kargs = slices.Delete(d.Kargs, slices.Index(d.Kargs, d.Kargs[i]), slices.Index(d.Kargs, d.Kargs[i])+1)
		}
	}
	for _, x := range m.list {
		if x.OS == d.OS && x.Commit == d.Commit {
			d.Serial = max(d.Serial, x.Serial+1)
		}
	}
	mode := []string{"", "", "--retain", "--retain-rollback", "--retain-pending", "--not-as-default"}[m.rng.IntN(6)]
	if mode != "" {
		args = append(args, mode)
	}
	m.list = m.order(d, merge, mode)
	m.run(s, true, append(args, v[0])...)
}

// order is where a new deployment goes, and what stays.
func (m *mix) order(d modelDeployment, merge int, mode string) []modelDeployment {
	all := mode == "--retain" || merge < 0 && strings.HasPrefix(mode, "--retain")
	var out []modelDeployment
	added := mode != "--not-as-default"
	if added {
		out = append(out, d)
	}
	for i, x := range m.list {
		passed := merge >= 0 && i >= merge
		if all || x.Pinned || x.OS != d.OS || i == merge || mode == "--retain-pending" && !passed || mode == "--retain-rollback" && passed {
			out = append(out, x)
		}
		if !added && passed {
			out, added = append(out, d), true
		}
	}
	if !added {
		out = append(out, d)
	}
	return out
}

// word makes an argument; names come again.
func (m *mix) word() string {
	name := string(rune('a' + m.rng.IntN(4)))
	if m.rng.IntN(3) == 0 {
		return name
	}
	return fmt.Sprintf("%s=%d", name, m.rng.IntN(3))
}

func keyOf(arg string) string {
	name, _, _ := strings.Cut(arg, "=")
	return name
}

// replaceWord puts arg in the place of the first one of its name; the others go.
func replaceWord(list []string, arg string) []string {
	i := slices.IndexFunc(list, func(x string) bool { return keyOf(x) == keyOf(arg) })
	if i < 0 {
		return append(list, arg)
	}
	list[i] = arg
	rest := slices.DeleteFunc(slices.Clone(list[i+1:]), func(x string) bool { return keyOf(x) == keyOf(arg) })
	return append(list[:i+1], rest...)
}

func (m *mix) undeploy(s *side) {
	i := m.rng.IntN(len(m.list) + 1)
	if i == len(m.list) {
		m.run(s, false, "admin", "undeploy", strconv.Itoa(i))
		return
	}
	m.list = slices.Delete(m.list, i, i+1)
	m.run(s, true, "admin", "undeploy", strconv.Itoa(i))
}

func (m *mix) pin(s *side) {
	i := m.rng.IntN(len(m.list) + 1)
	args := []string{"admin", "pin"}
	on := m.rng.IntN(2) == 0
	if !on {
		args = append(args, "-u")
	}
	if i < len(m.list) {
		m.list[i].Pinned = on
	}
	m.run(s, i < len(m.list), append(args, strconv.Itoa(i))...)
}

func (m *mix) setKargs(s *side) {
	args, d := []string{"admin", "instutil", "set-kargs"}, &m.list[0]
	if m.rng.IntN(2) == 0 {
		args = append(args, "--merge")
	} else {
		d.Kargs = nil
	}
	word, more := m.word(), m.word()
	d.Kargs = append(replaceWord(slices.Clone(d.Kargs), word), more)
	m.run(s, true, append(args, "--replace="+word, more)...)
}

func (m *mix) editInPlace(s *side) {
	word := m.word()
	for i := range m.list {
		d := &m.list[i]
		if !slices.ContainsFunc(d.Kargs, func(x string) bool { return keyOf(x) == keyOf(word) }) {
			d.Kargs = append(slices.Clone(d.Kargs), word)
		}
	}
	m.run(s, true, "admin", "kargs", "edit-in-place", "--append-if-missing="+word)
}

// mark changes /etc of one deployment.
func (m *mix) mark() {
	d := &m.list[m.rng.IntN(len(m.list))]
	m.marks++
	name := fmt.Sprintf("mark-%03d", m.marks)
	d.Marks = append(slices.Clone(d.Marks), name)
	m.log = append(m.log, "add /etc/"+name+" to "+d.name())
	m.ours.write(m.t, filepath.Join("root/ostree/deploy", d.OS, "deploy", d.name(), "etc", name), name)
}

// setDefault is a verb that this release of libostree does not have.
func (m *mix) setDefault() {
	i := m.rng.IntN(len(m.list))
	d := m.list[i]
	m.list = append([]modelDeployment{d}, slices.Delete(m.list, i, i+1)...)
	m.run(m.ours, true, "admin", "set-default", strconv.Itoa(i))
}

// check compares the sysroot with the model.
func (m *mix) check() {
	m.t.Helper()
	want := m.status()
	for _, s := range []*side{m.real, m.ours} {
		if d := gocmp.Diff(output{Out: want}, s.run(m.t, "admin", "status")); d != "" {
			m.t.Fatalf("%s admin status (-want +got):\n%s\n%s", s.program, d, m.history())
		}
	}
	if d := gocmp.Diff(m.files(), m.found()); d != "" {
		m.t.Fatalf("the sysroot (-want +got):\n%s\n%s", d, m.history())
	}
}

func (m *mix) status() string {
	if len(m.list) == 0 {
		return "No deployments.\n"
	}
	var b strings.Builder
	for _, d := range m.list {
		fmt.Fprintf(&b, "  %s %s\n    Version: %s\n", d.OS, d.name(), d.Version)
		if d.Pinned {
			b.WriteString("    Pinned: yes\n")
		}
		fmt.Fprintf(&b, "    origin refspec: %s\n", d.Commit)
	}
	return b.String()
}

// files is what the sysroot must hold: entries with their arguments, trees with
// the marks in their /etc.
func (m *mix) files() map[string]string {
	out := map[string]string{}
	for i, d := range m.list {
		out[fmt.Sprintf("entry ostree-%d-%s.conf", len(m.list)-i, d.OS)] = strings.Join(d.Kargs, " ")
		out["tree "+d.OS+"/"+d.name()] = strings.Join(d.Marks, " ")
	}
	return out
}

func (m *mix) found() map[string]string {
	m.t.Helper()
	out := map[string]string{}
	root := filepath.Join(m.real.dir, "root")
	entries, err := filepath.Glob(root + "/boot/loader/entries/*")
	testutil.Must(m.t, err)
	for _, e := range entries {
		data, err := os.ReadFile(e)
		testutil.Must(m.t, err)
		for line := range strings.SplitSeq(string(data), "\n") {
			if options, ok := strings.CutPrefix(line, "options "); ok {
				own := slices.DeleteFunc(strings.Fields(options), func(a string) bool { return keyOf(a) == "ostree" })
				out["entry "+filepath.Base(e)] = strings.Join(own, " ")
			}
		}
	}
	trees, err := filepath.Glob(root + "/ostree/deploy/*/deploy/*.?")
	testutil.Must(m.t, err)
	for _, tree := range trees {
		marks, err := filepath.Glob(tree + "/etc/mark-*")
		testutil.Must(m.t, err)
		for i := range marks {
			marks[i] = filepath.Base(marks[i])
		}
		slices.SortFunc(marks, cmp.Compare)
		rel, _ := filepath.Rel(root+"/ostree/deploy", tree)
		out["tree "+strings.Replace(rel, "/deploy/", "/", 1)] = strings.Join(marks, " ")
	}
	return out
}

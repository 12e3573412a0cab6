// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// today is the time of the first deployment that mk makes; each further one is a day older.
var today = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

// mk builds a state from a line such as "+n p b* r! o@other": staged, pending,
// booted, pinned, of another stateroot; G: it booted well.
func mk(line string) State {
	var st State
	for i, w := range strings.Fields(line) {
		name, root, _ := strings.Cut(w, "@")
		if root == "" {
			root = "os"
		}
		d := Deployment{Stateroot: root, Index: i, Staged: strings.HasPrefix(name, "+"),
			Booted: strings.Contains(name, "*"), Pinned: strings.Contains(name, "!")}
		d.Version = strings.Trim(name, "+*!G")
		d.Time = today.AddDate(0, 0, -i)
		copy(d.Checksum[:], d.Version)
		st.Deployments = append(st.Deployments, d)
		if strings.HasSuffix(name, "G") {
			st.good = append(st.good, d.FullName())
		}
	}
	return st
}

func order(list []Deployment) string {
	var out []string
	for _, d := range list {
		out = append(out, d.Version)
	}
	return strings.Join(out, " ")
}

func TestRetention(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state string
		r     Retention
		merge string // version of the merge deployment
		want  string
	}{
		{"", Retention{}, "", "N"},
		{"a", Retention{}, "a", "N a"},
		{"a b", Retention{}, "a", "N a"},
		{"a* b", Retention{}, "a", "N a"},
		{"p a* b", Retention{}, "a", "N a"},
		{"p a* b", Retention{Pending: true}, "a", "N p a"},
		{"p a* b", Retention{Rollback: true}, "a", "N a b"},
		{"p a* b c", Retention{Older: 1}, "a", "N p a"},
		{"a* b c d", Retention{Older: 2}, "a", "N a b c"},
		{"a* b! c", Retention{}, "a", "N a b"},
		{"a* b c d", Retention{Older: 2, MaxAge: 25 * time.Hour, Now: today}, "a", "N a b"}, // b is one day old, c two
		{"a* b c d", Retention{Older: 2, MaxAge: time.Hour}, "a", "N a b c"},
		{"a* b c d", Retention{Older: 2, MaxAge: 25 * time.Hour, Now: today.AddDate(73, 0, 0)}, "a", "N a b"}, // a clock in 2099
		{"a* b c d", Retention{Older: 2, MaxAge: 25 * time.Hour, Now: time.Unix(1, 0)}, "a", "N a b c"},       // and one in 1970
		{"a* b cG d", Retention{}, "a", "N a c"},
		{"a* b cG d", Retention{Older: 1}, "a", "N a b c"},
		{"a*G b c", Retention{}, "a", "N a"},
		{"p! a*", Retention{}, "a", "N p a"},
		{"x@other a* y@other b", Retention{}, "a", "N x a y"},
		{"a* b", Retention{NotAsDefault: true}, "a", "a N"},
		{"a* b", Retention{NotAsDefault: true, Rollback: true}, "a", "a N b"},
		{"x@other", Retention{NotAsDefault: true}, "", "x N"},
		{"+s a* b", Retention{}, "a", "N a"},
		{"p a* b", Retention{}, "b", "N a b"}, // merged from the rollback one
	} {
		st := mk(c.state)
		next := mk("N").Deployments[0]
		var merge *Deployment
		for i, d := range st.Deployments {
			if d.Version == c.merge && c.merge != "" {
				merge = &st.Deployments[i]
			}
		}
		if got := order(c.r.Order(st, next, merge)); got != c.want {
			t.Errorf("%q %+v: %q, want %q", c.state, c.r, got, c.want)
		}
	}
}

// TestPrune: what cleanup leaves.
func TestPrune(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state string
		r     Retention
		want  string
	}{
		{"", Retention{}, ""},
		{"a*", Retention{}, "a"},
		{"a* b c d", Retention{}, "a b"},
		{"a b c d", Retention{}, "a b"},
		{"a* b c d e", Retention{Older: 1}, "a b c"},
		{"a* b c d e", Retention{Older: 9}, "a b c d e"},
		{"a* b c d e", Retention{Older: 9, MaxAge: 50 * time.Hour, Now: today}, "a b c"}, // c is two days old
		{"a* b c d e", Retention{Older: 9, MaxAge: 50 * time.Hour, Now: today.AddDate(73, 0, 0)}, "a b c"},
		{"a* b c d e", Retention{Older: 9, MaxAge: 50 * time.Hour, Now: time.Unix(1, 0)}, "a b c d e"},
		{"a* b c! d", Retention{}, "a b c"},
		{"a* b x@other d", Retention{}, "a b x"},
		{"+s a* b c", Retention{}, "s a"}, // a is what comes back once s is in force
		{"p a* b c", Retention{}, "p a"},
		{"a b c d*", Retention{}, "a d"},
		{"a* b cG d", Retention{}, "a b c"},
		{"a*G b c d", Retention{}, "a b"},
		{"a* b c d eG", Retention{Older: 1}, "a b c e"},
		{"a* b c dG eG", Retention{}, "a b d"}, // the latest of them
		{"a* b c d", Retention{NotAsDefault: true, Pending: true, Rollback: true}, "a b"},
	} {
		st := mk(c.state)
		got := c.r.Prune(st)
		if order(got) != c.want {
			t.Errorf("%q %+v: %q, want %q", c.state, c.r, order(got), c.want)
		}
		if again := c.r.Prune(State{Deployments: got, good: st.good}); order(again) != c.want && c.r.Older == 0 {
			t.Errorf("%q %+v: not stable: %q", c.state, c.r, order(again))
		}
	}
	st := mk("a* b c")
	if got := order((Retention{}).Prune(st, st.Deployments[2])); got != "a b c" {
		t.Error(got)
	}
}

func TestPlans(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ state, rollback, default1, undeploy0 string }{
		{"", "none", "none", "none"},
		{"a", "none", "none", ""},
		{"a*", "none", "none", "booted"},
		{"a b", "b a", "b a", "b"},
		{"a* b", "b a", "b a", "booted"},
		{"p a* b", "a p b", "a p b", "a b"},
		{"+s a* b", "a b", "a b", "a b"},
		{"+s b a*", "a b", "b a", "b a"},
		{"a* x@other b", "b a x", "x a b", "booted"},
		{"a! b*", "b a", "b a", "pinned"},
	} {
		st := mk(c.state)
		show := func(list []Deployment, err error) string {
			switch {
			case errors.Is(err, ErrNoRollback), errors.Is(err, ErrNoDeployment):
				return "none"
			case errors.Is(err, ErrBooted):
				return "booted"
			case errors.Is(err, ErrPinned):
				return "pinned"
			case err != nil:
				return err.Error()
			}
			return order(list)
		}
		got := [3]string{show(PlanRollback(st)), show(PlanDefault(st, 1)), show(PlanUndeploy(st, 0))}
		if want := [3]string{c.rollback, c.default1, c.undeploy0}; got != want {
			t.Errorf("%q: %q, want %q", c.state, got, want)
		}
		if d := cmp.Diff(mk(c.state).Deployments, st.Deployments, cmp.AllowUnexported(Deployment{}, Origin{})); d != "" {
			t.Errorf("%q: a planner changed its input: %s", c.state, d)
		}
	}
}

func TestPlanCleanup(t *testing.T) {
	t.Parallel()
	st := mk("+s a*")
	st.BootVersion, st.Subversion, st.hasLoader = 1, 0, true
	for i := range st.Deployments {
		st.Deployments[i].BootChecksum = strings.Repeat("0", 63) + st.Deployments[i].Version
	}
	found := func(version string, root bool) Found {
		d := mk(version).Deployments[0]
		return Found{Path: d.Dir(), Stateroot: "os", Name: d.Name(), Root: root}
	}
	inv := Inventory{
		Deployments: []Found{found("s", false), found("a", true), found("old", false), found("running", true)},
		KernelDirs:  []string{"ostree/os-" + strings.Repeat("0", 63) + "a", "ostree/os-" + strings.Repeat("0", 64)},
		LoaderDirs:  []string{"loader.0", "loader.1", "loader.tmp"},
		BootLinks:   []string{"boot.0", "boot.0.1", "boot.1", "boot.1.0", "boot.1.1"},
		Refs:        []string{"ostree/0/0/0", "ostree/1/0/0", "ostree/1/1/0", "ostree/staged/0"},
	}
	want := CleanupPlan{
		Paths:     []string{found("old", false).Path, "ostree/boot.0", "ostree/boot.0.1", "ostree/boot.1.1"},
		BootPaths: []string{"loader.0", "loader.tmp", "ostree/os-" + strings.Repeat("0", 64)},
		Refs:      []string{"ostree/0/0/0", "ostree/1/1/0"},
	}
	if d := cmp.Diff(want, PlanCleanup(st, inv)); d != "" {
		t.Fatal(d)
	}
	st.Deployments = st.Deployments[1:]
	if got := PlanCleanup(st, inv).Refs; len(got) != 3 {
		t.Errorf("nothing staged: %q", got)
	}
	st.Broken = []BrokenEntry{{"x", "y"}}
	want.BootPaths, want.Paths = want.BootPaths[:2], want.Paths[1:]
	want.Refs = append(want.Refs, "ostree/staged/0")
	if d := cmp.Diff(want, PlanCleanup(st, inv)); d != "" {
		t.Fatal(d)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("ab", 32)
	good := "/ostree/boot.1/os/" + sum + "/3"
	b, err := parseBootLink(good)
	if err != nil || b != (bootTarget{1, "os", sum, 3}) || "/"+b.link() != good {
		t.Fatalf("%v %+v", err, b)
	}
	for _, bad := range []string{"", "/", "ostree/boot.1/os/" + sum + "/3", "/ostree/boot.2/os/" + sum + "/3",
		"/ostree/boot.1/../" + sum + "/3", "/ostree/boot.1/os/" + sum + "/03", "/ostree/boot.1/os/" + sum + "/-1",
		"/ostree/boot.1/os/" + sum[1:] + "/3", good + "/x"} {
		if _, err := parseBootLink(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	for _, bad := range []string{"", sum, sum + ".", sum + ".x", sum + ".1.2", "x.1", sum + ".99999999999"} {
		if _, _, err := parseName(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	in := "[origin]\nrefspec=r:os/main\nunlocked=hotfix\n\n[libostree-transient]\npinned=true\n\n[packages]\nrequested=a;b;\n"
	o, err := ParseOrigin([]byte(in))
	testutil.Must(t, err)
	if o.Refspec() != "r:os/main" || !o.Pinned() || o.Unlocked() != "hotfix" || !bytes.Equal(o.Bytes(), []byte(in)) {
		t.Fatalf("%s", o.Bytes())
	}
	var c ostree.Checksum
	c[0] = 1
	n := o.Successor().WithOverrideCommit(c)
	if got, ok := n.OverrideCommit(); !ok || got != c || n.Pinned() || n.Unlocked() != "" || !strings.Contains(string(n.Bytes()), "requested=a;b;") {
		t.Fatalf("%s", n.Bytes())
	}
	if _, ok := n.WithOverrideCommit(ostree.Checksum{}).OverrideCommit(); ok || !o.Pinned() {
		t.Fatal("With methods are not copies")
	}
	if o.WithPinned(false).Pinned() || !o.WithPinned(false).WithPinned(true).Pinned() {
		t.Fatal("pin")
	}
}

func TestTitleIsOneLine(t *testing.T) {
	t.Parallel()
	if got := sanitize("a\nb\x1b[1m\xff"); got != "a b [1m?" {
		t.Error(got)
	}
}

func TestStagedRecord(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("ab", 32)
	target := Deployment{Stateroot: "os", Serial: 2, BootChecksum: sum, Kargs: bls.Kargs{"a=b", `c="d e"`}, extra: []bls.Field{{Key: "x-k", Value: "v w"}}}
	merge := Deployment{Stateroot: "os", BootChecksum: sum}
	overlaid := target
	overlaid.overlays = []string{sum}
	for _, r := range []stagedRecord{
		{target: target},
		{target: overlaid, merge: &merge, locked: true},
	} {
		data, err := encodeStaged(r)
		testutil.Must(t, err)
		got, err := decodeStaged(data)
		testutil.Must(t, err)
		if d := cmp.Diff(&r, got, cmp.AllowUnexported(stagedRecord{}, Deployment{}, Origin{})); d != "" {
			t.Error(d)
		}
	}
}

func FuzzDecodeStaged(f *testing.F) {
	data, err := encodeStaged(stagedRecord{target: Deployment{Stateroot: "os", BootChecksum: strings.Repeat("ab", 32)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeStaged(data)
		if err != nil {
			return
		}
		if !validStateroot(r.target.Stateroot) || strings.Contains(r.target.Dir(), "..") {
			t.Fatalf("%+v", r.target)
		}
	})
}

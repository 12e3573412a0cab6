// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

func TestKargEdits(t *testing.T) {
	t.Parallel()
	const line = "root=UUID=1 quiet console=tty0 console=ttyS0 rw"
	for name, c := range map[string]struct {
		e    kargEdits
		want string // "" for a refusal
	}{
		"append":            {kargEdits{appends: []string{"quiet", "a=b"}}, line + " quiet a=b"},
		"append missing":    {kargEdits{appendsMissing: []string{"quiet", "console=tty1"}}, line + " console=tty1"},
		"delete":            {kargEdits{deletes: []string{"quiet", "console=tty0", "root"}}, "console=ttyS0 rw"},
		"delete several":    {kargEdits{deletes: []string{"console"}}, ""},
		"delete none":       {kargEdits{deletes: []string{"debug"}}, ""},
		"delete if present": {kargEdits{deletePresent: []string{"debug", "rw"}}, "root=UUID=1 quiet console=tty0 console=ttyS0"},
		"present, several":  {kargEdits{deletePresent: []string{"console"}}, ""},
		"replace":           {kargEdits{replaces: []string{"root=UUID=2"}}, "root=UUID=2 quiet console=tty0 console=ttyS0 rw"},
		"replace one":       {kargEdits{replaces: []string{"console=ttyS0=ttyS1,115200"}}, "root=UUID=1 quiet console=tty0 console=ttyS1,115200 rw"},
		"replace several":   {kargEdits{replaces: []string{"console=ttyS1"}}, ""},
		"replace none":      {kargEdits{replaces: []string{"debug=1"}}, ""},
		"all":               {kargEdits{deletes: []string{"quiet"}, replaces: []string{"rw=x"}, appends: []string{"quiet"}}, "root=UUID=1 console=tty0 console=ttyS0 rw=x quiet"},
	} {
		before := bls.ParseKargs(line)
		got, err := c.e.change(before)
		if (err != nil) != (c.want == "") || err == nil && got.String() != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
		if err != nil && !errors.Is(err, errKarg) {
			t.Errorf("%s: %v", name, err)
		}
		if before.String() != line {
			t.Errorf("%s changed its input to %q", name, before)
		}
	}
}

func TestEditedKargs(t *testing.T) {
	t.Parallel()
	got, err := editedKargs("a=1 b\n\n # no\nc=\"d e\"\n#x\n")
	if err != nil || len(got) != 3 || got[2] != `c="d e"` {
		t.Errorf("%q %v", got, err)
	}
	if _, err := editedKargs("\n# a\n"); !errors.Is(err, errKarg) {
		t.Error(err)
	}
}

// TestKargsSources: what a program set is replaced as a whole, and the rest stays; both
// survive upgrades and changes by libostree.
func TestKargsSources(t *testing.T) {
	t.Parallel()
	root := host(t)
	expect := func(want string, sources ...string) {
		t.Helper()
		var rep kargsReport
		testutil.Must(t, json.Unmarshal([]byte(call(t, root, 0, "kargs", "--json")), &rep))
		var got []string
		for _, s := range rep.Sources {
			got = append(got, s.Name+": "+s.Kargs.String())
		}
		if rep.Kargs.String() != want || !slices.Equal(got, sources) {
			t.Fatalf("%s %q, want %s %q", rep.Kargs, got, want, sources)
		}
	}
	call(t, root, 0, "kargs", "--source=tuned", "--set=nohz=full isolcpus=1-3")
	expect("root=LABEL=x quiet nohz=full isolcpus=1-3", "tuned: nohz=full isolcpus=1-3")
	call(t, root, 0, "kargs", "--source=gpu", "--set=vfio")
	call(t, root, 0, "kargs", "--append=mine", "--delete=quiet")
	call(t, root, 77, "kargs", "--source=tuned", "--set=nohz=full isolcpus=1-3", "--unchanged-exit-77")
	release(t, root, "2", nil)
	call(t, root, 0, "upgrade")
	expect("root=LABEL=x nohz=full isolcpus=1-3 vfio mine", "gpu: vfio", "tuned: nohz=full isolcpus=1-3")
	call(t, root, 0, "kargs", "--source=tuned", "--set=nohz=off")
	if out := call(t, root, 0, "kargs", "--source=tuned"); out != "nohz=off\n" {
		t.Error(out)
	}
	call(t, root, 0, "kargs", "--source=gpu", "--set=")
	expect("root=LABEL=x mine nohz=off", "gpu: ", "tuned: nohz=off")
	testutil.Run(t, "ostree", "admin", "undeploy", "--sysroot="+root, "1") // writes the menu anew
	expect("root=LABEL=x mine nohz=off", "gpu: ", "tuned: nohz=off")
	call(t, root, 0, "kargs", "--source=gpu", "--unset")
	call(t, root, 77, "kargs", "--source=gpu", "--unset", "--unchanged-exit-77")
	call(t, root, 0, "kargs", "--source=tuned", "--unset")
	expect("root=LABEL=x mine")
	call(t, root, 1, "kargs", "--source=tuned")
	call(t, root, 2, "kargs", "--set=x")
	call(t, root, 2, "kargs", "--source=x", "--set=x", "--append=y")
	call(t, root, 1, "kargs", "--source=x y", "--set=x")
	call(t, root, 1, "kargs", "--source=x", "--set=ostree=/x")
}

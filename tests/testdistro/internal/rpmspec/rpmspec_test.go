// SPDX-License-Identifier: Apache-2.0

package rpmspec_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/tests/testdistro/internal/debian"
	"github.com/hostctl/hostctl/tests/testdistro/internal/rpmspec"
)

func TestFromDebian(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"2.36-9+deb12u14":             "2.36-9+deb12u14",
		"252.39-1~deb12u2":            "252.39-1~deb12u2",
		"1:2.39.5-0+deb12u3":          "1:2.39.5-0+deb12u3",
		"20230311+deb12u1":            "20230311+deb12u1-0",
		"2.1.12-stable-8":             "2.1.12_stable-8",
		"7.1.0+6.1.176-1":             "7.1.0+6.1.176-1",
		"0:1.2-3":                     "0:1.2-3",
		"1.4.0-3ubuntu1~with~tildes+": "1.4.0-3ubuntu1~with~tildes+",
	} {
		if got := rpmspec.FromDebian(in).String(); got != want {
			t.Errorf("FromDebian(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestRelations(t *testing.T) {
	t.Parallel()
	drop := func(a debian.Atom) bool { return a.Name == "dpkg" || a.Name == "debconf" }
	for in, want := range map[string]string{
		"libc6 (>= 2.36)":              "libc6 >= 2.36",
		"a (>> 2.36)":                  "a > 2.36-0",
		"a (<= 2.36)":                  "a <= 2.36-0",
		"a (<< 2.36)":                  "a < 2.36",
		"a (= 1:2-3)":                  "a = 1:2-3",
		"git-man (<< 1:2.39.5-.)":      "git-man < 1:2.39.5-99999999",
		"git-man (>> 1:2.39.5)":        "git-man > 1:2.39.5-0",
		"a | b (>= 2)":                 "(a or b >= 2)",
		"debconf (>= 0.5) | debconf2":  "debconf2",
		"dpkg (>= 1.17), x":            "x",
		"dpkg | debconf":               "",
		"python3:any (>= 3.11~)":       "python3 >= 3.11~",
		"perl:any, b-stable (= 1-2-3)": "perl, b-stable = 1_2-3",
	} {
		got, err := rpmspec.Relations(in, drop)
		if err != nil {
			t.Errorf("Relations(%q): %v", in, err)
			continue
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("Relations(%q) = %q, want %q", in, s, want)
		}
	}
}

func TestProvides(t *testing.T) {
	t.Parallel()
	own := rpmspec.FromDebian("1:2.0-3")
	got, err := rpmspec.Provides("awk, libx (= 4)", own)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"awk = 1:2.0-3", "libx = 4"}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := rpmspec.Provides("a | b", own); err == nil {
		t.Error("alternatives in Provides were accepted")
	}
}

// rpm has to order the mapped versions, and to judge the mapped relations, as
// dpkg does the originals.
func TestMappingAgreesWithRPM(t *testing.T) {
	t.Parallel()
	testutil.Tool(t, "rpm")
	versions := []string{
		"1.0~rc1-1", "1.0-1~deb12u1", "1.0-1", "1.0-1+b1", "1.0-1+deb12u2", "1.0-1+deb12u10", "1.0-2", "1.0-10",
		"1.0+ds1-0", "1.0.1-1", "1.10", "20230311+deb12u1", "20250419~deb12u2", "1:0.1-1", "2:0-0.1",
		"3.2.7-1+deb12u6", "3.5.0+ds1-0+deb12u1", "2.1.12-stable-8", "2.1.12-stable-8+deb12u1",
	}
	var lua strings.Builder
	var want []string
	for _, a := range versions {
		for _, b := range versions {
			c := debian.CompareVersions(a, b)
			fmt.Fprintf(&lua, "print(rpm.ver(%q) < rpm.ver(%q), ' ') ", rpmspec.FromDebian(a), rpmspec.FromDebian(b))
			want = append(want, fmt.Sprintf("%s < %s: %t", a, b, c < 0))
		}
	}
	out, err := exec.Command("rpm", "--eval", "%{lua:"+lua.String()+"}").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(out))
	if len(got) != len(want) {
		t.Fatalf("rpm answered %d comparisons, want %d", len(got), len(want))
	}
	for i, w := range want {
		if !strings.HasSuffix(w, ": "+got[i]) {
			t.Errorf("rpm says %s, dpkg %s", got[i], w)
		}
	}
}

func TestSpecText(t *testing.T) {
	t.Parallel()
	day := time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)
	s := rpmspec.Spec{
		Name: "libfoo1", Source: "foo", EVR: rpmspec.FromDebian("1:2-3"), Arch: "noarch",
		Summary: "100% foo", Description: "text", License: "x",
		Tags:       []rpmspec.Tag{{Name: "Requires", Value: "bar"}},
		Scriptlets: []rpmspec.Scriptlet{{Kind: "%post", Args: "-p <lua>", Body: "print('100%')"}},
		Files: []rpmspec.File{
			{Path: "/usr/bin/[", Mode: 0o755, User: "root", Group: "root"},
			{Path: "/usr/share/a[1]*", Mode: 0o4755, User: "root", Group: "adm", Caps: "cap_net_raw=ep"},
			{Path: `/usr/lib/x\x2d.slice`, Mode: 0o644, User: "root", Group: "root"},
			{Path: "/etc/foo", Mode: 0o644, User: "root", Group: "root", Config: true},
			{Path: "/usr/lib/l", Kind: rpmspec.Symlink, User: "root", Group: "root"},
			{Path: "/usr/lib/d", Kind: rpmspec.Directory, Mode: 0o755, User: "root", Group: "root"},
		},
		Changes: []rpmspec.Change{
			{When: day, Author: "A <a@example.test>", Version: "2-3", Lines: []string{"one\n two"}},
			{When: day.AddDate(0, 0, 5), Author: "B", Version: "2-2"},
		},
	}
	text := s.Text()
	for _, want := range []string{
		"Name: foo\nEpoch: 1\nVersion: 2\nRelease: 3\n", "\n%package -n libfoo1\nSummary: 100%% foo\n", "\nBuildArch: noarch\n",
		"\n%description -n libfoo1\ntext\n", "\n%post -n libfoo1 -p <lua>\nprint('100%%')\n", "\n%files -n libfoo1\n",
		"%attr(0755,root,root) \"/usr/bin/[\"\n", `%attr(4755,root,adm) %caps(cap_net_raw=ep) "/usr/share/a\[1\]\*"`,
		`"/usr/lib/x\x2d.slice"`, "%config(noreplace) %attr(0644,root,root) \"/etc/foo\"\n",
		"%attr(-,root,root) \"/usr/lib/l\"\n", "%dir %attr(0755,root,root) \"/usr/lib/d\"\n",
		"* Tue Jan 02 2024 A <a@example.test> - 2-3\n- one two\n", "* Tue Jan 02 2024 B - 2-2\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("spec lacks %q:\n%s", want, text)
		}
	}
}

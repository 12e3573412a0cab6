// SPDX-License-Identifier: Apache-2.0

package selinux

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp/syntax"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// letters are the file types as matchpathcon -m names them.
var letters = []struct {
	letter string
	mode   uint32
}{{"f", 0o100644}, {"d", 0o040755}, {"l", 0o120777}, {"c", 0o020600}, {"b", 0o060600}, {"p", 0o010600}, {"s", 0o140600}}

// readFiles reads the texts beside a file_contexts.
func readFiles(t testing.TB, name string) Files {
	t.Helper()
	f := Files{Name: name}
	for suffix, to := range map[string]*[]byte{"": &f.Base, ".homedirs": &f.Homedirs, ".local": &f.Local, ".subs": &f.Subs, ".subs_dist": &f.SubsDist} {
		data, err := os.ReadFile(name + suffix)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		*to = data
	}
	return f
}

// writeFiles puts the texts, and not what was compiled from them, where the library
// reads them.
func writeFiles(t testing.TB, f Files) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file_contexts")
	for suffix, data := range map[string][]byte{"": f.Base, ".homedirs": f.Homedirs, ".local": f.Local, ".subs": f.Subs, ".subs_dist": f.SubsDist} {
		if data != nil {
			testutil.Must(t, os.WriteFile(name+suffix, data, 0o644))
		}
	}
	return name
}

// systemPolicies finds the policies that are installed here, and others below the
// directory that HOSTCTL_SELINUX_POLICIES names.
func systemPolicies(t testing.TB) []string {
	t.Helper()
	found, err := filepath.Glob("/etc/selinux/*/contexts/files/file_contexts")
	testutil.Must(t, err)
	if dir := os.Getenv("HOSTCTL_SELINUX_POLICIES"); dir != "" {
		testutil.Must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "file_contexts" {
				found = append(found, p)
			}
			return err
		}))
	}
	if len(found) > 0 {
		return found
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("no SELinux policy is installed (selinux-policy-default, selinux-policy-targeted)")
	}
	t.Skip("no SELinux policy is installed")
	return nil
}

// ask runs the real program.
func ask(t testing.TB, program, file, letter string, paths []string) []string {
	t.Helper()
	var out []string
	for part := range slices.Chunk(paths, 4000) {
		cmd := exec.Command(program, append([]string{"-N", "-n", "-f", file, "-m", letter, "--"}, part...)...)
		text, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s -f %s: %v\n%.2000s", program, file, err, text)
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if len(lines) != len(part) {
			t.Fatalf("%s answers %d of %d: %.1000s", program, len(lines), len(part), text)
		}
		out = append(out, lines...)
	}
	return out
}

// matchpathcon finds the program, with a library of the releases that are followed.
// libselinux 3.8 compares plain paths without their last newline and differs in a
// few other corners.
func matchpathcon(t testing.TB) string {
	t.Helper()
	program := testutil.Tool(t, "matchpathcon")
	file := writeFiles(t, Files{Base: []byte("/plain label_t\n")})
	if ask(t, program, file, "f", []string{"/plain\n"})[0] == none {
		t.Skip("libselinux is 3.8 or later")
	}
	return program
}

// compare asks both sides and reports each difference.
func compare(t *testing.T, f Files, paths []string) {
	t.Helper()
	program := matchpathcon(t)
	c, err := Parse(f)
	testutil.Must(t, err)
	file := writeFiles(t, f)
	paths = slices.DeleteFunc(paths, func(p string) bool { return p == "" || strings.Contains(p, "\x00") || len(p) > 4000 })
	differences := 0
	for i, l := range letters {
		// All paths as files, an eighth of them as each of the others.
		some := paths
		if i > 0 {
			some = nil
			for n := i; n < len(paths); n += 8 {
				some = append(some, paths[n])
			}
		}
		for n, want := range ask(t, program, file, l.letter, some) {
			got, ok := c.Lookup(some[n], l.mode)
			if !ok {
				got = none
			}
			if got == want {
				continue
			}
			if differences++; differences <= 20 {
				t.Errorf("%s -m %s %q: %s, matchpathcon says %s", f.Name, l.letter, some[n], got, want)
			}
		}
	}
	t.Logf("%s: %d specs, %d paths, %d differences", f.Name, c.Len(), len(paths), differences)
}

// TestAgreesWithMatchpathcon compares on installed policies: files of this machine,
// paths made from the policy's own patterns, and those with a change; and the paths
// in the file that HOSTCTL_SELINUX_PATHS names, one a line.
func TestAgreesWithMatchpathcon(t *testing.T) {
	t.Parallel()
	for _, name := range systemPolicies(t) {
		f := readFiles(t, name)
		paths := append(patternPaths(t, f, 1), machinePaths(t, 3000)...)
		if more := os.Getenv("HOSTCTL_SELINUX_PATHS"); more != "" {
			data, err := os.ReadFile(more)
			testutil.Must(t, err)
			paths = append(paths, strings.Split(strings.TrimSpace(string(data)), "\n")...)
		}
		compare(t, f, paths)
	}
}

// machinePaths gives some of the paths of this machine.
func machinePaths(t testing.TB, count int) (paths []string) {
	t.Helper()
	for _, top := range []string{"/etc", "/usr/bin", "/usr/sbin", "/usr/lib/systemd", "/usr/libexec", "/usr/share/doc", "/var/lib"} {
		_ = filepath.WalkDir(top, func(p string, _ fs.DirEntry, err error) error {
			if err == nil {
				paths = append(paths, p)
			}
			return nil
		})
	}
	step := max(len(paths)/count, 1)
	var some []string
	for i := 0; i < len(paths); i += step {
		some = append(some, paths[i])
	}
	return some
}

// patternPaths makes paths that match a policy's patterns, and such that nearly do.
func patternPaths(t testing.TB, f Files, each int) (paths []string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, text := range [][]byte{f.Base, f.Homedirs, f.Local} {
		budget := maxTotalCost
		specs, err := parseSpecs(f.Name, string(text), &budget)
		testutil.Must(t, err)
		for _, s := range specs {
			expr, err := translate(s.pattern)
			testutil.Must(t, err)
			re, err := syntax.Parse(expr, syntax.Perl)
			testutil.Must(t, err)
			for range each {
				var b strings.Builder
				example(&b, re, rng)
				paths = append(paths, b.String(), mutate(b.String(), rng))
			}
		}
	}
	// The other ends of the substitutions, and names that only look like them.
	for _, line := range strings.Split(string(f.SubsDist)+"\n"+string(f.Subs), "\n") {
		if w := strings.Fields(line); len(w) == 2 && w[0][0] == '/' {
			paths = append(paths, w[0], w[0]+"x", w[0]+"/x", w[0]+"/bin/sh", w[1]+"/x/y", w[0]+"/", w[0]+"//x//")
		}
	}
	return paths
}

// example writes a text that a pattern matches.
func example(b *strings.Builder, re *syntax.Regexp, rng *rand.Rand) {
	times := 1
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		for range 20 { // a printable one, if there is one
			i := rng.IntN(len(re.Rune)/2) * 2
			r := re.Rune[i] + rng.Int32N(min(re.Rune[i+1], 126)-min(re.Rune[i], 126)+1)
			if r > ' ' && r < 127 {
				b.WriteRune(r)
				return
			}
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte("abz019._-/~"[rng.IntN(11)])
	case syntax.OpAlternate:
		example(b, re.Sub[rng.IntN(len(re.Sub))], rng)
	case syntax.OpStar:
		times = rng.IntN(4)
	case syntax.OpPlus:
		times = 1 + rng.IntN(3)
	case syntax.OpQuest:
		times = rng.IntN(2)
	case syntax.OpRepeat:
		times = re.Min + rng.IntN(2)
	}
	if re.Op == syntax.OpAlternate {
		return
	}
	for range times {
		for _, sub := range re.Sub {
			example(b, sub, rng)
		}
	}
}

// mutate changes a path a little.
func mutate(p string, rng *rand.Rand) string {
	i := rng.IntN(len(p) + 1)
	switch rng.IntN(8) {
	case 0:
		return p[:i] + "x" + p[i:]
	case 1:
		return p[:i] + "/" + p[i:]
	case 2:
		return p[:i] + p[min(i+1, len(p)):]
	case 3:
		return p + "/sub/file.so.1"
	case 4:
		return p[:max(i, 1)]
	case 5:
		return p + "\xc3\xbc\xff"
	case 6:
		return "/usr" + p
	}
	return p + ".old"
}

// TestAgreesOnCorners compares on texts made for what real policies seldom have.
func TestAgreesOnCorners(t *testing.T) {
	t.Parallel()
	f := Files{Name: "corners", Base: []byte(strings.Join([]string{
		"# comment \xe4 in Latin-1",
		"  ",
		"/.*\tdefault_t",
		"/usr/.*  usr_t   ",
		"\t /usr/bin/.*	--	bin_t	and more",
		"/usr/bin/exact	first_t",
		"/usr/bin/ex.ct	regex_t",
		"/usr/bin/exact	--	second_t",
		"/usr/bin/exact	-d	third_t",
		"/usr/none(/.*)?	<<none>>",
		"/usr/none/but	some_t",
		"/usr/?	optional_t",
		"/us?r2/x	us_t",
		"/dot\\.d	dot_t",
		"/dot\\.d/.*	dots_t",
		"/a|/b/c|/d/.+	choice_t",
		"/s/b|/c	stemmed_t",
		"/cls/[]x]+	cls_t",
		"/cls/[^]x]{2,3}/?	ncls_t",
		"/cls/[[:digit:]a-c\\-]+y	dig_t",
		"/cls/\\d\\w\\s*\\S	esc_t",
		"/cls/[\\s]z	space_t",
		"/brace/x{2	lit_t",
		"/brace/x{,3}	lit2_t",
		"/brace/x{2}	rep_t",
		"/brace}/]	close_t",
		"/lazy/a+?b??c*?	lazy_t",
		"/grp/(?:ab|cd)+(e(f)?)*	grp_t",
		"/one/.	one_t",
		"/one/[^/]x	onex_t",
		"/tail/s[^/]*	name_t",
		"/tail/p[^/]+	name1_t",
		"/tail/q.+	some_t",
		"/tail/r/.*	any_t",
		"/tail(/.*)?	-d	tree_t",
		"/anch^or	never_t",
		"/end$	end_t",
		"/end/x$y	never_t",
		"/word/\\bfoo\\b	word_t",
		"/types/x	-b	blk_t", "/types/x	-c	chr_t", "/types/x	-d	dir_t", "/types/x	-p	fifo_t", "/types/x	-l	lnk_t", "/types/x	-s	sock_t", "/types/x	--	reg_t",
		"/src/.*	src_t",
		"relative/.*	rel_t",
		"/last	last_t",
	}, "\n")),
		Homedirs: []byte("/home/[^/]+/\\.ssh(/.*)?	ssh_t\n/usr/bin/ex.ct	home_t\n/last	home_last_t\n"),
		Local:    []byte("/usr/bin/exac.	local_t\n/opt/x	--	opt_t\r\n"),
		Subs:     []byte("# c\n/alias /src\n/twice /first\n/alias/deep /usr/bin\n/rooted /\n/broken\n  /spaced\t /usr/bin more words\n"),
		SubsDist: []byte("/first /src\n/first/x /opt\n/slash/ /opt\n/src/up /usr/bin\n"),
	}
	paths := []string{"/", "/usr", "/usr/", "/usrx", "/usr2/x", "/ur2/x", "/us2/x", "//usr///bin//exact/", "/usr/bin/exact", "/usr/bin/exaxt", "/usr/bin/exacy",
		"/usr/none", "/usr/none/x", "/usr/none/but", "/dot.d", "/dotxd", "/dot.d/x", "/a", "/ax", "/xa", "x/d/e", "/b/c", "/xb/cx", "/d/", "/d/x", "/y/d/x", "/s/b", "/s/bx", "/c", "/s/x/c",
		"/cls/]", "/cls/]]x", "/cls/x]y", "/cls/ab", "/cls/abc/", "/cls/abcd", "/cls/-y", "/cls/7by", "/cls/dy", "/cls/1_ \v\tx", "/cls/1_ ", "/cls/\vz", "/cls/\x85z", "/cls/11\xa0x",
		"/brace/x{2", "/brace/xx", "/brace/x{,3}", "/brace/xxx", "/brace}/]", "/lazy/ab", "/lazy/aacc", "/lazy/b", "/grp/ab", "/grp/abcdeefe", "/grp/", "/one/a", "/one/\xc3", "/one/\xc3\xbc", "/one/\xe4x", "/one/\xc3\xbcx",
		"/one/\n", "/one/\n\n", "/tail/s", "/tail/sx", "/tail/s/x", "/tail/p", "/tail/px", "/tail/q", "/tail/q/", "/tail/qx/y", "/tail/r", "/tail/r/", "/tail/r/x", "/tail", "/tail/x", "/anchor", "/anch^or", "/end", "/end\n", "/end\n\n", "/end/x", "/end/xy", "/end/x\n", "/end/x$y",
		"/word/foo", "/word/foox", "/types/x", "/types/x\n", "/last", "/last\n", "/usr/bin/exact\n", "/src", "/src/x", "/alias", "/alias/x", "/aliasx", "/alias/deep", "/alias/deep/exact", "/twice/x", "/twice/x/x", "/rooted", "/rooted/last", "/rooted/usr/bin/exact", "/spaced/exact",
		"/broken/x", "/first/x", "/first", "/first/y", "/slash/", "/slash//x", "/slash/x", "/src/up/exact", "/alias/up/exact", "/home/u/.ssh", "/home/u/.ssh/k", "/home/u/xssh", "/home//.ssh", "/opt/x", "relative/x", "relative", "usr/bin/exact"}
	rng := rand.New(rand.NewPCG(3, 4))
	paths = append(paths, patternPaths(t, f, 30)...)
	for range 3000 {
		paths = append(paths, mutate(paths[rng.IntN(len(paths))], rng))
	}
	compare(t, f, paths)
}

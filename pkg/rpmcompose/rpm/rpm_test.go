// SPDX-License-Identifier: Apache-2.0

package rpm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// linked gives a path that rpm does not take for a pattern.
func linked(t testing.TB, file string) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), "package.rpm")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func readHeaderOf(t testing.TB, file string) *Package {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := ReadPackage(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// queryFormat asks rpm for everything that our accessors give, one fact per line.
const queryFormat = `nevra %{NAME} %|EPOCH?{%{EPOCH}}:{-}| %{VERSION} %{RELEASE} %{ARCH}\n` +
	`size %{LONGSIZE} built %{BUILDTIME}\n` +
	`[requires %{REQUIRENAME} %{REQUIREFLAGS} %{REQUIREVERSION}\n]` +
	`[provides %{PROVIDENAME} %{PROVIDEFLAGS} %{PROVIDEVERSION}\n]` +
	`[conflicts %{CONFLICTNAME} %{CONFLICTFLAGS} %{CONFLICTVERSION}\n]` +
	`[obsoletes %{OBSOLETENAME} %{OBSOLETEFLAGS} %{OBSOLETEVERSION}\n]` +
	`[recommends %{RECOMMENDNAME} %{RECOMMENDFLAGS} %{RECOMMENDVERSION}\n]` +
	`[suggests %{SUGGESTNAME} %{SUGGESTFLAGS} %{SUGGESTVERSION}\n]` +
	`[supplements %{SUPPLEMENTNAME} %{SUPPLEMENTFLAGS} %{SUPPLEMENTVERSION}\n]` +
	`[enhances %{ENHANCENAME} %{ENHANCEFLAGS} %{ENHANCEVERSION}\n]` +
	`[file %{FILENAMES} %{FILEMODES} %{FILEUSERNAME} %{FILEGROUPNAME} %{LONGFILESIZES} %{FILEMTIMES} <%{FILELINKTOS}> <%{FILEDIGESTS}> %{FILEFLAGS} %{FILEVERIFYFLAGS} %{FILEINODES} <%{FILELANGS}>\n]` +
	`[caps %{FILECAPS}\n]`

// describe writes the same lines from our accessors.
func describe(p *Package) string {
	var b strings.Builder
	n := p.NEVRA()
	epoch := "-"
	if n.HasEpoch {
		epoch = fmt.Sprint(n.Epoch)
	}
	fmt.Fprintf(&b, "nevra %s %s %s %s %s\n", n.Name, epoch, n.Version, n.Release, p.Arch())
	fmt.Fprintf(&b, "size %d built %d\n", p.Size(), p.BuildTime().Unix())
	for _, kind := range []struct {
		name string
		deps []Dep
	}{
		{"requires", p.Requires()}, {"provides", p.Provides()}, {"conflicts", p.Conflicts()}, {"obsoletes", p.Obsoletes()},
		{"recommends", p.Recommends()}, {"suggests", p.Suggests()}, {"supplements", p.Supplements()}, {"enhances", p.Enhances()},
	} {
		for _, d := range kind.deps {
			fmt.Fprintf(&b, "%s %s %d %s\n", kind.name, d.Name, d.Flags, d.EVR)
		}
	}
	files := p.Files()
	for _, f := range files {
		fmt.Fprintf(&b, "file %s %d %s %s %d %d <%s> <%s> %d %d %d <%s>\n", f.Path, f.Mode, f.User, f.Group, f.Size, f.MTime,
			f.Link, f.Digest, f.Flags, f.VerifyFlags, f.Inode, f.Lang)
	}
	if p.Header.Has(TagFileCaps) {
		for _, f := range files {
			fmt.Fprintf(&b, "caps %s\n", f.Caps)
		}
	}
	return b.String()
}

// TestSameAsQuery compares what we read with what rpm prints, for every package that rpm 4.18 reads.
func TestSameAsQuery(t *testing.T) {
	t.Parallel()
	program := testutil.Tool(t, "rpm")
	compared := 0
	for _, file := range corpusPackages(t, "rpms") {
		if _, broken := brokenPackages[filepath.Base(file)]; broken || isTextLink(file) {
			continue
		}
		p := readHeaderOf(t, file)
		// Version 6 packages are beyond this rpm, and source packages get another file list from it.
		if p.Header.Has(TagRPMFormat) || p.IsSource() {
			continue
		}
		out, err := exec.Command(program, "-qp", "--nosignature", "--nodigest", "--qf", queryFormat, linked(t, file)).Output()
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		compared++
		if d := cmp.Diff(clean(string(out)), clean(describe(p))); d != "" {
			t.Errorf("%s: %s", file, d)
		}
	}
	if compared < 150 {
		t.Errorf("only %d packages were compared", compared)
	}
}

// clean takes out what rpm adds by itself: a zero epoch of an unversioned list, and blanks at line ends.
func clean(s string) []string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// isTextLink says whether the collection holds a link as a text file, as some archives do.
func isTextLink(file string) bool {
	data, err := os.ReadFile(file)
	return err == nil && len(data) < leadSize && bytes.HasPrefix(data, []byte("."))
}

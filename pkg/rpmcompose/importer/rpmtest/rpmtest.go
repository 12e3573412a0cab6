// SPDX-License-Identifier: Apache-2.0

// Package rpmtest builds small packages with rpmbuild for the tests of what
// imports and installs them.
package rpmtest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Needs skips the test, or with CI=true fails it, unless it runs as root and all
// programs are installed.
func Needs(t testing.TB, programs ...string) {
	t.Helper()
	give := t.Skip
	if os.Getenv("CI") == "true" {
		give = t.Fatal
	}
	if os.Geteuid() != 0 {
		give("owners and overlays need root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			give("program not installed: " + p)
		}
	}
}

// Spec is one package. Install makes files below %{buildroot}; Files is the
// %files section; Extra holds scriptlets and other sections.
type Spec struct {
	Name, Version         string // Version "" means 1.0
	Tags                  string // more lines of the preamble
	Install, Files, Extra string
	Arch                  string // "" means noarch
}

// text renders the spec file.
func (s Spec) text() string {
	version, arch := s.Version, "BuildArch: noarch\n"
	if version == "" {
		version = "1.0"
	}
	if s.Arch != "" {
		arch = "" // that of --target
	}
	return "Name: " + s.Name + "\nVersion: " + version + "\nRelease: 1\nSummary: test\nLicense: none\n" + arch +
		s.Tags + "\n%description\ntest\n%install\nmkdir -p %{buildroot}\n" + s.Install + "\n" + s.Extra + "\n%files\n%defattr(-,root,root)\n" + s.Files + "\n"
}

// Build makes a package and reads its header.
func Build(t testing.TB, s Spec) importer.Source {
	t.Helper()
	return Open(t, BuildFile(t, s))
}

// BuildFile makes a package and gives the path of its file.
func BuildFile(t testing.TB, s Spec) string {
	t.Helper()
	Needs(t, "rpmbuild")
	dir := t.TempDir()
	spec := filepath.Join(dir, "test.spec")
	if err := os.WriteFile(spec, []byte(s.text()), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("rpmbuild", "-bb", "--quiet", "--define", "_topdir "+dir, "--define", "__os_install_post %{nil}",
		"--define", "_build_id_links none", "--define", "debug_package %{nil}", "--define", "_binary_payload w1.gzdio",
		"--define", "_dbpath "+filepath.Join(dir, "db"), "--nodeps", spec)
	if s.Arch != "" {
		cmd.Args = append(cmd.Args, "--target", s.Arch)
	}
	cmd.Env = append(os.Environ(), "HOME="+dir, "LC_ALL=C", "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rpmbuild %s: %v\n%s", s.Name, err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "RPMS", "*", "*.rpm"))
	if err != nil || len(files) != 1 {
		t.Fatalf("rpmbuild %s made %v (%v)", s.Name, files, err)
	}
	return files[0]
}

// Open reads the header of a package file.
func Open(t testing.TB, file string) importer.Source {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pkg, err := rpm.ReadPackage(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return importer.Source{Package: pkg, Payload: func() (io.ReadCloser, error) {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		_, err = f.Seek(pkg.PayloadOffset, io.SeekStart)
		return f, err
	}}
}

// Dir makes and opens a directory.
func Dir(t testing.TB, elem ...string) *fsx.Dir {
	t.Helper()
	p := filepath.Join(elem...)
	if err := os.MkdirAll(p, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := fsx.OpenDir(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// Cache makes an empty package cache below base.
func Cache(t testing.TB, base string) *ostree.Repo {
	t.Helper()
	Needs(t)
	repo, err := ostree.Create(Dir(t, base, "cache"), ostree.ModeBare, ostree.Options{DisableFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { repo.Close() })
	return repo
}

// HostPrograms gives a package "base" with a shell and a few programs of the
// host, so that scripts can run in a tree.
func HostPrograms(t testing.TB) Spec {
	t.Helper()
	Needs(t, "ldd")
	var install strings.Builder
	install.WriteString("mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/sbin %{buildroot}/usr/lib %{buildroot}/usr/lib64 %{buildroot}/usr/share %{buildroot}/etc\n")
	libs := map[string]bool{}
	for _, prog := range []string{"sh", "rm", "mkdir", "touch", "cat", "chown", "chmod", "id", "sleep", "mv", "ln", "ls", "stat", "readlink"} {
		p, err := exec.LookPath(prog)
		if err != nil {
			t.Fatal(err)
		}
		install.WriteString("cp -L " + p + " %{buildroot}/usr/bin/" + prog + "\n")
		out, err := exec.Command("ldd", p).Output()
		if err != nil {
			t.Fatal(err)
		}
		for field := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(field, "/") {
				libs[field] = true
			}
		}
	}
	for lib := range libs {
		dir := "lib"
		if strings.HasPrefix(lib, "/lib64/") {
			dir = "lib64"
		}
		install.WriteString("cp -L " + lib + " %{buildroot}/usr/" + dir + "/\n")
	}
	install.WriteString("echo root:x:0:0:root:/root:/bin/sh > %{buildroot}/etc/passwd\necho root:x:0: > %{buildroot}/etc/group\n")
	for _, l := range []string{"bin", "sbin", "lib", "lib64"} {
		install.WriteString("ln -s usr/" + l + " %{buildroot}/" + l + "\n")
	}
	return Spec{Name: "base", Tags: "AutoReqProv: no", Arch: "x86_64", Install: install.String(),
		Files: "/bin\n/sbin\n/lib\n/lib64\n%dir /usr/sbin\n%dir /usr/share\n/usr/bin/*\n/usr/lib/*\n/usr/lib64/*\n/etc/passwd\n/etc/group"}
}

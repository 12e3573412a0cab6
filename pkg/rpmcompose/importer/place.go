// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// ErrPath: a package has a file where a tree has no place for one.
var ErrPath = errors.New("path is outside of the directories that a tree holds")

// Kind says what becomes of a file of a package.
type Kind uint8

// The kinds of placement.
const (
	InTree   Kind = iota + 1 // stored at Placement.Path
	Tmpfiles                 // made at boot by Placement.Lines
	Dropped                  // left out; Placement.Note says why, if that loses anything
)

// Placement is where one file of a package goes.
type Placement struct {
	Kind  Kind
	Path  string   // of InTree: relative to the root of the tree
	Lines []string // of tmpfiles.d, also for InTree where a link is needed besides
	Note  string
	// Late: owner, mode or capabilities must be set after the tree's users exist.
	Late bool
}

// Note is something that a package wanted and does not get.
type Note struct{ Path, Reason string }

// String gives "PATH: REASON".
func (n Note) String() string { return n.Path + ": " + n.Reason }

// Filter says which files of packages are wanted; the zero value wants all.
type Filter struct {
	NoDocs bool
	// InstallLangs are the languages whose files are kept, such as "de" or
	// "pt_BR"; nil keeps all.
	InstallLangs []string
	// IMA keeps the files' IMA signatures.
	IMA bool
}

// wants applies the filter to one file.
func (f Filter) wants(file *rpm.File) bool {
	if f.NoDocs && file.Flags&rpm.FileDoc != 0 && file.Flags&rpm.FileLicense == 0 {
		return false
	}
	if f.InstallLangs == nil || file.Lang == "" {
		return true
	}
	for lang := range strings.SplitSeq(file.Lang, "|") {
		for _, want := range f.InstallLangs {
			if langMatches(lang, want) {
				return true
			}
		}
	}
	return false
}

// langMatches: "pt_BR" is for those who want "pt_BR" or "pt"; C always is wanted.
func langMatches(lang, want string) bool {
	if lang == want || lang == "C" || want == "all" {
		return true
	}
	if !strings.HasPrefix(lang, want) {
		return false
	}
	return strings.ContainsRune("_.@", rune(lang[len(want)]))
}

// varHomes are the top-level directories that a tree keeps in /var.
var varHomes = map[string]string{"home": "var/home", "root": "var/roothome", "srv": "var/srv", "mnt": "var/mnt", "media": "var/media"}

// Place decides where a file of a package goes. It fails with ErrPath only; the
// caller names the package.
func Place(f *rpm.File, filter Filter) (Placement, error) {
	if !strings.HasPrefix(f.Path, "/") || path.Clean(f.Path) != f.Path {
		return Placement{}, fmt.Errorf("%q: %w", f.Path, ErrPath)
	}
	if f.IsGhost() || !filter.wants(f) || f.Path == "/" {
		return Placement{Kind: Dropped}, nil
	}
	top, rest, _ := strings.Cut(f.Path[1:], "/")
	switch top {
	case "usr":
		return placeUsr(f, rest), nil
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32", "boot":
		return inTree(f, f.Path[1:]), nil
	case "etc":
		return inTree(f, path.Join("usr/etc", rest)), nil
	case "opt":
		return placeOpt(f, rest), nil
	case "var", "run":
		return placeVar(f), nil
	case "home", "root", "srv", "mnt", "media":
		if rest == "" {
			return Placement{Kind: Dropped}, nil
		}
		return atBoot(f, path.Join("/", varHomes[top], rest)), nil
	case "dev", "proc", "sys", "tmp", "afs":
		if rest == "" {
			return Placement{Kind: Dropped}, nil
		}
		return Placement{Kind: Dropped, Note: "/" + top + " is not part of a tree"}, nil
	}
	return Placement{}, fmt.Errorf("%q: %w", f.Path, ErrPath)
}

// placeUsr keeps the package manager's database directories out: they become
// links to the one place that the tree has for it.
func placeUsr(f *rpm.File, rest string) Placement {
	if rest == "lib/sysimage/rpm" || rest == "tmp" {
		return Placement{Kind: Dropped}
	}
	return inTree(f, f.Path[1:])
}

func inTree(f *rpm.File, name string) Placement {
	switch f.Mode & rpm.ModeTypeMask {
	case rpm.ModeRegular, rpm.ModeDir, rpm.ModeSymlink:
	default:
		return Placement{Kind: Dropped, Note: fmt.Sprintf("a tree holds no special files (mode %o)", f.Mode)}
	}
	return Placement{Kind: InTree, Path: name, Late: !ownedByRoot(f)}
}

// ownedByRoot: what is not root's is imported as root's without setuid, setgid
// and capabilities, which must not exist even for a moment under another owner.
func ownedByRoot(f *rpm.File) bool { return isRoot(f.User) && isRoot(f.Group) }

func isRoot(name string) bool { return name == "root" || name == "" || name == "0" }

func placeOpt(f *rpm.File, rest string) Placement {
	if rest == "" {
		return Placement{Kind: Dropped}
	}
	p := inTree(f, path.Join("usr/lib/opt", rest))
	if p.Kind == InTree {
		name, _, _ := strings.Cut(rest, "/")
		p.Lines = []string{tmpfilesLine("L", "/var/opt/"+name, "-", "-", "-", "../../usr/lib/opt/"+name)}
	}
	return p
}

// packageDB are directories whose content the compose writes itself.
var packageDB = []string{"/var/lib/rpm", "/var/lib/selinux", "/var/cache/dnf"}

func placeVar(f *rpm.File) Placement {
	p := f.Path
	switch p {
	case "/var", "/run", "/var/run", "/var/lock", "/var/tmp", "/var/lib/rpm-state":
		return Placement{Kind: Dropped}
	}
	if rest, ok := strings.CutPrefix(p, "/var/lib/selinux/"); ok && strings.Contains(rest, "/") {
		// The modules of a policy; semanage.conf is told that they are there.
		return inTree(f, "usr/etc/selinux/"+rest)
	}
	for _, d := range packageDB {
		if p == d || strings.HasPrefix(p, d+"/") {
			return Placement{Kind: Dropped}
		}
	}
	if rest, ok := strings.CutPrefix(p, "/var/run/"); ok {
		p = "/run/" + rest
	}
	if rest, ok := strings.CutPrefix(p, "/var/lock/"); ok {
		p = "/run/lock/" + rest
	}
	return atBoot(f, p)
}

// atBoot gives the tmpfiles.d line for a directory or link at name.
func atBoot(f *rpm.File, name string) Placement {
	switch f.Mode & rpm.ModeTypeMask {
	case rpm.ModeDir:
		mode := fmt.Sprintf("%04o", f.Mode&0o7777)
		return Placement{Kind: Tmpfiles, Lines: []string{tmpfilesLine("d", name, mode, nameOr(f.User), nameOr(f.Group), "-")}}
	case rpm.ModeSymlink:
		return Placement{Kind: Tmpfiles, Lines: []string{tmpfilesLine("L", name, "-", "-", "-", f.Link)}}
	}
	return Placement{Kind: Dropped, Note: "a tree holds no files in /var and /run; ship a default in /usr and copy it at boot"}
}

func nameOr(s string) string {
	if s == "" {
		return "root"
	}
	return s
}

// tmpfilesLine formats one line of tmpfiles.d(5). Specifiers and blanks in names
// are escaped.
func tmpfilesLine(typ, name, mode, user, group, arg string) string {
	return strings.Join([]string{typ, escapeTmpfiles(name), mode, user, group, "-", escapeTmpfiles(arg)}, " ")
}

func escapeTmpfiles(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '%':
			b.WriteString("%%")
		case c <= ' ' || c == '"' || c == '\'' || c == '\\' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

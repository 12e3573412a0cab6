// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/tests/testdistro/internal/debian"
	"github.com/hostctl/hostctl/tests/testdistro/internal/rpmspec"
)

// unpacked is a .deb laid out as a merged-/usr build root.
type unpacked struct {
	control  debian.Stanza
	files    []rpmspec.File
	unmerged []string // programs the package had in /bin or /sbin
	newest   time.Time
}

// skipAlways names what has no meaning without dpkg, debconf or sysvinit.
var skipAlways = regexp.MustCompile(`^(etc/init\.d|etc/rc[0-9S]\.d|etc/init|usr/share/(lintian|bug|doc-base|menu|debconf|runit)|etc/apt|etc/dpkg|usr/share/initramfs-tools|etc/initramfs-tools|etc/sv)(/|$)`)

var mergedTop = map[string]bool{"bin": true, "sbin": true, "lib": true, "lib32": true, "lib64": true, "libx32": true}

// mergeUsr moves a relative path of the split layout below usr.
func mergeUsr(p string) string {
	top, _, _ := strings.Cut(p, "/")
	if mergedTop[top] {
		return "usr/" + p
	}
	return p
}

// mendLink returns the target that a link needs once it and what it points to
// have moved: from is its path as shipped, to its path in the build root.
func mendLink(from, to, target string) string {
	if strings.HasPrefix(target, "/") {
		return "/" + mergeUsr(strings.TrimPrefix(path.Clean(target), "/"))
	}
	was := strings.TrimPrefix(path.Join("/", path.Dir(from), target), "/")
	now := mergeUsr(was)
	if from == to && was == now {
		return target
	}
	rel, err := filepath.Rel("/"+path.Dir(to), "/"+now)
	if err != nil {
		return "/" + now
	}
	return rel
}

// unpackDeb extracts the .deb at file into root, applying the recipe.
func unpackDeb(ctx context.Context, file, root string, r Recipe) (*unpacked, error) {
	u := &unpacked{}
	control, err := debControl(ctx, file)
	if err != nil {
		return nil, err
	}
	u.control = control
	conffiles, err := debConffiles(ctx, file)
	if err != nil {
		return nil, err
	}
	x := &extractor{root: root, recipe: r, conffiles: conffiles, out: u, at: map[string]int{}, held: map[string]heldModule{}}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	if err := streamTar(ctx, file, x.entry); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	if err := x.restoreNeeded(); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	if err := x.extras(); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	slices.SortFunc(u.files, func(a, b rpmspec.File) int { return strings.Compare(a.Path, b.Path) })
	slices.Sort(u.unmerged)
	return u, nil
}

func debControl(ctx context.Context, file string) (debian.Stanza, error) {
	out, err := exec.CommandContext(ctx, "dpkg-deb", "-f", file).Output()
	if err != nil {
		return nil, fmt.Errorf("read control of %s: %w", file, err)
	}
	var st debian.Stanza
	err = debian.ReadStanzas(bytes.NewReader(out), nil, func(s debian.Stanza) error { st = s; return nil })
	return st, err
}

func debConffiles(ctx context.Context, file string) (map[string]bool, error) {
	members, err := exec.CommandContext(ctx, "dpkg-deb", "--ctrl-tarfile", file).Output()
	if err != nil {
		return nil, fmt.Errorf("read control archive of %s: %w", file, err)
	}
	set := map[string]bool{}
	tr := tar.NewReader(bytes.NewReader(members))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return set, nil
		}
		if err != nil {
			return nil, err
		}
		if path.Clean(h.Name) != "conffiles" {
			continue
		}
		sc := bufio.NewScanner(tr)
		for sc.Scan() {
			// "remove-on-upgrade PATH" lines name files that are not shipped.
			if line := sc.Text(); strings.HasPrefix(line, "/") {
				set[mergeUsr(strings.TrimPrefix(line, "/"))] = true
			}
		}
	}
}

func streamTar(ctx context.Context, file string, fn func(*tar.Header, io.Reader) error) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	werr := walkTar(tar.NewReader(bufio.NewReaderSize(pipe, 1<<20)), fn)
	_, _ = io.Copy(io.Discard, pipe)
	if err := cmd.Wait(); err != nil && werr == nil {
		return fmt.Errorf("dpkg-deb: %w", err)
	}
	return werr
}

func walkTar(tr *tar.Reader, fn func(*tar.Header, io.Reader) error) error {
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(h, tr); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

type extractor struct {
	root      string
	recipe    Recipe
	conffiles map[string]bool
	out       *unpacked
	at        map[string]int // path in the build root -> index in out.files
	held      map[string]heldModule
}

func (x *extractor) entry(h *tar.Header, r io.Reader) error {
	from := path.Clean(strings.TrimPrefix(h.Name, "./"))
	if from == "." || from == "usr" || mergedTop[from] || !filepath.IsLocal(from) {
		return nil
	}
	to := x.recipe.rename(mergeUsr(from))
	if skipAlways.MatchString(to) {
		return nil
	}
	if x.recipe.pruned(to) {
		return x.hold(h, r, to)
	}
	if h.ModTime.After(x.out.newest) {
		x.out.newest = h.ModTime
	}
	dst := filepath.Join(x.root, to)
	f := rpmspec.File{Path: "/" + to, Mode: uint32(h.Mode) & 0o7777, User: owner(h.Uname), Group: owner(h.Gname)}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeDir {
		if err := os.Remove(dst); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return x.directory(f, dst)
	case tar.TypeSymlink:
		f.Kind = rpmspec.Symlink
		if err := os.Symlink(mendLink(from, to, h.Linkname), dst); err != nil {
			return err
		}
	case tar.TypeLink:
		old := x.recipe.rename(mergeUsr(path.Clean(strings.TrimPrefix(h.Linkname, "./"))))
		if err := os.Link(filepath.Join(x.root, old), dst); err != nil {
			return err
		}
	case tar.TypeReg:
		if err := writeFile(dst, r, f.Mode, h.ModTime); err != nil {
			return err
		}
	default:
		return fmt.Errorf("type %q has no place in a package", h.Typeflag)
	}
	x.classify(&f, to)
	x.put(f)
	x.noteUnmerged(from)
	return nil
}

// hold sets a pruned kernel module aside; anything else pruned is gone.
func (x *extractor) hold(h *tar.Header, r io.Reader, to string) error {
	if h.Typeflag != tar.TypeReg || !strings.HasSuffix(to, ".ko") {
		return nil
	}
	f := rpmspec.File{Path: "/" + to, Mode: uint32(h.Mode) & 0o7777, User: owner(h.Uname), Group: owner(h.Gname)}
	at := filepath.Join(x.heldDir(), to)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	x.held[moduleName(to)] = heldModule{file: f, at: at}
	return writeFile(at, r, f.Mode, h.ModTime)
}

// directory records a directory unless package filesystem owns it.
func (x *extractor) directory(f rpmspec.File, dst string) error {
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	f.Kind = rpmspec.Directory
	if a, ok := x.recipe.Attrs[f.Path]; ok {
		a.apply(&f)
	}
	if isStandardDir(f.Path) {
		return nil
	}
	x.put(f)
	return nil
}

func (x *extractor) classify(f *rpmspec.File, rel string) {
	switch {
	case x.conffiles[rel] && f.Kind != rpmspec.Symlink:
		f.Config = true
	case strings.HasPrefix(rel, "usr/share/doc/") && path.Base(rel) == "copyright":
		f.License = true
	case strings.HasPrefix(rel, "usr/share/doc/"):
		f.Doc = true
	}
	if a, ok := x.recipe.Attrs[f.Path]; ok {
		a.apply(f)
	}
}

func (x *extractor) put(f rpmspec.File) {
	if i, ok := x.at[f.Path]; ok {
		x.out.files[i] = f
		return
	}
	x.at[f.Path] = len(x.out.files)
	x.out.files = append(x.out.files, f)
}

// noteUnmerged remembers programs that others may require by their old path.
func (x *extractor) noteUnmerged(from string) {
	dir, base := path.Split(from)
	if (dir == "bin/" || dir == "sbin/") && !strings.ContainsAny(base, " []") {
		x.out.unmerged = append(x.out.unmerged, "/"+from)
	}
}

// extras adds what the recipe wants beside the archive's files.
func (x *extractor) extras() error {
	for _, c := range x.recipe.Copies {
		data, err := os.ReadFile(filepath.Join(x.root, c.From))
		if err != nil {
			return fmt.Errorf("copy %s: %w", c.From, err)
		}
		dst := filepath.Join(x.root, c.To)
		if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
			return err
		}
		if err := writeFile(dst, bytes.NewReader(data), 0o644, x.out.newest); err != nil {
			return err
		}
		x.put(rpmspec.File{Path: c.To, Mode: 0o644, User: "root", Group: "root", Config: strings.HasPrefix(c.To, "/etc/")})
	}
	for _, l := range x.recipe.Links {
		dst := filepath.Join(x.root, l.To)
		if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(l.From, dst); err != nil {
			return err
		}
		x.put(rpmspec.File{Path: l.To, Kind: rpmspec.Symlink, User: "root", Group: "root"})
	}
	for p, a := range x.recipe.Ghosts {
		f := rpmspec.File{Path: strings.ReplaceAll(p, "@KVER@", x.kernelRelease()), Kind: rpmspec.Ghost}
		a.apply(&f)
		// rpmbuild wants a ghost in the build root to know its type.
		dst := filepath.Join(x.root, f.Path)
		if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
			return err
		}
		if err := writeFile(dst, strings.NewReader(""), 0o644, x.out.newest); err != nil {
			return err
		}
		x.put(f)
	}
	return nil
}

// kernelRelease names the directory below usr/lib/modules, "" if there is none.
func (x *extractor) kernelRelease() string {
	entries, err := os.ReadDir(filepath.Join(x.root, "usr/lib/modules"))
	if err != nil || len(entries) != 1 {
		return ""
	}
	return entries[0].Name()
}

func owner(name string) string {
	if name == "" {
		return "root"
	}
	return name
}

// writeFile creates dst. rpm's dependency generators look at the mode: only
// what is executable requires anything.
func writeFile(dst string, r io.Reader, mode uint32, mtime time.Time) error {
	f, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, os.FileMode(mode&0o777|0o600))
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Chtimes(dst, mtime, mtime)
}

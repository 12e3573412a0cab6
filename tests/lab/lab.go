// SPDX-License-Identifier: Apache-2.0

// Package lab prepares what the demo and the end-to-end tests work on: the
// built programs, the test distribution in its two states, and a repository
// with one commit of each. Everything is kept below build/lab and made anew
// only when its inputs change.
package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Ref is the ref that the test distribution's treefile writes.
const Ref = "testdistro/x86_64/standard"

// States of the distribution, in the order in which they are composed.
var States = []string{"v1", "v2"}

// Lab is a prepared place. Its exported fields are absolute paths.
type Lab struct {
	Root     string // of the source tree
	Dir      string // build/lab
	Bin      string // the built programs
	Distro   string // repositories v1 and v2
	Tree     string // folder of the treefile
	Repo     string // archive repository with both commits
	Cache    string // packages and metadata of composes
	Treefile string
	Ref      string // that the treefile writes
	Boot     string // how machines start, a diskimage.Boot or Extlinux; empty: bios-grub
	RootFS   string // filesystem of their root: xfs, btrfs; empty: ext4

	// Files of the tree's /etc that the demo edits and removes.
	EditFile, RemoveFile string

	host  *HostTree
	extra Extra

	KeyID, KeyFile string // key that signs commits; its public half, armored

	Out io.Writer // where commands and their output are shown
}

// New finds the source tree and names the lab's places; it makes nothing. The
// programs must have been built (`make rpmroot`).
func New(out io.Writer) (*Lab, error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("find the source tree: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	l := &Lab{Root: root, Dir: filepath.Join(root, "build", "lab"), Bin: filepath.Join(root, "build"), Out: out,
		Ref: Ref, EditFile: "testdistro.conf", RemoveFile: "testdistro-release"}
	l.Distro = filepath.Join(l.Dir, "distro")
	l.Tree = filepath.Join(l.Dir, "tree")
	l.Treefile = filepath.Join(l.Tree, "host.toml")
	l.Cache = filepath.Join(l.Dir, "cache")
	for _, p := range []string{"hostctl", "compose-server", "rpmroot/usr/bin/hostctl"} {
		if _, err := os.Stat(filepath.Join(l.Bin, p)); err != nil {
			return nil, fmt.Errorf("program is not built, run `make rpmroot` first: %w", err)
		}
	}
	return l, os.MkdirAll(l.Dir, 0o755)
}

// Hostctl and ComposeServer are the built programs.
func (l *Lab) Hostctl() string { return filepath.Join(l.Bin, "hostctl") }

// ComposeServer is the built composer.
func (l *Lab) ComposeServer() string { return filepath.Join(l.Bin, "compose-server") }

// Run shows a command and runs it with its output shown.
func (l *Lab) Run(ctx context.Context, argv ...string) error {
	fmt.Fprintf(l.Out, "$ %s\n", l.show(argv))
	cmd := Command(ctx, argv...)
	cmd.Stdout, cmd.Stderr = l.Out, l.Out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", l.show(argv), err)
	}
	fmt.Fprintln(l.Out)
	return nil
}

// Command is exec.CommandContext whose process is interrupted, not killed, when
// ctx ends, and killed only if that does not end it.
func Command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

func (l *Lab) show(argv []string) string {
	out := make([]string, len(argv))
	for i, a := range argv {
		a = strings.ReplaceAll(a, l.Bin+"/hostctl", "hostctl")
		a = strings.ReplaceAll(a, l.Bin+"/compose-server", "compose-server")
		a = strings.TrimPrefix(strings.ReplaceAll(a, l.Root+"/", ""), "/")
		if strings.HasPrefix(argv[i], "/") && !strings.HasPrefix(argv[i], l.Root) {
			a = argv[i]
		}
		if strings.ContainsAny(a, " \t'\"$&|;<>()") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		out[i] = a
	}
	return strings.Join(out, " ")
}

// BuildDistro makes both repositories; what is cached is not built again.
func (l *Lab) BuildDistro(ctx context.Context) error {
	tool := filepath.Join(l.Dir, "testdistro")
	build := Command(ctx, "go", "build", "-o", tool, "./tests/testdistro")
	build.Dir = l.Root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build tests/testdistro: %w\n%s", err, out)
	}
	argv := []string{tool, "build", "--out", l.Distro, "--hostctl-rpm-root", filepath.Join(l.Bin, "rpmroot")}
	if len(l.extra.Backports) > 0 {
		argv = append(argv, "--backports", strings.Join(l.extra.Backports, ","))
		if len(l.extra.Packages) > 0 {
			argv = append(argv, "--packages", strings.Join(l.extra.Packages, ","))
		}
	}
	return l.Run(ctx, argv...)
}

// Extra is what a variant of the lab's tree has more; the zero value is the
// tree of the demo and of most tests.
type Extra struct {
	Name     string   // keeps the variant's tree and repository apart
	Packages []string // of the test distribution, beyond its standard tree
	Drivers  []string // kernel modules that its initramfs has more
	// Backports are source packages that a distribution of its own, with all of Packages,
	// has in their newer versions.
	Backports []string
}

// UseExtra makes the lab compose a variant.
func (l *Lab) UseExtra(e Extra) {
	l.extra = e
	if len(e.Backports) > 0 {
		l.Distro = filepath.Join(l.Dir, e.Name+"-distro")
	}
	l.Tree = filepath.Join(l.Dir, e.Name+"-tree")
	l.Treefile = filepath.Join(l.Tree, "host.toml")
}

// treefileText widens the distribution's treefile by this project's package.
func (l *Lab) treefileText() string {
	var list strings.Builder
	for _, p := range append([]string{"hostctl"}, l.extra.Packages...) {
		fmt.Fprintf(&list, "%q, ", p)
	}
	return `# The test distribution with hostctl. Repositories are the *.repo files here.
include = "treefile.toml"
packages = [` + strings.TrimSuffix(list.String(), ", ") + `]
` + initramfsText(l.extra.Drivers)
}

func initramfsText(drivers []string) string {
	list := strings.Join(append([]string{"virtio_blk virtio_pci ext4 overlay"}, drivers...), " ")
	return `
# Emulated machines read the initramfs slowly: only what their virtual disk needs.
initramfs-args = [
  "--modules", "base systemd systemd-initrd udev-rules kernel-modules hostctl",
  "--drivers", "` + list + `",
  "--install", "/usr/sbin/fsck /usr/sbin/e2fsck /usr/sbin/fsck.ext4 /usr/bin/sh /usr/bin/mount /usr/bin/umount",
]
`
}

// SelectRelease points the repository definition at one state of the
// distribution, as if its mirror had been updated.
func (l *Lab) SelectRelease(state string) error {
	src := filepath.Join(l.Root, "tests", "testdistro")
	tree, err := os.ReadFile(filepath.Join(src, "treefile.toml"))
	if err != nil {
		return err
	}
	tmpl, err := os.ReadFile(filepath.Join(src, "testdistro.repo.tmpl"))
	if err != nil {
		return err
	}
	repo := strings.NewReplacer("@BASEURL@", "file://"+filepath.Join(l.Distro, state),
		"@GPGKEY@", "file://"+filepath.Join(l.Distro, "RPM-GPG-KEY-testdistro")).Replace(string(tmpl))
	files := map[string]string{"treefile.toml": string(tree), "host.toml": l.treefileText(), "testdistro.repo": repo}
	if err := os.MkdirAll(l.Tree, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(l.Tree, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Compose makes the commit of one state, unless the repository has it.
func (l *Lab) Compose(ctx context.Context, state string) error {
	if err := l.SelectRelease(state); err != nil {
		return err
	}
	return l.composeTree(ctx, l.Treefile)
}

func (l *Lab) composeTree(ctx context.Context, treefile string) error {
	return l.Run(ctx, l.ComposeServer(), "tree", treefile, "--repo", l.Repo, "--cachedir", l.Cache,
		"--gpg-sign", l.KeyID, "--gpg-homedir", l.keyHome())
}

// Prepare makes the distribution, or takes the HostTree, and a repository with a
// commit of each state, v2 on top of v1.
func (l *Lab) Prepare(ctx context.Context) error {
	if err := l.makeKey(ctx); err != nil {
		return err
	}
	defer l.stopAgent()
	if l.host != nil {
		return l.prepareHost(ctx)
	}
	if err := l.BuildDistro(ctx); err != nil {
		return err
	}
	if err := l.chooseRepo(); err != nil {
		return err
	}
	if _, err := os.Stat(l.Repo + ".complete"); err == nil {
		fmt.Fprintf(l.Out, "# both states are composed already in %s\n\n", l.show([]string{l.Repo}))
		return l.SelectRelease(States[len(States)-1])
	}
	for _, s := range States {
		if err := l.Compose(ctx, s); err != nil {
			return err
		}
	}
	return os.WriteFile(l.Repo+".complete", nil, 0o644)
}

// chooseRepo names the repository after everything that decides its commits, so
// that a changed program or distribution starts a new history, and removes
// older ones.
func (l *Lab) chooseRepo() error {
	h := sha256.New()
	h.Write([]byte(l.treefileText()))
	for _, f := range []string{filepath.Join(l.Distro, "manifest.json"), l.ComposeServer(), l.Hostctl(), l.KeyFile,
		filepath.Join(l.Root, "tests", "testdistro", "treefile.toml")} {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%d\n", len(data))
		h.Write(data)
	}
	prefix := filepath.Join(l.Dir, "repo-")
	if l.extra.Name != "" {
		prefix = filepath.Join(l.Dir, l.extra.Name+"-repo-")
	}
	l.Repo = prefix + hex.EncodeToString(h.Sum(nil))[:12]
	old, err := filepath.Glob(prefix + "*")
	if err != nil {
		return err
	}
	keep := []string{l.Repo, l.Repo + ".complete"}
	for _, o := range old {
		if !slices.Contains(keep, o) {
			err = errors.Join(err, os.RemoveAll(o))
		}
	}
	// A run that ended in the middle left a history that does not start at v1.
	if _, statErr := os.Stat(l.Repo + ".complete"); errors.Is(statErr, os.ErrNotExist) {
		err = errors.Join(err, os.RemoveAll(l.Repo))
	}
	return err
}

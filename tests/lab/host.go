// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// HostTree is a treefile for repositories that the machine itself uses. The
// lab composes it in two states too: as it is, and with one more package.
type HostTree struct {
	Treefile   string // its folder's other treefiles may be included
	Repos      string // folder with *.repo files
	Add        string // package that the second state has more
	Releasever string // empty: what the treefile says
}

// DetectHost tells which treefile of dist/treefiles suits the machine, by its
// os-release: false on one without RPM repositories of its own.
func (l *Lab) DetectHost() (HostTree, bool) {
	t := HostTree{Repos: "/etc/yum.repos.d", Add: "bc"}
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return t, false
	}
	defer f.Close()
	values := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), "="); ok {
			values[k] = strings.Trim(v, `"'`)
		}
	}
	names := map[string]string{"fedora": "fedora.toml", "centos": "centos-stream.toml"}
	name, ok := names[values["ID"]]
	t.Treefile = filepath.Join(l.Root, "dist", "treefiles", name)
	t.Releasever = values["VERSION_ID"]
	return t, ok
}

// UseHost makes the lab compose t instead of the test distribution.
func (l *Lab) UseHost(t HostTree) {
	l.host = &t
	l.Tree = filepath.Join(l.Dir, "host-tree")
	l.Repo = filepath.Join(l.Dir, "host-repo")
	l.EditFile, l.RemoveFile = "shells", "environment"
}

// prepareHost is Prepare for a HostTree. Its repositories change from day to
// day, so the history starts anew each time.
func (l *Lab) prepareHost(ctx context.Context) error {
	if err := l.packageItself(ctx); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(l.Tree), os.RemoveAll(l.Repo), os.MkdirAll(l.Tree, 0o755)); err != nil {
		return err
	}
	if err := errors.Join(copyFiles(filepath.Join(filepath.Dir(l.host.Treefile), "*.toml"), l.Tree),
		copyFiles(filepath.Join(l.host.Repos, "*.repo"), l.Tree)); err != nil {
		return err
	}
	own := fmt.Sprintf("[%s]\nname=hostctl as built here\nbaseurl=file://%s\nenabled=1\ngpgcheck=0\n", hostRepoID, l.hostRPMs())
	v1 := fmt.Sprintf("include = %q\nrepos = [%q]\npackages = [\"hostctl\"]\n", filepath.Base(l.host.Treefile), hostRepoID)
	if l.host.Releasever != "" {
		v1 += fmt.Sprintf("releasever = %q\n", l.host.Releasever)
	}
	v1 += initramfsText(nil)
	v2 := fmt.Sprintf("include = \"demo-v1.toml\"\npackages = [%q]\n", l.host.Add)
	for name, text := range map[string]string{hostRepoID + ".repo": own, "demo-v1.toml": v1, "demo-v2.toml": v2} {
		if err := os.WriteFile(filepath.Join(l.Tree, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, s := range States {
		if err := l.composeTree(ctx, filepath.Join(l.Tree, "demo-"+s+".toml")); err != nil {
			return err
		}
	}
	out, err := exec.CommandContext(ctx, "ostree", "--repo="+l.Repo, "refs").Output()
	if err != nil {
		return fmt.Errorf("list the refs of %s: %w", l.Repo, err)
	}
	l.Ref = strings.TrimSpace(string(out))
	return nil
}

// hostRepoID is the repository with the project's own package.
const hostRepoID = "hostctl"

func (l *Lab) hostRPMs() string { return filepath.Join(l.Dir, "host-rpms") }

// packageItself makes a repository with the project's own package.
func (l *Lab) packageItself(ctx context.Context) error {
	if err := os.RemoveAll(l.hostRPMs()); err != nil {
		return err
	}
	argv := []string{"make", "--no-print-directory", "-C", l.Root, "rpm", "RPMDIR=" + l.hostRPMs()}
	build := Command(ctx, argv...)
	fmt.Fprintf(l.Out, "$ %s\n", l.show(argv))
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("package hostctl: %w\n%s", err, out)
	}
	return l.Run(ctx, "createrepo_c", "--quiet", l.hostRPMs())
}

func copyFiles(pattern, dir string) error {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// FixVersion is the version of the commit that WithFix makes.
const FixVersion = "1.0.1"

// Branches of the repository that WithFix makes, for Release.
const (
	fixBranch   = "fix"
	SecondState = "second" // the lab's last commit
)

// fixFiles make the tree $3 of what differs from the revision $2: nothing that the kernel
// or the initramfs are made of.
const fixFiles = `
repo=$1 rev=$2 tree=$3
mkdir -p "$tree/usr/lib" "$tree/usr/share" "$tree/usr/etc/testdistro.d"
ostree --repo="$repo" cat "$rev" /usr/lib/os-release | sed "s/^OSTREE_VERSION=.*/OSTREE_VERSION='` + FixVersion + `'/" > "$tree/usr/lib/os-release"
echo fixed > "$tree/usr/share/fixed"
echo '# fixed default' > "$tree/usr/etc/testdistro.d/network.conf"
`

// WithFix returns the lab with another repository, whose branch ends with a commit
// between the two: the first with other files, but the same kernel and initramfs.
// Release puts the second state there.
func (l *Lab) WithFix(ctx context.Context) (*Lab, error) {
	own, err := l.variant(ctx, "fix", func(own *Lab) error {
		second, err := own.Rev(l.Ref)
		if err != nil {
			return err
		}
		if err := own.Run(ctx, "ostree", "--repo="+own.Repo, "refs", "--create="+SecondState, second); err != nil {
			return err
		}
		return own.addFix(ctx)
	})
	if err != nil {
		return nil, err
	}
	return own, own.Release(ctx, fixBranch)
}

// variant returns the lab with another repository, a copy to which add puts signed
// commits; it is made once.
func (l *Lab) variant(ctx context.Context, kind string, add func(own *Lab) error) (*Lab, error) {
	own := *l
	own.Repo = filepath.Join(l.Dir, kind+"-"+filepath.Base(l.Repo))
	complete := own.Repo + ".complete"
	if _, err := os.Stat(complete); err == nil {
		return &own, nil
	}
	old, err := filepath.Glob(filepath.Join(l.Dir, kind+"-*"))
	for _, o := range old {
		err = errors.Join(err, os.RemoveAll(o))
	}
	if err != nil {
		return nil, err
	}
	if err := l.copyRepo(ctx, own.Repo); err != nil {
		return nil, err
	}
	defer l.stopAgent()
	if err := add(&own); err != nil {
		return nil, err
	}
	return &own, os.WriteFile(complete, nil, 0o644)
}

// Release makes a revision of the lab's repository what machines upgrade to.
func (l *Lab) Release(ctx context.Context, rev string) error {
	commit, err := l.Rev(rev)
	if err != nil {
		return err
	}
	return l.Run(ctx, "ostree", "--repo="+l.Repo, "refs", "--create="+l.Ref, "--force", commit)
}

func (l *Lab) addFix(ctx context.Context) error {
	first, err := l.Rev(l.Ref + "^")
	if err != nil {
		return err
	}
	// A minute after the first is before the second.
	out, err := exec.CommandContext(ctx, "ostree", "--repo="+l.Repo, "show", first).Output()
	if err != nil {
		return fmt.Errorf("show %s: %w", first, err)
	}
	_, rest, _ := strings.Cut(string(out), "\nDate:  ")
	date, _, _ := strings.Cut(rest, "\n")
	when, err := time.Parse("2006-01-02 15:04:05 -0700", date)
	if err != nil {
		return fmt.Errorf("read the date of %s: %w", first, err)
	}
	tree, err := os.MkdirTemp(l.Dir, "fix-tree-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	if err := os.Chmod(tree, 0o755); err != nil {
		return err
	}
	if err := l.script(ctx, "a tree that differs in a few files", fixFiles, l.Repo, first, tree); err != nil {
		return err
	}
	return l.Run(ctx, "ostree", "--repo="+l.Repo, "commit", "--branch="+fixBranch, "--parent="+first, "--base="+first, "--tree=dir="+tree,
		"--owner-uid=0", "--owner-gid=0", "--add-metadata-string=version="+FixVersion, "--bind-ref="+l.Ref,
		"--timestamp=@"+strconv.FormatInt(when.Unix()+60, 10), "--gpg-sign="+l.KeyID, "--gpg-homedir="+l.keyHome())
}

// copyRepo copies the lab's repository; only its objects are shared. A summary would tell
// of the old commits.
func (l *Lab) copyRepo(ctx context.Context, to string) error {
	// Objects never change, and other files are replaced.
	if err := l.Run(ctx, "cp", "-al", l.Repo, to); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(to, "summary")), os.RemoveAll(filepath.Join(to, "summary.sig")))
}

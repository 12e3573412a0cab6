// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/selinux"
)

// labeler gives the label for a path of a tree.
type labeler = func(path string, mode uint32) (string, error)

// labelsOf reads the policy of a system. One that has none gives no labels, which is
// not an error to libostree.
func labelsOf(t selinux.Tree) (labeler, error) {
	p, err := selinux.Open(t)
	if errors.Is(err, selinux.ErrNoPolicy) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return func(path string, mode uint32) (string, error) { return p.Label(path, mode), nil }, nil
}

// labelsOfDir reads the policy of the system below a directory.
func labelsOfDir(dir string) (labeler, error) {
	d, err := openDirArg(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return labelsOf(d)
}

// labelsOfBase reads the policy of the first --tree or of --base.
func (m *committer) labelsOfBase(kind, arg string) (labeler, error) {
	switch kind {
	case "dir":
		return labelsOfDir(arg)
	case "tar":
		return nil, failf("Cannot use --selinux-policy-from-base with tar")
	case "ref":
		sum, err := m.commitOf(arg)
		var l labeler
		if err == nil {
			l, err = labelsOf(commitPolicy{m.repo, sum})
		}
		if err != nil {
			err = failf("setting sepolicy from commit: %w", err)
		}
		return l, err
	}
	return nil, nil // an error follows
}

// epoch adds what --selinux-labeling-epoch asks for: from 1 on /usr/etc has the labels
// of /etc, whatever the policy's substitutions say.
func (o *commitOptions) epoch(l labeler) labeler {
	if o.labelEpoch == 0 || l == nil {
		return l
	}
	return func(path string, mode uint32) (string, error) { return l(selinux.EtcPath(path), mode) }
}

// commitPolicy is the part of a commit that holds a policy.
type commitPolicy struct {
	repo   *ostree.Repo
	commit ostree.Checksum
}

const policyTop = "usr/etc/selinux"

func (p commitPolicy) inside(name string) bool {
	return name == policyTop || strings.HasPrefix(name, policyTop+"/")
}

func (p commitPolicy) Exists(name string) (bool, error) {
	if !p.inside(name) {
		return false, nil
	}
	_, err := p.repo.Lookup(p.commit, path.Join("/", name))
	if errors.Is(err, ostree.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (p commitPolicy) ReadFileInRoot(name string, max int64) ([]byte, error) {
	if !p.inside(name) {
		return nil, fs.ErrNotExist
	}
	info, content, err := p.repo.OpenPath(p.commit, path.Join("/", name))
	if errors.Is(err, ostree.ErrNotFound) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, err
	}
	defer content.Close()
	if info.Size > max {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fsx.ErrTooLarge}
	}
	return io.ReadAll(content)
}

// policyOptions adds the labels that a checkout sets. Without a policy none are, not
// even those of the commit.
func (o *checkoutOptions) policyOptions(lib *ostree.CheckoutOptions) error {
	if !o.policy.set {
		return nil
	}
	lib.ForceCopy, lib.LabelPrefix = true, o.prefix.value
	d, err := openDirArg(o.policy.value)
	if err != nil {
		return failf("selinux-policy: : %w", err)
	}
	defer d.Close()
	lib.Label, err = labelsOf(d)
	if lib.Label == nil {
		lib.Label = func(string, uint32) (string, error) { return "", nil }
	}
	return err
}

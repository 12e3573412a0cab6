// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/hostctl/hostctl/pkg/etcmerge"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// repoTree is a commit in the repository, not checked out.
type repoTree struct {
	repo   *ostree.Repo
	commit ostree.Checksum
}

func (t repoTree) lookup(name string) (ostree.Node, error) {
	n, err := t.repo.Lookup(t.commit, name)
	if errors.Is(err, ostree.ErrNotFound) {
		return n, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return n, err
}

func (t repoTree) list(dir string) (files, dirs []string, err error) {
	n, err := t.lookup(dir)
	if err != nil {
		return nil, nil, err
	}
	if !n.IsDir {
		return nil, nil, fmt.Errorf("%w: %s is no directory", ErrInvalidCommit, dir)
	}
	dt, err := t.repo.LoadDirTree(n.Tree)
	for _, f := range dt.Files {
		files = append(files, f.Name)
	}
	for _, d := range dt.Dirs {
		dirs = append(dirs, d.Name)
	}
	return files, dirs, err
}

func (t repoTree) file(name string) (ostree.FileHeader, int64, io.ReadCloser, error) {
	n, err := t.lookup(name)
	if err != nil {
		return ostree.FileHeader{}, 0, nil, err
	}
	if n.IsDir {
		return ostree.FileHeader{}, 0, nil, fmt.Errorf("%w: %s is a directory", ErrInvalidCommit, name)
	}
	h, size, rc, err := t.repo.OpenFile(n.File)
	if err != nil {
		return h, 0, nil, err
	}
	if !h.IsRegular() {
		return h, 0, nil, errors.Join(fmt.Errorf("%w: %s is no regular file", ErrInvalidCommit, name), rc.Close())
	}
	return h, size, rc, nil
}

func (t repoTree) size(name string) (int64, error) {
	_, size, rc, err := t.file(name)
	if err != nil {
		return 0, err
	}
	return size, rc.Close()
}

func (t repoTree) open(name string) (io.ReadCloser, error) {
	_, _, rc, err := t.file(name)
	return rc, err
}

// defaultsDir returns where a commit keeps the defaults of /etc: usr/etc, or etc
// in trees that were committed as they stood. Both at once are refused.
func defaultsDir(t tree) (string, error) {
	usrFiles, usrDirs, usrErr := t.list("usr/etc")
	etcFiles, etcDirs, etcErr := t.list("etc")
	for _, err := range []error{usrErr, etcErr} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	switch {
	case usrErr == nil && len(etcFiles)+len(etcDirs) == 0:
		return "usr/etc", nil
	case usrErr == nil && len(usrFiles)+len(usrDirs) > 0:
		return "", fmt.Errorf("%w: both usr/etc and etc have content", ErrInvalidCommit)
	case etcErr == nil:
		return "etc", nil
	}
	return "", fmt.Errorf("%w: neither usr/etc nor etc", ErrInvalidCommit)
}

// etcSnapshot reads the defaults of /etc from the repository, with all digests.
func (t repoTree) etcSnapshot(ctx context.Context) (etcSource, error) {
	src := etcSource{repoTree: t, snap: etcmerge.Snapshot{}}
	var err error
	if src.dir, err = defaultsDir(t); err != nil {
		return src, err
	}
	n, err := t.lookup(src.dir)
	if err != nil {
		return src, err
	}
	return src, t.scan(ctx, src.snap, n.Tree, "", 0)
}

func (t repoTree) scan(ctx context.Context, s etcmerge.Snapshot, tree ostree.Checksum, at string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth > 128 {
		return fmt.Errorf("%w: etc/%s is nested too deep", ErrInvalidCommit, at)
	}
	dt, err := t.repo.LoadDirTree(tree)
	if err != nil {
		return err
	}
	for _, f := range dt.Files {
		if s[path.Join(at, f.Name)], err = t.fileNode(f.Checksum); err != nil {
			return err
		}
	}
	for _, d := range dt.Dirs {
		m, err := t.repo.LoadDirMeta(d.Meta)
		if err != nil {
			return err
		}
		name := path.Join(at, d.Name)
		s[name] = etcmerge.Node{Kind: etcmerge.Dir, Mode: m.Mode & 0o7777, UID: m.UID, GID: m.GID}
		if err := t.scan(ctx, s, d.Tree, name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (t repoTree) fileNode(c ostree.Checksum) (etcmerge.Node, error) {
	h, size, rc, err := t.repo.OpenFile(c)
	if err != nil {
		return etcmerge.Node{}, err
	}
	n := etcmerge.Node{Kind: etcmerge.Link, Target: h.Target, UID: h.UID, GID: h.GID}
	if h.IsRegular() {
		n = etcmerge.Node{Kind: etcmerge.File, Mode: h.Mode & 0o7777, UID: h.UID, GID: h.GID, Size: size, HasDigest: true}
		sum := sha256.New()
		if _, err := io.Copy(sum, rc); err != nil {
			return n, errors.Join(err, rc.Close())
		}
		sum.Sum(n.Digest[:0])
	}
	return n, rc.Close()
}

// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// startFrom begins with the tree of --base, to which nothing else applies.
func (m *committer) startFrom(ctx context.Context, t *ostree.Txn, tree *ostree.MTree) error {
	sum, err := m.commitOf(m.o.base.value)
	if err != nil {
		return err
	}
	return t.WriteCommitTree(ctx, sum, tree, ostree.CommitOptions{})
}

// writeTrees overlays the --tree arguments, or else the one directory.
func (m *committer) writeTrees(ctx context.Context, t *ostree.Txn, tree *ostree.MTree, lib ostree.CommitOptions) error {
	trees := m.o.trees
	if len(trees) == 0 {
		dir := "."
		if len(m.args) > 0 {
			dir = m.args[0]
		}
		trees = []string{"dir=" + dir}
	}
	for i, spec := range trees {
		kind, arg, ok := strings.Cut(spec, "=")
		if !ok {
			return failf("Missing type in tree specification '%s'", spec)
		}
		var err error
		if i == 0 && m.o.policyFromBase && !m.o.base.set {
			if m.label, err = m.labelsOfBase(kind, arg); err != nil {
				return err
			}
		}
		lib.Label, lib.Last = m.o.epoch(m.label), i == len(trees)-1
		switch kind {
		case "dir":
			err = m.writeDir(ctx, t, tree, lib, arg)
		case "tar":
			err = m.writeTar(ctx, t, tree, lib, arg)
		case "ref":
			var sum ostree.Checksum
			if sum, err = m.commitOf(arg); err == nil {
				err = t.WriteCommitTree(ctx, sum, tree, lib)
			}
		default:
			err = failf("Invalid tree type specification '%s'", kind)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *committer) writeDir(ctx context.Context, t *ostree.Txn, tree *ostree.MTree, lib ostree.CommitOptions, path string) error {
	d, err := openDirArg(path)
	if err != nil {
		return err
	}
	// Consuming deletes the content when the transaction commits.
	m.close = append(m.close, d.Close)
	if lib.Consume && filepath.Clean(path) != "." {
		m.consumed = append(m.consumed, path)
	}
	return t.WriteDir(ctx, d, tree, lib)
}

func (m *committer) writeTar(ctx context.Context, t *ostree.Txn, tree *ostree.MTree, lib ostree.CommitOptions, path string) error {
	to := ostree.TarOptions{AutocreateParents: m.o.autocreate}
	if m.o.pathFilter.set {
		rename, err := ostree.TarPathFilter(m.o.pathFilter.value)
		if err != nil {
			return err
		}
		to.Rename = rename
	}
	in := m.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return openArchiveError(path)
		}
		defer f.Close()
		in = f
	}
	return t.WriteTar(ctx, in, tree, lib, to)
}

// openDirArg opens a directory given on the command line.
func openDirArg(path string) (*fsx.Dir, error) {
	d, err := fsx.OpenDir(path)
	if err != nil {
		return nil, failf("opendir(%s): %w", path, pathReason(err))
	}
	return d, nil
}

// pathReason drops the operation and the path from an error of the system.
func pathReason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func openArchiveError(path string) error {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return failf("archive_read_open_filename: Failed to open '%s'", path)
}

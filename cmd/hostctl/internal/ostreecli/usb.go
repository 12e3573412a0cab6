// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

// maxUSBLinks is how many repositories one medium can announce.
const maxUSBLinks = 100

const usbReposDir = ".ostree/repos.d"

type usbOptions struct {
	noFsync bool
	dest    text
	commit  text
}

func createUSBVerb() *verb {
	o := &usbOptions{}
	return &verb{
		name: "create-usb", args: "MOUNT-PATH COLLECTION-ID REF [COLLECTION-ID REF...]", summary: "Copy the refs to a USB stick",
		opts: []option{
			{long: "disable-fsync", dst: &o.noFsync, help: "Do not invoke fsync()"},
			{long: "destination-repo", arg: "DEST", dst: &o.dest, help: "Use custom repository directory within the mount"},
			{long: "commit", arg: "COMMIT", dst: &o.commit, help: "Pull a specific commit (only works when a single ref is specified)"},
		},
		run: func(ctx context.Context, c *call) error { return o.run(ctx, c) },
	}
}

func (o *usbOptions) run(ctx context.Context, c *call) error {
	switch {
	case len(c.args) < 1:
		return c.usageError("A MOUNT-PATH must be specified")
	case len(c.args) < 3:
		return c.usageError("At least one COLLECTION-ID REF pair must be specified")
	case len(c.args)%2 == 0:
		return c.usageError("Only complete COLLECTION-ID REF pairs may be specified")
	case o.commit.set && len(c.args) > 3:
		return c.usageError("The --commit option can only be used when a single COLLECTION-ID REF pair is specified")
	}
	refs, err := collectionRefs(c.args[1:])
	if err != nil {
		return err
	}
	if o.commit.set {
		if refs[0].Commit, err = parseSum(o.commit.value); err != nil {
			return err
		}
	}
	if !o.dest.set {
		o.dest.value = ".ostree/repo"
	}
	mount, path := c.args[0], filepath.Join(c.args[0], o.dest.value)
	dest, err := o.create(c, mount, path)
	if err != nil {
		return err
	}
	src, err := filepath.Abs(c.path)
	if err != nil {
		return err
	}
	_, err = pull.Pull(ctx, dest, pull.Remote{URL: src, NoGPGVerify: true}, pull.Request{
		CollectionRefs: refs, Mirror: true, NoCache: true, Logger: c.logger(), Progress: c.progress(),
	})
	if err != nil {
		return pullError(err)
	}
	// Whoever finds the medium looks up commits in the summary.
	if err := dest.WriteSummary(ctx, ostree.SummaryOptions{}); err != nil {
		return err
	}
	if err := announce(mount, path, o.dest.value); err != nil {
		return err
	}
	c.printf("Copied %d/%d refs successfully from ‘%s’ to ‘%s’ repository in ‘%s’.\n", len(refs), len(refs), src, o.dest.value, mount)
	return nil
}

// collectionRefs reads pairs of COLLECTION-ID REF.
func collectionRefs(args []string) ([]pull.CollectionRef, error) {
	var out []pull.CollectionRef
	for i := 0; i < len(args); i += 2 {
		if err := ostree.CheckCollectionID(args[i]); err != nil {
			return nil, err
		}
		if err := ostree.CheckRef(args[i+1]); err != nil {
			return nil, err
		}
		out = append(out, pull.CollectionRef{CollectionRef: ostree.CollectionRef{Collection: args[i], Ref: args[i+1]}})
	}
	return out, nil
}

// create opens the repository on the medium, made if needed: an archive, which
// file systems without owners and attributes can hold.
func (o *usbOptions) create(c *call, mount, path string) (*ostree.Repo, error) {
	root, err := os.Stat(mount)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	own, err := os.Stat(c.path)
	if err != nil {
		return nil, err
	}
	d, err := fsx.OpenDir(path)
	if err != nil {
		return nil, err
	}
	c.close = append(c.close, d.Close)
	switch {
	case deviceOf(st) != deviceOf(root):
		return nil, c.usageError("--destination-repo must be a descendent of MOUNT-PATH")
	case os.SameFile(st, own):
		return nil, c.usageError("--destination-repo must not be the source repository")
	}
	opts := c.repoOptions()
	opts.DisableFsync = o.noFsync
	r, err := ostree.Create(d, ostree.ModeArchive, opts)
	if err != nil {
		return nil, fmt.Errorf("create repository %s: %w", path, err)
	}
	c.close = append(c.close, r.Close)
	return r, nil
}

// announce links the repository into the folder where finders look, unless they
// look in its place anyway.
func announce(mount, path, dest string) error {
	if dest == "ostree/repo" || dest == ".ostree/repo" {
		return nil
	}
	dir := filepath.Join(mount, usbReposDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	repo, err := os.Stat(path)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if st, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && os.SameFile(st, repo) {
			return nil
		}
	}
	for i := range maxUSBLinks {
		err := os.Symlink(filepath.Join("..", "..", dest), filepath.Join(dir, fmt.Sprintf("%02d-generated", i)))
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return failf("Could not find an unused symlink name for the repository")
}

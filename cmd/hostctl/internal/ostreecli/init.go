// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

func initVerb() *verb {
	mode, collection := "bare", text{}
	return &verb{
		name: "init", summary: "Initialize a new empty repository", use: repoPath,
		opts: []option{
			{long: "mode", dst: &mode, help: "Initialize repository in given mode (bare, bare-user, bare-user-only, archive)"},
			{long: "collection-id", arg: "COLLECTION-ID", dst: &collection, help: "Globally unique ID for this repository as an collection of refs for redistribution to other repositories"},
		},
		run: func(_ context.Context, c *call) error { return c.initRepo(mode, collection) },
	}
}

// initRepo makes a repository; one that is there, of whatever mode, stays as it is.
func (c *call) initRepo(modeName string, collection text) error {
	mode, err := ostree.ParseMode(modeName)
	if err != nil {
		return failf("Invalid mode '%s' in repository configuration", modeName)
	}
	if collection.set {
		if err := ostree.CheckCollectionID(collection.value); err != nil {
			return err
		}
	}
	if err := os.Mkdir(c.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return failf("Creating repo: mkdirat: %w", pathReason(err))
	}
	if st, err := os.Stat(c.path + "/objects"); err == nil && st.IsDir() {
		return nil
	}
	d, err := fsx.OpenDir(c.path)
	if err != nil {
		return fmt.Errorf("create repository: %w", err)
	}
	defer d.Close()
	o := c.repoOptions()
	o.CollectionID = collection.value
	r, err := ostree.Create(d, mode, o)
	if err != nil {
		return err
	}
	return r.Close()
}

// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/pkg/ostree"
)

type refsOptions struct {
	remove, list, alias, collections, force bool
	revision                                bool
	create                                  text
}

func refsVerb() *verb {
	var o refsOptions
	return &verb{
		name: "refs", args: "[PREFIX]", summary: "List refs",
		opts: []option{
			{long: "delete", dst: &o.remove, help: "Delete refs which match PREFIX, rather than listing them"},
			{long: "list", dst: &o.list, help: "Do not remove the prefix from the refs"},
			{long: "revision", short: 'r', dst: &o.revision, help: "Print the commit behind each ref"},
			{long: "alias", short: 'A', dst: &o.alias, help: "If used with --create, create an alias, otherwise just list aliases"},
			{long: "create", arg: "NEWREF", dst: &o.create, help: "Create a new ref for an existing commit"},
			{long: "collections", short: 'c', dst: &o.collections, help: "Enable listing collection IDs for refs"},
			{long: "force", dst: &o.force, help: "Overwrite existing refs when creating"},
		},
		run: func(ctx context.Context, c *call) error { return c.refs(ctx, &o) },
	}
}

func (c *call) refs(ctx context.Context, o *refsOptions) error {
	switch {
	case o.create.set && len(c.args) > 1:
		return failf("You must specify only 1 existing ref when creating a new ref")
	case o.remove && len(c.args) == 0:
		return failf("At least one PREFIX is required when deleting refs")
	case o.create.set && len(c.args) == 0:
		return failf("You must specify a revision when creating a new ref")
	}
	prefixes := c.args
	if len(prefixes) == 0 {
		prefixes = []string{""}
	}
	for _, p := range prefixes {
		do := c.refsBelow
		if o.collections {
			do = c.collectionRefs
		}
		if err := do(ctx, o, p); err != nil {
			return err
		}
	}
	return nil
}

// refsBelow lists or deletes the refs of a prefix, or makes a new one of it.
func (c *call) refsBelow(ctx context.Context, o *refsOptions, prefix string) error {
	if o.create.set && !o.remove {
		return c.createRef(ctx, o, prefix)
	}
	if prefix == "" {
		// A repository without this directory is damaged, and what is listed of it may
		// be less than was there.
		if st, err := c.repo.Dir().Lstat("refs/remotes"); err != nil || !st.IsDir() {
			return failf("Listing refs: opendir(refs/remotes): %w", syscall.ENOENT)
		}
	}
	list, err := c.repo.ListRefs(ostree.RefListOptions{Prefix: prefix, CutPrefix: !o.list && !o.alias && !o.remove, Aliases: o.alias})
	if err != nil {
		return err
	}
	for _, e := range list {
		switch {
		case o.remove:
			err = c.deleteRef(ctx, e)
		case e.Err != nil && !o.alias:
			err = e.Err
		case o.alias:
			c.printf("%s -> %s\n", e.Name, e.Alias)
		case o.revision:
			c.printf("%s\t%s\n", e.Name, e.Commit)
		default:
			c.printf("%s\n", e.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *call) deleteRef(ctx context.Context, e ostree.RefEntry) error {
	_, ref, err := ostree.SplitRefspec(e.Name)
	if err != nil {
		return err
	}
	aliases, err := c.repo.RefAliases(ref)
	if err != nil {
		return err
	}
	if len(aliases) > 0 {
		return failf("Ref '%s' has an active alias: '%s'", ref, aliases[0])
	}
	return c.repo.RemoveRef(ctx, e.Name)
}

func (c *call) createRef(ctx context.Context, o *refsOptions, from string) error {
	if err := c.refIsFree(o); err != nil {
		return err
	}
	remote, ref, err := ostree.SplitRefspec(o.create.value)
	if err != nil {
		return err
	}
	if o.alias {
		if remote != "" {
			return failf("Cannot create alias to remote ref: %s", remote)
		}
		return c.repo.SetAlias(ctx, ref, from)
	}
	sum, err := c.repo.Resolve(from)
	if err != nil {
		return err
	}
	return c.repo.SetRef(ctx, o.create.value, sum)
}

// refIsFree refuses to overwrite a ref without --force; an alias may always
// replace an alias.
func (c *call) refIsFree(o *refsOptions) error {
	_, err := c.repo.ResolveLocal(o.create.value)
	if errors.Is(err, ostree.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.force {
		return nil
	}
	if o.alias {
		aliases, err := c.repo.ListRefs(ostree.RefListOptions{Aliases: true, NoRemotes: true})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(aliases, func(e ostree.RefEntry) bool { return e.Name == o.create.value }) {
			return nil
		}
	}
	return failf("--create specified but ref %s already exists", o.create.value)
}

// collectionRefs is refsBelow for refs that belong to collections; the prefix is a
// collection id.
func (c *call) collectionRefs(ctx context.Context, o *refsOptions, prefix string) error {
	if o.create.set && !o.remove {
		if err := c.refIsFree(&refsOptions{create: o.create, force: o.force}); err != nil {
			return err
		}
		sum, err := c.repo.Resolve(prefix)
		if err != nil {
			return err
		}
		id, ref, _ := strings.Cut(o.create.value, ":")
		return c.repo.SetCollectionRef(ctx, ostree.CollectionRef{Collection: id, Ref: ref}, sum)
	}
	all, err := c.repo.CollectionRefs(ostree.CollectionListOptions{Collection: prefix})
	if err != nil {
		return err
	}
	for _, ref := range slices.SortedFunc(maps.Keys(all), ostree.CollectionRef.Compare) {
		switch {
		case !o.remove && o.revision:
			c.printf("%s\t%s\n", ref, all[ref])
			continue
		case !o.remove:
			c.printf("%s\n", ref)
			continue
		}
		if err := c.repo.RemoveCollectionRef(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

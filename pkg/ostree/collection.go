// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
)

// metadataRef is the ref whose commits describe a collection.
const metadataRef = "ostree-metadata"

// CollectionRef is a ref of a collection, a set of repositories that mirror each
// other under one id.
type CollectionRef struct{ Collection, Ref string }

// String gives "(COLLECTION, REF)".
func (c CollectionRef) String() string { return "(" + c.Collection + ", " + c.Ref + ")" }

// Compare orders by collection, then ref.
func (c CollectionRef) Compare(d CollectionRef) int {
	return cmp.Or(strings.Compare(c.Collection, d.Collection), strings.Compare(c.Ref, d.Ref))
}

// CheckCollectionID verifies a collection id: at least two parts separated by dots,
// of letters, digits and underscores that do not begin with a digit, at most 255
// bytes; the form of a D-Bus interface name.
func CheckCollectionID(id string) error {
	bad := worded(ErrInvalid, "Invalid collection ID %s", clip(id))
	parts := strings.Split(id, ".")
	if len(parts) < 2 || len(id) > 255 {
		return bad
	}
	for _, p := range parts {
		if p == "" || p[0] >= '0' && p[0] <= '9' || !isWord(p) {
			return bad
		}
	}
	return nil
}

func isWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// CollectionListOptions say which refs CollectionRefs gives.
type CollectionListOptions struct {
	Collection string // only this one; "" for all
	NoMirrors  bool   // leave out refs/mirrors
	NoRemotes  bool   // leave out refs/remotes
}

// CollectionRefs lists the refs that belong to a collection: local ones, if the
// repository has an id, mirrored ones, and those of remotes whose collection-id is
// configured. Where a ref occurs in several places the remote's counts, then the
// mirrored one.
func (r *Repo) CollectionRefs(o CollectionListOptions) (map[CollectionRef]Checksum, error) {
	if o.Collection != "" {
		if err := CheckCollectionID(o.Collection); err != nil {
			return nil, fmt.Errorf("Listing refs: %w", err) //nolint:staticcheck // ST1005: the words scripts know
		}
	}
	dirs, err := r.collectionDirs(o)
	if err != nil {
		return nil, err
	}
	all := map[CollectionRef]Checksum{}
	for _, d := range dirs {
		if o.Collection != "" && d.id != o.Collection {
			continue
		}
		refs := map[string]Checksum{}
		if err := r.readRefs(d.path, "", refs); err != nil {
			return nil, err
		}
		for name, c := range refs {
			all[CollectionRef{d.id, name}] = c
		}
	}
	return all, nil
}

type collectionDir struct{ path, id string }

func (r *Repo) collectionDirs(o CollectionListOptions) ([]collectionDir, error) {
	var dirs []collectionDir
	if id := r.CollectionID(); id != "" {
		dirs = append(dirs, collectionDir{headsDir, id})
	}
	if !o.NoMirrors {
		ids, err := r.subdirs(mirrorsDir)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			dirs = append(dirs, collectionDir{mirrorsDir + "/" + id, id})
		}
	}
	if o.NoRemotes {
		return dirs, nil
	}
	remotes, err := r.refRemotes()
	if err != nil {
		return nil, err
	}
	for _, name := range remotes {
		if id := r.RemoteCollectionID(name); id != "" {
			dirs = append(dirs, collectionDir{remotesDir + "/" + name, id})
		}
	}
	return dirs, nil
}

// RemoteCollectionID gives the collection-id that the config states for a remote;
// "" if there is none, or it is no valid id.
func (r *Repo) RemoteCollectionID(remote string) string {
	id, err := r.cfg.GetString(`remote "`+remote+`"`, "collection-id")
	if err != nil || CheckCollectionID(id) != nil {
		return ""
	}
	return id
}

// ResolveCollectionRef finds the commit of a collection's ref, in the repository or
// its parent; ErrNotFound if it is absent. local leaves out mirrors and remotes.
func (r *Repo) ResolveCollectionRef(c CollectionRef, local bool) (Checksum, error) {
	all, err := r.CollectionRefs(CollectionListOptions{Collection: c.Collection, NoMirrors: local, NoRemotes: local})
	if err != nil {
		return Checksum{}, err
	}
	if sum, ok := all[c]; ok {
		return sum, nil
	}
	if r.parent != nil {
		return r.parent.ResolveCollectionRef(c, local)
	}
	return Checksum{}, worded(ErrNotFound, "Collection–ref %s not found", c)
}

// SetCollectionRef points a collection's ref at a stored commit at once; see
// Txn.SetCollectionRef.
func (r *Repo) SetCollectionRef(ctx context.Context, ref CollectionRef, c Checksum) error {
	_, err := r.Update(ctx, func(_ context.Context, t *Txn) error { return t.SetCollectionRef(ref, c) })
	return err
}

// RemoveCollectionRef deletes the ref from where SetCollectionRef puts it; an absent
// one is no error.
func (r *Repo) RemoveCollectionRef(ctx context.Context, ref CollectionRef) error {
	_, err := r.Update(ctx, func(_ context.Context, t *Txn) error { return t.DeleteCollectionRef(ref) })
	return err
}

// SetCollectionRef points a ref at a commit when the transaction commits: in
// refs/heads for the repository's own collection, else in refs/mirrors.
func (t *Txn) SetCollectionRef(ref CollectionRef, c Checksum) error {
	if c.IsZero() {
		return fmt.Errorf("set ref %s: %w: zero checksum", ref, ErrInvalid)
	}
	return t.planCollectionRef(ref, c)
}

// DeleteCollectionRef removes the ref when the transaction commits; an absent one
// is no error.
func (t *Txn) DeleteCollectionRef(ref CollectionRef) error {
	return t.planCollectionRef(ref, Checksum{})
}

func (t *Txn) planCollectionRef(ref CollectionRef, c Checksum) error {
	if t.over.Load() {
		return errOver
	}
	if err := errors.Join(CheckCollectionID(ref.Collection), CheckRef(ref.Ref)); err != nil {
		return err
	}
	p := mirrorsDir + "/" + ref.Collection + "/" + ref.Ref
	if ref.Collection == t.r.CollectionID() {
		p = headsDir + "/" + ref.Ref
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refs[p] = c
	return nil
}

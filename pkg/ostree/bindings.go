// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"fmt"
	"slices"
	"strings"
)

// The commit metadata that binds a commit to its names.
const (
	keyRefBinding        = "ostree.ref-binding"
	keyCollectionBinding = "ostree.collection-binding"
)

// BindingError tells that a commit is not bound to the name it was found under.
type BindingError struct {
	Missing              string // "ref", "collection ID" where the commit has no such binding
	Ref                  string // the name it was found under
	Refs                 []string
	Collection, Expected string // the commit's collection and that of its source
}

// Error gives libostree's words, which scripts look for.
func (e *BindingError) Error() string {
	switch {
	case e.Missing != "":
		return fmt.Sprintf("Expected commit metadata to have %s binding information, found none", e.Missing)
	case e.Ref != "":
		bound := "no refs"
		if len(e.Refs) > 0 {
			bound = "‘" + strings.Join(e.Refs, "’, ‘") + "’"
		}
		return fmt.Sprintf("Commit has no requested ref ‘%s’ in ref binding metadata (%s)", e.Ref, bound)
	}
	return fmt.Sprintf("Commit has collection ID ‘%s’ in collection binding metadata, while the remote it came from has collection ID ‘%s’",
		e.Collection, e.Expected)
}

// Unwrap gives ErrInvalid.
func (e *BindingError) Unwrap() error { return ErrInvalid }

// VerifyBindings checks that a commit may be known under the ref of the collection;
// both may be "". A commit without ref bindings passes where no collection is
// given. With one, both bindings must be there and match. The error is a
// *BindingError.
func (c Commit) VerifyBindings(collection, ref string) error {
	refs, bound := c.Metadata.Strings(keyRefBinding)
	if !bound {
		if collection == "" {
			return nil
		}
		return &BindingError{Missing: "ref"}
	}
	if ref != "" && !slices.Contains(refs, ref) {
		return &BindingError{Ref: ref, Refs: refs}
	}
	if collection == "" {
		return nil
	}
	id, bound := c.Metadata.Str(keyCollectionBinding)
	if !bound {
		return &BindingError{Missing: "collection ID"}
	}
	if id != collection {
		return &BindingError{Collection: id, Expected: collection}
	}
	return nil
}

// Bindings gives the refs that a commit is bound to; bound is false where it has no
// such metadata. The collection is "" where it is bound to none.
func (c Commit) Bindings() (refs []CollectionRef, bound bool) {
	names, bound := c.Metadata.Strings(keyRefBinding)
	id, _ := c.Metadata.Str(keyCollectionBinding)
	for _, n := range names {
		refs = append(refs, CollectionRef{id, n})
	}
	return refs, bound
}

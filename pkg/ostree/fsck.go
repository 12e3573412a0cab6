// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// FindingKind names a kind of damage, in words that do not change.
type FindingKind string

// What Fsck finds.
const (
	// MissingObject: a commit that is not marked partial needs an absent object.
	MissingObject FindingKind = "missing-object"
	// CorruptObject: an object's bytes do not match its name or its format. It is
	// reported even if nothing uses it, as a later commit would take it for present.
	CorruptObject FindingKind = "corrupt-object"
	// DanglingRef: a ref names a commit that is not stored.
	DanglingRef FindingKind = "dangling-ref"
	// InvalidRef: a ref's file cannot be read as a checksum.
	InvalidRef FindingKind = "invalid-ref"
	// UnreadableObject: the disk or the permissions fail, not the object.
	UnreadableObject FindingKind = "unreadable-object"
	// WrongBinding: a ref names a commit that is not bound to it.
	WrongBinding FindingKind = "wrong-binding"
	// WrongBackRef: a commit is bound to a ref that is absent or names another commit.
	WrongBackRef FindingKind = "wrong-back-ref"
)

// Finding is one damage. Object is zero where a ref is meant; Ref is the path of
// the ref's file below the repository.
type Finding struct {
	Kind   FindingKind `json:"kind"`
	Object ObjectName  `json:"object"`
	Ref    string      `json:"ref,omitempty"`
	Detail string      `json:"detail,omitempty"`
	// Actual is the checksum of a corrupt object's bytes, if that is what is wrong.
	Actual Checksum `json:"actual,omitzero"`
	// Commits are those not marked partial that need a missing or corrupt object, in
	// byte order.
	Commits []Checksum `json:"commits,omitempty"`
	// Collection is that of Ref where it was checked as a ref of one.
	Collection string `json:"collection,omitempty"`

	said string // libostree's words for what is wrong, if it has any
}

// String tells the kind, what is damaged and how, in one line.
func (f Finding) String() string {
	text := string(f.Kind)
	if f.Ref != "" {
		text += " " + f.Ref
	}
	if !f.Object.Checksum.IsZero() && !strings.Contains(f.Detail, f.Object.String()) {
		text += " " + f.Object.String()
	}
	if len(f.Commits) > 0 {
		text += " of commit " + joinChecksums(f.Commits)
	}
	if f.Detail != "" {
		text += ": " + f.Detail
	}
	return text
}

func joinChecksums(list []Checksum) string {
	words := make([]string, len(list))
	for i, c := range list {
		words[i] = c.String()
	}
	return strings.Join(words, ", ")
}

// Message tells the same in the words of libostree's fsck, which scripts look for.
func (f Finding) Message() string {
	switch f.Kind {
	case MissingObject:
		if len(f.Commits) == 0 {
			return "Object missing: " + f.Object.String()
		}
		return "Object missing in commits " + joinChecksums(f.Commits) + ": " + f.Object.String()
	case DanglingRef:
		return "Loading commit for ref " + f.refName() + ": No such metadata object " + f.Object.String()
	case CorruptObject, UnreadableObject:
		return f.objectMessage()
	}
	return f.Detail
}

func (f Finding) objectMessage() string {
	text := f.Detail
	switch {
	case !f.Actual.IsZero():
		text = fmt.Sprintf("Corrupted %s object; checksum expected='%s' actual='%s'", f.Object.Type, f.Object.Checksum, f.Actual)
	case f.said != "":
		text = f.said
	}
	if f.Object.Type == TypeFile {
		text = "fsck content object " + f.Object.Checksum.String() + ": " + text
	} else {
		text = "fsck " + f.Object.String() + ": " + text
	}
	if len(f.Commits) > 0 {
		text = "In commits " + joinChecksums(f.Commits) + ": " + text
	}
	return text
}

// refName gives the ref without its remote, as libostree's fsck does.
func (f Finding) refName() string {
	spec := refspecOf(f.Ref)
	if f.Collection != "" {
		return CollectionRef{f.Collection, strings.TrimPrefix(spec, mirrorsDir+"/"+f.Collection+"/")}.String()
	}
	return spec[strings.IndexByte(spec, ':')+1:]
}

// FsckPhase is a stage of Fsck.
type FsckPhase uint8

// The stages of Fsck, in order.
const (
	FsckRefs FsckPhase = iota + 1
	FsckCollectionRefs
	FsckCommits
	FsckObjects // with the number of commits that are not marked partial
)

// FsckOptions say what Fsck checks and does.
type FsckOptions struct {
	MetadataOnly bool // do not read the content of files, only look for it
	Workers      int  // 0 means two per CPU, at least 4
	// Reachable leaves out objects that no complete commit needs.
	Reachable bool
	// StopAtFirst ends the check of objects at the first that is corrupt.
	StopAtFirst bool
	// VerifyBindings checks that refs name commits that are bound to them;
	// VerifyBackRefs also that each ref a commit is bound to names it.
	VerifyBindings, VerifyBackRefs bool
	// MarkPartial marks commits that lack objects as partial, so that nothing takes
	// them for complete and a pull fetches what they lack.
	MarkPartial bool
	// Delete deletes corrupt objects, after marking their commits.
	Delete bool
	// AddTombstones records as deleted the parents that stored commits name and that
	// are not stored; see EnableTombstones.
	AddTombstones bool
	// Phase, if set, is called at the begin of each stage.
	Phase func(phase FsckPhase, n int)
}

// FsckResult is what Fsck saw and did; Findings are sorted by kind, ref and object.
type FsckResult struct {
	Commits, Partial int // commits stored, and those among them marked partial
	FsckPartial      int // those among Partial that an earlier Fsck marked
	Objects          int // objects read
	Findings         []Finding
	Marked           []Checksum   // commits marked partial now
	Deleted          []ObjectName // corrupt objects deleted
	Tombstones       []Checksum   // commits recorded as deleted
}

// Fsck verifies every ref and every object, and that each commit which is not
// marked partial has its whole closure. Damage is reported as findings; an error
// means that the check itself could not run. Without the options that say so it
// changes nothing.
func (r *Repo) Fsck(ctx context.Context, o FsckOptions) (FsckResult, error) {
	o.VerifyBindings = o.VerifyBindings || o.VerifyBackRefs
	o.MarkPartial = o.MarkPartial || o.Delete
	unlock, err := r.lock(ctx, !o.Delete && !o.AddTombstones)
	if err != nil {
		return FsckResult{}, err
	}
	f := newFsck(r, o)
	err = f.run(ctx)
	if err = errors.Join(err, unlock()); err != nil {
		return f.res, fmt.Errorf("fsck: %w", err)
	}
	return f.res, nil
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
)

const selinuxXattr = "security.selinux"

// CommitOptions say how WriteDir, WriteTar and WriteCommitTree record files.
// Overrides, Filter, canonical permissions and Label apply in this order.
type CommitOptions struct {
	// Overrides are the changes that the options of ostree commit ask for.
	Overrides *Overrides
	// Filter sees every path ("/" for the top, else "/usr/bin"), one after another,
	// parents first, and those of a directory in byte order. It may change owner,
	// permissions and attributes, not the type; h.Mode has the file type of st_mode,
	// S_IFDIR for directories. skip leaves the path, and all below it, out.
	Filter func(path string, h *FileHeader) (skip bool, err error)
	// Label gives the security.selinux value for a path, without terminating NUL;
	// with "" the file keeps the one that it has.
	Label func(path string, mode uint32) (string, error)
	// DevIno spares hashing the files that a checkout linked from this repository.
	DevIno *DevInoCache
	// DevInoCanonical takes the files found in DevIno for the stored objects without
	// looking at them; nothing of the above applies to them.
	DevInoCanonical bool
	// SkipXattrs records no extended attributes but those of Filter and Label.
	SkipXattrs bool
	// CanonicalPermissions records owner 0:0, permissions masked with 0755 and, Label
	// aside, no attributes. A bare-user-only repository does so always.
	CanonicalPermissions bool
	// Consume deletes what is in the source directory once the transaction has
	// committed; the directory itself stays. Where repository and file allow it, the
	// file becomes the object instead of being copied.
	Consume bool
	// GenerateSizes makes WriteCommit add the sizes of all objects that are written
	// or met from now on, as ostree.sizes; it has an effect in archive mode only.
	GenerateSizes bool
	// MaxSizes leaves that out of a commit with more objects, for commits must not be
	// larger than what clients accept; 0: no limit. An entry takes about 45 bytes.
	MaxSizes int
	// Last tells that nothing will change the tree after this source: WriteDir then
	// stores each directory when it is complete and keeps nothing of it in memory. The
	// commit is the same without it; a change all the same leaves objects that
	// no commit needs.
	Last bool
	// Workers hash and compress; 0 means one per CPU, at least 2.
	Workers int
}

// Overrides are the changes to files that ostree commit knows options for. They
// remember which of their paths were met.
type Overrides struct {
	UID, GID            *uint32           // owner of everything; nil: as it is
	ReadOnlyExecutables bool              // executable files lose their write permission
	AddMode             map[string]uint32 // bits to add, by path
	SetMode             map[string]uint32 // permission bits to set, by path; AddMode goes first
	Skip                map[string]bool   // paths to leave out

	met, skipped map[string]bool
}

// apply changes h. AddMode and Skip hold for the first file of a path only: where
// several trees are overlaid libostree strikes a path off when it has met it. again
// tells of a source for which libostree asks twice about a directory below
// the top and drops the first answer, with the effect that AddMode never reaches it.
func (v *Overrides) apply(path string, h *FileHeader, again bool) (skip bool) {
	if v.met == nil {
		v.met, v.skipped = map[string]bool{}, map[string]bool{}
	}
	if v.UID != nil {
		h.UID = *v.UID
	}
	if v.GID != nil {
		h.GID = *v.GID
	}
	if v.ReadOnlyExecutables && h.IsRegular() && h.Mode&0o111 != 0 {
		h.Mode &^= 0o222
	}
	lost := again && h.Mode&syscall.S_IFMT == syscall.S_IFDIR && path != "/"
	if add, ok := v.AddMode[path]; ok && !v.met[path] {
		v.met[path] = true
		if !lost {
			h.Mode |= add & 0o7777
		}
	} else if set, ok := v.SetMode[path]; ok {
		h.Mode = h.Mode&syscall.S_IFMT | set&0o7777
	}
	if v.Skip[path] && !v.skipped[path] {
		v.skipped[path] = true
		return true
	}
	return false
}

// Unmatched lists, in byte order, the paths of AddMode and of Skip that no source
// had.
func (v *Overrides) Unmatched() (modes, skips []string) {
	for _, p := range slices.Sorted(maps.Keys(v.AddMode)) {
		if !v.met[p] {
			modes = append(modes, p)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(v.Skip)) {
		if v.Skip[p] && !v.skipped[p] {
			skips = append(skips, p)
		}
	}
	return modes, skips
}

// apply runs everything that may change a header. The attributes of h are not
// written to. again is that of Overrides.apply.
func (o *CommitOptions) apply(p string, h *FileHeader, again bool) (skip bool, err error) {
	typ := h.Mode & syscall.S_IFMT
	if o.Overrides != nil && o.Overrides.apply(p, h, again) {
		return true, nil
	}
	if o.Filter != nil {
		if skip, err = o.Filter(p, h); err != nil {
			return false, fmt.Errorf("filter %s: %w", p, err)
		}
		if skip {
			return true, nil
		}
	}
	if h.Mode&syscall.S_IFMT != typ {
		return false, fmt.Errorf("filter %s: %w: changes the file type", p, ErrInvalid)
	}
	if typ != syscall.S_IFDIR && typ != syscall.S_IFREG && typ != syscall.S_IFLNK {
		return false, fmt.Errorf("%s: file type %o: %w", p, typ, ErrUnsupported)
	}
	if o.CanonicalPermissions {
		h.UID, h.GID, h.Xattrs = 0, 0, nil
		if typ != syscall.S_IFLNK {
			h.Mode = typ | h.Mode&0o755
		}
	}
	return false, o.label(p, h)
}

func (o *CommitOptions) label(p string, h *FileHeader) error {
	if o.Label == nil {
		return nil
	}
	label, err := o.Label(p, h.Mode)
	if err != nil {
		return fmt.Errorf("label %s: %w", p, err)
	}
	if label == "" {
		return nil
	}
	h.Xattrs = slices.DeleteFunc(slices.Clone(h.Xattrs), func(x Xattr) bool { return x.Name == selinuxXattr })
	h.Xattrs = append(h.Xattrs, Xattr{selinuxXattr, append([]byte(label), 0)})
	h.Xattrs, err = sortedXattrs(h.Xattrs)
	return err
}

// changesNothing tells whether files are recorded as they are found.
func (o *CommitOptions) changesNothing() bool {
	return o.Overrides == nil && o.Filter == nil && o.Label == nil && !o.SkipXattrs && !o.CanonicalPermissions && !o.GenerateSizes
}

// forTxn completes the options for a transaction.
func (o CommitOptions) forTxn(t *Txn) CommitOptions {
	if t.r.mode == ModeBareUserOnly {
		o.CanonicalPermissions = true
	}
	if o.GenerateSizes && t.r.mode == ModeArchive {
		t.sizes.start(o.MaxSizes)
	}
	return o
}

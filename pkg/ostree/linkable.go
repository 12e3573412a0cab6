// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"io/fs"
	"os"
)

// countMet counts an object that need not be written, or not yet.
func (t *Txn) countMet(n ObjectName) {
	if n.Type == TypeFile {
		t.count.contentTotal.Add(1)
		return
	}
	t.count.metaTotal.Add(1)
}

func (t *Txn) countNew(n ObjectName) {
	if n.Type == TypeFile {
		t.count.contentWritten.Add(1)
		return
	}
	t.count.metaWritten.Add(1)
}

// linkable tells whether both repositories would store the same file: metadata always,
// content where the modes are the same, and plain files of a bare-user repository in
// a bare-user-only one. Nobody but their common owner may be able to change it
// afterwards.
func (t *Txn) linkable(src *Repo, n ObjectName) (bool, error) {
	a, err := src.objects.Lstat(".")
	if err != nil {
		return false, err
	}
	b, err := t.stage.dir.Lstat(".")
	if err != nil {
		return false, err
	}
	if n.Type != TypeFile && !n.Type.hashed() || a.Dev != b.Dev || a.UID != b.UID || a.UID != uint32(os.Geteuid()) {
		return false, nil
	}
	if n.Type != TypeFile || src.mode == t.r.mode {
		return true, nil
	}
	if src.mode != ModeBareUser || t.r.mode != ModeBareUserOnly {
		return false, nil
	}
	h, _, rc, err := openBareUser(src.objects, n.loosePath(src.mode))
	if errors.Is(err, fs.ErrNotExist) {
		return src.parent == nil, nil // LinkObject tells
	}
	if err != nil {
		return false, err
	}
	if err := rc.Close(); err != nil {
		return false, err
	}
	// The file's own mode has every bit of these.
	plain := h.IsRegular() && h.UID == 0 && h.GID == 0 && len(h.Xattrs) == 0 && h.Mode&0o7777&^0o775 == 0 && h.Mode&0o400 != 0
	return plain, nil
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// EnableTombstones sets core.tombstone-commits, so that from now on a deleted
// commit leaves a tombstone. No transaction may run meanwhile.
func (r *Repo) EnableTombstones() error {
	if r.opts.tombstones {
		return nil
	}
	if err := r.enableInConfig("core", "tombstone-commits"); err != nil {
		return err
	}
	r.opts.tombstones = true
	return nil
}

// HasTombstone reports whether the repository records the commit as deleted.
func (r *Repo) HasTombstone(c Checksum) (bool, error) {
	return r.objects.Exists(ObjectName{c, TypeTombstone}.loosePath(r.mode))
}

// writeTombstone records that a commit was deleted on purpose.
func (r *Repo) writeTombstone(c Checksum) error {
	var d gvariant.Dict
	d.Set("commit", gvariant.ByteSlice(append([]byte(c.String()), 0)))
	data, err := d.Marshal()
	if err != nil {
		return err
	}
	n := ObjectName{c, TypeTombstone}
	return errors.Join(r.makeObjectDir(n), r.replaceFile("objects/"+n.loosePath(r.mode), data, 0o644))
}

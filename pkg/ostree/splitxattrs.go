// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// maxXattrsSize bounds a file-xattrs object.
const maxXattrsSize = 1 << 20

// openSplit opens a content object of a bare-split-xattrs repository: owner, mode
// and content are those of the file, the attributes are in the file-xattrs-link
// object of the same name.
func (r *Repo) openSplit(d *fsx.Dir, path string) (h FileHeader, size int64, rc io.ReadCloser, err error) {
	h, size, rc, err = r.openBare(d, path)
	if err != nil {
		return h, 0, nil, err
	}
	h.Xattrs, err = readXattrsObject(d, strings.TrimSuffix(path, TypeFile.String())+TypeFileXattrsLink.String())
	if err != nil {
		return h, 0, nil, errors.Join(err, rc.Close())
	}
	return h, size, rc, nil
}

// ownedFiles tells whether a file's owner in the repository is the recorded one.
func (m Mode) ownedFiles() bool { return m == ModeBare || m == ModeBareSplitXattrs }

// readXattrsObject reads a(ayay). An object without it is damaged, not absent.
func readXattrsObject(d *fsx.Dir, path string) ([]Xattr, error) {
	data, err := d.ReadFile(path, maxXattrsSize)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fsx.ErrTooLarge) {
		return nil, fmt.Errorf("%w: attributes: %w", ErrCorrupt, unwrapPath(err))
	}
	if err != nil {
		return nil, err
	}
	return ParseXattrs(data)
}

// unwrapPath keeps fs.ErrNotExist, which means an absent object, out of the chain.
func unwrapPath(err error) error { return errors.New(err.Error()) }

// MarshalXattrs gives the bytes of a file-xattrs object, a(ayay): what a
// bare-split-xattrs repository keeps beside its files. The names need not be sorted.
func MarshalXattrs(x []Xattr) ([]byte, error) {
	sorted, err := sortedXattrs(x)
	if err != nil {
		return nil, err
	}
	v := xattrsValue(sorted)
	return v.Bytes(), v.Err()
}

// ParseXattrs reads a file-xattrs object, strictly.
func ParseXattrs(data []byte) ([]Xattr, error) {
	v, err := gvariant.Parse("a(ayay)", data)
	if err != nil {
		return nil, fmt.Errorf("%w: attributes: %w", ErrCorrupt, err)
	}
	x, err := parseXattrs(v)
	if err != nil {
		return nil, fmt.Errorf("%w: attributes: %w", ErrCorrupt, err)
	}
	return x, nil
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// tarXattrs reads the attributes of an entry. Where both forms name one, libarchive's
// counts: it can hold any bytes. Attributes without a value are left out, as from
// a directory.
func tarXattrs(records map[string]string) ([]Xattr, error) {
	values := map[string][]byte{}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if name, ok := strings.CutPrefix(key, paxSchily); ok {
			if _, ok := values[name]; !ok {
				values[name] = []byte(records[key])
			}
		}
		coded, ok := strings.CutPrefix(key, paxLibarchive)
		if !ok {
			continue
		}
		name, err := url.PathUnescape(coded)
		if err != nil {
			return nil, fmt.Errorf("%w: attribute name %q", ErrCorrupt, clip(coded))
		}
		value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(records[key], "="))
		if err != nil {
			return nil, fmt.Errorf("%w: attribute %q: %w", ErrCorrupt, clip(name), err)
		}
		values[name] = value
	}
	var out []Xattr
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) > 0 {
			out = append(out, Xattr{name, values[name]})
		}
	}
	return sortedXattrs(out)
}

// SPDX-License-Identifier: Apache-2.0

package rpmtest

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Text makes an entry of one string, whatever is in it.
func Text(tag rpm.Tag, s string) rpm.Entry {
	return rpm.Entry{Tag: tag, Type: rpm.TypeString, Count: 1, Data: append([]byte(s), 0)}
}

// Installed makes NAME-1-2.noarch as a database without immutable regions has it,
// with entries that rpmbuild would refuse to write.
func Installed(t testing.TB, name string, entries ...rpm.Entry) *rpm.Package {
	t.Helper()
	entries = append(entries, Text(rpm.TagName, name), Text(rpm.TagVersion, "1"), Text(rpm.TagRelease, "2"), Text(rpm.TagArch, "noarch"))
	slices.SortFunc(entries, func(a, b rpm.Entry) int { return int(a.Tag) - int(b.Tag) })
	var index, data []byte
	for _, e := range entries {
		width := map[rpm.Type]int{rpm.TypeInt16: 2, rpm.TypeInt32: 4, rpm.TypeInt64: 8}[e.Type]
		for width > 0 && len(data)%width != 0 {
			data = append(data, 0)
		}
		for _, n := range []uint32{uint32(e.Tag), uint32(e.Type), uint32(len(data)), e.Count} {
			index = binary.BigEndian.AppendUint32(index, n)
		}
		data = append(data, e.Data...)
	}
	blob := binary.BigEndian.AppendUint32(nil, uint32(len(entries)))
	blob = binary.BigEndian.AppendUint32(blob, uint32(len(data)))
	p, err := rpm.ParsePackage(slices.Concat(blob, index, data))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/pkg/bootloader/uki"
)

// compareSigned compares two files that differ by what Secure Boot looks at. What is no
// EFI program, such as a list of boot entries, has neither signature nor generations.
func compareSigned(have, offer []byte) BinaryState {
	old, oldErr := uki.Read(bytes.NewReader(have), int64(len(have)))
	next, nextErr := uki.Read(bytes.NewReader(offer), int64(len(offer)))
	if oldErr != nil || nextErr != nil {
		if oldErr == nil && old.Signed {
			return BinaryUnsigned
		}
		return BinaryOutdated
	}
	was, is := generations(old.SBAT), generations(next.SBAT)
	common := 0
	older := false
	for name, n := range was {
		if m, ok := is[name]; ok {
			common++
			older = older || m < n
		}
	}
	switch {
	case len(was) > 0 && len(is) > 0 && common == 0:
		return BinaryOther
	case old.Signed && !next.Signed:
		return BinaryUnsigned
	case older:
		return BinaryNewer
	}
	return BinaryOutdated
}

// generations reads the programs of an SBAT section, but not the version of the format.
// A line that is none is passed over, as shim does.
func generations(sbat string) map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.Lines(sbat) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if len(f) < 2 || f[0] == "" || f[0] == "sbat" {
			continue
		}
		if n, err := strconv.ParseUint(f[1], 10, 32); err == nil {
			out[f[0]] = n
		}
	}
	return out
}

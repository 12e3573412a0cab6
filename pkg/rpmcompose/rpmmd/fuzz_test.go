// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// However a list is cut into parts, it means the same or is refused with the same words.
func FuzzPrimary(f *testing.F) {
	one := `<package type="rpm"><name>a</name><arch>noarch</arch><version epoch="0" ver="1" rel="1"/><checksum type="sha1">da39a3ee5e6b4b0d3255bfef95601890afd80709</checksum><location href="a"/><format><rpm:requires><rpm:entry name="x" flags="EQ" ver="1"/><rpm:entry name="x" flags="EQ" ver="1"/><rpm:entry name="&gt;/>"/></rpm:requires><file>/a</file></format></package>`
	f.Add([]byte(`<metadata packages="1">` + one + `</metadata>`))
	f.Add([]byte(`<metadata packages="2">` + one + `<!-- ` + one + `-->` + one + `<x y="<package "/><![CDATA[<package ]]></metadata>`))
	f.Add([]byte(`<metadata packages="2">` + one + `<package type="x">` + one + `</package></metadata>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		whole, err := readPrimaryWhole(func() ([]byte, error) { return data, nil })
		var list []Package
		if err == nil {
			list, err = decodeParsedBody(whole[parsedDigestEnd:], "r")
		}
		for _, p := range list {
			if strings.HasPrefix(p.Location, "..") {
				t.Error(p.Location)
			}
		}
		for _, size := range []int{1, 100, 500} {
			form, failed := readPrimary(bytes.NewReader(data), func() ([]byte, error) { return data, nil }, size)
			var got []Package
			if failed == nil {
				got, failed = decodeParsedBody(form[parsedDigestEnd:], "r")
			}
			if (err == nil) != (failed == nil) || err != nil && err.Error() != failed.Error() {
				t.Fatalf("%v in one piece, %v in parts of %d", err, failed, size)
			}
			if d := cmp.Diff(list, got); d != "" {
				t.Fatalf("parts of %d: %s", size, d)
			}
		}
	})
}

// However a file list is cut into parts, it has the same files.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(`<filelists><package pkgid="00"><file>/a</file><file type="dir">/b&amp;</file></package><!-- <package pkgid="00"><file>/c</file></package> --><package pkgid="01"><file>/c</file></package></filelists>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func(size int) (out []string, failed bool) {
			r := &filesReader{byID: map[string]int{"00": 0, "01": 1}, found: func(_, owner int, path []byte) {
				out = append(out, fmt.Sprint(owner, string(path)))
			}}
			failed, err := readParts(bytes.NewReader(data), size, []func(part) error{r.read})
			return out, failed || err != nil
		}
		want, failed := read(len(data) + 1)
		if failed {
			return
		}
		for _, size := range []int{1, 100} {
			got, failed := read(size)
			if d := cmp.Diff(want, got); d != "" && !failed {
				t.Fatalf("parts of %d: %s", size, d)
			}
		}
	})
}

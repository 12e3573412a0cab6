// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
)

// Whatever loads must have a canonical form that is itself JSON, the same every
// time, and no input may take the loader down.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{fullTOML, fullYAML, fullJSON} {
		for ext := range 3 {
			f.Add([]byte(s), byte(ext))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, ext byte) {
		name := []string{"t.toml", "t.yaml", "t.json"}[int(ext)%3]
		fsys := mapFS(map[string]string{name: string(data), "motd": "", "hook.sh": "", "passwd": "", "group": ""})
		m, err := Load(fsys, name, Options{Basearch: "x86_64"})
		_, found := CheckAll(fsys, name, Options{Basearch: "x86_64"})
		if err != nil {
			if !slices.ContainsFunc(found, func(e error) bool { return e.Error() == err.Error() }) {
				t.Fatalf("Load says %v, CheckAll %v", err, found)
			}
			return
		}
		if len(found) > 0 {
			t.Fatalf("sound, but CheckAll says %v", found)
		}
		one, err := m.Canonical()
		if err != nil {
			t.Fatalf("Canonical: %v", err)
		}
		if !json.Valid(one) {
			t.Fatalf("canonical form is no JSON: %q", one)
		}
		again, err := Load(fsys, name, Options{Basearch: "x86_64"})
		if err != nil {
			t.Fatalf("second Load: %v", err)
		}
		two, err := again.Canonical()
		if err != nil || !bytes.Equal(one, two) {
			t.Fatalf("canonical form changed: %q, %q (%v)", one, two, err)
		}
	})
}

// Whatever is a treefile can be written in the other notations and means the
// same there.
func FuzzConvert(f *testing.F) {
	for _, s := range []string{fullTOML, fullYAML, fullJSON, "metadata: {a: [1.5, yes, null, {b: \"\\u0085\"}]}\n# c\n", "units = ['a',\n'b']"} {
		for ext := range 3 {
			f.Add([]byte(s), byte(ext))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, ext byte) {
		d, err := Parse([]string{"t.toml", "t.yaml", "t.json"}[int(ext)%3], data)
		if err != nil {
			return
		}
		for _, format := range []Format{TOML, YAML, JSON} {
			text, err := d.Encode(format, EncodeOptions{})
			if errors.Is(err, errNull) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			again, err := Parse("t."+string(format), text)
			if err != nil {
				t.Fatalf("%s: %v\n%s", format, err, text)
			}
			if !reflect.DeepEqual(d.root.plain(), again.root.plain()) {
				t.Fatalf("%s differs:\n%q\n%v\n%v", format, text, d.root.plain(), again.root.plain())
			}
		}
	})
}

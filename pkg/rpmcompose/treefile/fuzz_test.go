// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"bytes"
	"encoding/json"
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
		fsys := mapFS(map[string]string{name: string(data), "motd": "", "hook.sh": "", "passwd": ""})
		m, err := Load(fsys, name, Options{Basearch: "x86_64"})
		if err != nil {
			return
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

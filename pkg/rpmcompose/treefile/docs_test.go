// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"os"
	"strings"
	"testing"
)

// The guide explains every key, and no other.
func TestGuideNamesEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/treefile.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for i, part := range strings.Split(cells[1], "`") {
			if i%2 == 1 {
				documented[part] = true
			}
		}
	}
	for _, f := range fields() {
		if !documented[f.name] {
			t.Errorf("docs/treefile.md has no row for %s", f.name)
		}
	}
	s := newSchema()
	for key := range documented {
		if _, ok := s.lookup(key); !ok && !strings.HasPrefix(key, "compose-server ") {
			t.Errorf("docs/treefile.md explains %s, which is no key", key)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestTargetFromCmdline(t *testing.T) {
	t.Parallel()
	tests := []struct{ cmdline, want string }{
		{"root=LABEL=root rw ostree=/ostree/boot.1/os/x/0\n", "/ostree/boot.1/os/x/0"},
		{"ostree=/first ostree=/second", "/first"},
		{`a="x ostree=/quoted" ostree=/real`, "/real"},
		{`"ostree=/a b" rw`, "/a b"},
		{"notostree=/x ostree.prepare-root.composefs=0", ""},
		{"root=x -- ostree=/init", ""},
		{"ostree= rw", ""},
		{"", ""},
	}
	for _, tt := range tests {
		got, err := TargetFromCmdline(tt.cmdline)
		if got != tt.want || (err == nil) != (tt.want != "") || (err != nil && !errors.Is(err, ErrNoTarget)) {
			t.Errorf("%q: got %q, %v", tt.cmdline, got, err)
		}
	}
}

var (
	csum  = strings.Repeat("ab", 32)
	bcsum = strings.Repeat("0c", 32)
)

func TestResolveTarget(t *testing.T) {
	t.Parallel()
	good := "/ostree/boot.1/os/" + bcsum + "/0"
	link := "ostree/boot.1.0/os/" + bcsum + "/0"
	tests := []struct {
		name, target, dir, dest string
		want                    string
	}{
		{"plain", good, "boot.1.0", "../../../deploy/os/deploy/" + csum + ".0", "ostree/deploy/os/deploy/" + csum + ".0"},
		{"other stateroot", good, "boot.1.0", "../../../deploy/b/deploy/" + csum + ".12", "ostree/deploy/b/deploy/" + csum + ".12"},
		{"absolute link", good, "boot.1.0", "/etc", ""},
		{"climbing link", good, "boot.1.0", "../../../deploy/../deploy/" + csum + ".0", ""},
		{"short checksum", good, "boot.1.0", "../../../deploy/os/deploy/abcd.0", ""},
		{"no serial", good, "boot.1.0", "../../../deploy/os/deploy/" + csum, ""},
		{"huge serial", good, "boot.1.0", "../../../deploy/os/deploy/" + csum + ".99999999999999999999", ""},
		{"foreign boot directory", good, "boot.0.0", "../../../deploy/os/deploy/" + csum + ".0", ""},
		{"boot directory elsewhere", good, "../boot.1.0", "../../../deploy/os/deploy/" + csum + ".0", ""},
		{"no such bootversion", "/ostree/boot.2/os/" + bcsum + "/0", "", "", ""},
		{"relative", good[1:], "", "", ""},
		{"too deep", good + "/x", "", "", ""},
		{"dots", "/ostree/boot.1/../" + bcsum + "/0", "", "", ""},
		{"aboot link", "/ostree/root.a", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, err := ResolveTarget(tt.target, func(name string) (string, error) {
				switch name {
				case "ostree/boot.1":
					return tt.dir, nil
				case link:
					return tt.dest, nil
				}
				return "", fs.ErrNotExist
			})
			if tt.want == "" {
				if !errors.Is(err, ErrInvalidTarget) {
					t.Fatalf("got %v, %v", d, err)
				}
				return
			}
			if err != nil || d.Path() != tt.want {
				t.Errorf("got %q, %v", d.Path(), err)
			}
		})
	}
	_, err := ResolveTarget(good, func(string) (string, error) { return "", fs.ErrNotExist })
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing link: %v", err)
	}
}

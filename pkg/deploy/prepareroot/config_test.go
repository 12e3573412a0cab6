// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseConfig(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	tests := []struct {
		name             string
		vendor, override string
		want             Config
		err              error // of Plan
	}{
		{name: "nothing"},
		{name: "vendor", vendor: "[sysroot]\nreadonly=true\n", want: Config{ReadOnlySysroot: &yes}},
		{
			name: "override wins", vendor: "[sysroot]\nreadonly=true\n[etc]\ntransient=true\n",
			override: "[sysroot]\nreadonly=false\n", want: Config{ReadOnlySysroot: &no, TransientEtc: true},
		},
		{name: "transient root", override: "[root]\ntransient=true\n", want: Config{TransientRoot: true}},
		{name: "unknown keys", vendor: "[new]\nkey=1\n[sysroot]\nother=2\n"},
		{name: "composefs if possible", vendor: "[composefs]\nenabled=maybe\n", want: Config{Composefs: "maybe"}},
		{name: "composefs required", vendor: "[composefs]\nenabled=signed\n", want: Config{Composefs: "signed"}, err: ErrNotSupported},
		{name: "composefs taken back", vendor: "[composefs]\nenabled=yes\n", override: "[composefs]\nenabled=no\n", want: Config{Composefs: "no"}},
		{name: "read-only overlay", vendor: "[root]\ntransient-ro=true\n", want: Config{TransientRootReadOnly: true}, err: ErrNotSupported},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseConfig([]byte(tt.vendor), []byte(tt.override))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			s := usual()
			s.Config = got
			if _, err := Plan(s); !errors.Is(err, tt.err) {
				t.Errorf("plan: error %v, want %v", err, tt.err)
			}
		})
	}
	for _, bad := range []string{"[sysroot]\nreadonly=perhaps\n", "readonly=true\n", "[etc\n"} {
		if _, err := ParseConfig([]byte(bad), nil); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestMountsVar(t *testing.T) {
	t.Parallel()
	for fstab, want := range map[string]bool{
		"":                                   false,
		"LABEL=x /var ext4 defaults 0 0\n":   true,
		"LABEL=x /var/ ext4":                 true,
		"# LABEL=x /var ext4 defaults\n":     false,
		"#LABEL=x /var ext4 defaults\n":      false,
		"LABEL=x /var/log ext4 defaults\n":   false,
		"LABEL=x / ext4\nLABEL=y\t/var\txfs": true,
		"LABEL=x /var":                       false,
	} {
		if got := mountsVar(fstab); got != want {
			t.Errorf("%q: got %v", fstab, got)
		}
	}
}

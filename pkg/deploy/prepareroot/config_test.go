// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
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
	}{
		{name: "nothing"},
		{name: "vendor", vendor: "[sysroot]\nreadonly=true\n", want: Config{ReadOnlySysroot: &yes}},
		{
			name: "override wins", vendor: "[sysroot]\nreadonly=true\n[etc]\ntransient=true\n",
			override: "[sysroot]\nreadonly=false\n", want: Config{ReadOnlySysroot: &no, TransientEtc: true},
		},
		{name: "transient root", override: "[root]\ntransient=true\n", want: Config{TransientRoot: true}},
		{name: "unknown keys", vendor: "[new]\nkey=1\n[sysroot]\nother=2\n"},
		{name: "composefs if possible", vendor: "[composefs]\nenabled=maybe\n", want: Config{Composefs: Composefs{Use: Maybe}}},
		{name: "composefs", vendor: "[composefs]\nenabled=true\n", want: Config{Composefs: Composefs{Use: Yes}}},
		{name: "composefs verified", vendor: "[composefs]\nenabled=verity\n", want: Config{Composefs: Composefs{Use: Yes, Verity: true}}},
		{
			name: "composefs signed", vendor: "[composefs]\nenabled=verity\n", override: "[composefs]\nenabled=signed\nkeypath=/k\n",
			want: Config{Composefs: Composefs{Use: Yes, Verity: true, Signed: true, KeyPath: "/k"}},
		},
		{name: "composefs taken back", vendor: "[composefs]\nenabled=signed\n", override: "[composefs]\nenabled=no\n"},
		{name: "read-only overlay", vendor: "[root]\ntransient-ro=true\n", want: Config{TransientRootReadOnly: true}},
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
		})
	}
	for _, bad := range []string{"[sysroot]\nreadonly=perhaps\n", "readonly=true\n", "[etc\n", "[composefs]\nenabled=perhaps\n",
		"[root]\ntransient=true\ntransient-ro=true\n"} {
		if _, err := ParseConfig([]byte(bad), nil); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestComposefsArgument(t *testing.T) {
	t.Parallel()
	signed := Composefs{Use: Yes, Verity: true, Signed: true}
	for _, tt := range []struct {
		config Composefs
		arg    string
		want   Composefs
		bad    bool
	}{
		{arg: "1", want: Composefs{Use: Yes}},
		{arg: "signed", want: signed},
		{config: signed, arg: "0", want: Composefs{Verity: true}},
		{config: signed, arg: "maybe", want: Composefs{Use: Maybe, Verity: true}},
		{config: signed, arg: "signed", want: signed},
		{arg: "on", bad: true},
	} {
		got := tt.config
		if err := got.override(tt.arg); (err != nil) != tt.bad || !tt.bad && got != tt.want {
			t.Errorf("%q over %+v: %+v, %v", tt.arg, tt.config, got, err)
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

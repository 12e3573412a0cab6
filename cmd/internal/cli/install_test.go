// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hostctl/hostctl/internal/diskimage"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/deploy/upgrade"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

func TestReadKeys(t *testing.T) {
	t.Parallel()
	_, public, err := sign.GenerateEd25519()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	two := filepath.Join(t.TempDir(), "two")
	if err := os.WriteFile(two, []byte(public+"\n"+public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		f          InstallFlags
		gpg, usage bool // GPG signatures are asked for; the command line is wrong
		fails      bool
	}{
		"default":     {f: InstallFlags{}, gpg: true},
		"unsigned":    {f: InstallFlags{NoGPG: true}},
		"inline":      {f: InstallFlags{SignVerify: []string{"ed25519=inline:" + public}}},
		"file":        {f: InstallFlags{SignVerify: []string{"ed25519=file:" + file}}},
		"both":        {f: InstallFlags{SignVerify: []string{"ed25519=file:" + file}, GPGKeys: []string{file}}, gpg: true},
		"two keys":    {f: InstallFlags{SignVerify: []string{"ed25519=file:" + two}}, fails: true},
		"twice":       {f: InstallFlags{SignVerify: []string{"ed25519=file:" + file, "ed25519=file:" + file}}, usage: true},
		"no kind":     {f: InstallFlags{SignVerify: []string{"ed25519=" + public}}, usage: true},
		"bad key":     {f: InstallFlags{SignVerify: []string{"ed25519=inline:AAAA"}}, usage: true},
		"dummy":       {f: InstallFlags{SignVerify: []string{"dummy=inline:x"}}, usage: true},
		"absent":      {f: InstallFlags{GPGKeys: []string{file + "-not"}}, fails: true},
		"contradicts": {f: InstallFlags{NoGPG: true, GPGKeys: []string{file}}, usage: true},
	} {
		var req upgrade.InstallRequest
		err := c.f.readKeys(&req)
		var usage ui.UsageError
		if got := errors.As(err, &usage); got != c.usage || (err != nil) != (c.usage || c.fails) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err != nil {
			continue
		}
		if req.Remote.NoGPGVerify == c.gpg {
			t.Errorf("%s: gpg-verify is %v", name, c.gpg)
		}
		if len(c.f.SignVerify) > 0 && req.SignKeys[sign.TypeEd25519] != public {
			t.Errorf("%s: keys %q", name, req.SignKeys)
		}
	}
}

func TestInstallRefusesUnknownBoot(t *testing.T) {
	t.Parallel()
	err := (&App{}).Install(t.Context(), nil, InstallFlags{Boot: "lilo"}, "", ostree.Checksum{})
	var usage ui.UsageError
	if !errors.As(err, &usage) || !errors.Is(err, diskimage.ErrUnknownBoot) {
		t.Errorf("got %v", err)
	}
}

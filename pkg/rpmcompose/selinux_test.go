// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"errors"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
)

func TestRefusePolicy(t *testing.T) {
	t.Parallel()
	root, err := fsx.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := refusePolicy(root); err != nil {
		t.Errorf("empty tree: %v", err)
	}
	// Configuration of tools alone asks for no labels.
	if err := root.MkdirAll("usr/etc/selinux/empty", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := root.WriteFile("usr/etc/selinux/semanage.conf", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := refusePolicy(root); err != nil {
		t.Errorf("tree without a policy: %v", err)
	}
	if err := root.MkdirAll("usr/etc/selinux/targeted/policy", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := refusePolicy(root); !errors.Is(err, ErrTreefile) {
		t.Errorf("tree with a policy: %v", err)
	}
}

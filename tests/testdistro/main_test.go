// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

func TestTreefile(t *testing.T) {
	t.Parallel()
	m, err := treefile.Load(os.DirFS("."), "treefile.toml", treefile.Options{Basearch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"testdistro"}, m.Repos); diff != "" {
		t.Error(diff)
	}
	for _, p := range []string{"basesystem", "filesystem", "setup", "linux-image-amd64", "dracut", "systemd"} {
		if !slices.Contains(m.Packages, p) {
			t.Errorf("package %s is missing", p)
		}
	}
	for _, want := range []string{"[testdistro]\n", "baseurl=@BASEURL@\n", "gpgkey=@GPGKEY@\n"} {
		if !strings.Contains(repoTemplate, want) {
			t.Errorf("the .repo template lacks %q", want)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"paint"}, {"build"}, {"build", "--out", "x", "y"}, {"build", "--nope"}} {
		if err := run(context.Background(), args, io.Discard, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("run(%q) = %v, want the usage", args, err)
		}
	}
}

func TestDefaultCache(t *testing.T) {
	t.Setenv("HOSTCTL_CACHE", "/somewhere")
	dir, err := defaultCache()
	if err != nil || dir != "/somewhere/testdistro" {
		t.Errorf("defaultCache = %q, %v", dir, err)
	}
	t.Setenv("HOSTCTL_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "/cache")
	if dir, err = defaultCache(); err != nil || dir != "/cache/hostctl/testdistro" {
		t.Errorf("defaultCache = %q, %v", dir, err)
	}
}

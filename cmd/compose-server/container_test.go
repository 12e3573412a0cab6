// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree/container"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// smallRepo has one commit without packages, made by libostree.
func smallRepo(t *testing.T) (repo, commit string) {
	t.Helper()
	testutil.Tool(t, "ostree")
	dir := t.TempDir()
	repo = filepath.Join(dir, "repo")
	testutil.Must(t, os.MkdirAll(filepath.Join(dir, "tree/usr/bin"), 0o755))
	testutil.Must(t, os.WriteFile(filepath.Join(dir, "tree/usr/bin/tool"), []byte("tool"), 0o755))
	testutil.Run(t, "ostree", "init", "--repo="+repo, "--mode=archive")
	testutil.Run(t, "ostree", "--repo="+repo, "commit", "--branch=x", "--timestamp=@1700000000", "--add-metadata-string=version=7", "--tree=dir="+filepath.Join(dir, "tree"))
	return repo, strings.TrimSpace(testutil.Run(t, "ostree", "--repo="+repo, "rev-parse", "x"))
}

func runTest(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

func TestContainerCommands(t *testing.T) {
	t.Parallel()
	repo, commit := smallRepo(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "config.json")
	testutil.Must(t, os.WriteFile(config, []byte(`{"Env":["A=B"],"Labels":{"base":"1"}}`), 0o644))
	layout, file := "oci:"+filepath.Join(dir, "image")+":v7", "oci-archive:"+filepath.Join(dir, "image.tar")
	code, out, errs := runTest(t, "container-encapsulate", "--repo", repo, "--label", "a=b=c", "--copymeta", "version", "--copymeta-opt", "none", "--cmd", "/bin/sh", "--cmd", "-l",
		"--image-config", config, "--arch", "aarch64", "--json", "x", layout)
	var res container.Encapsulated
	if code != 0 || json.Unmarshal([]byte(out), &res) != nil || res.Commit.String() != commit || !strings.Contains(errs, "no package database") {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	img, err := container.Open(testutil.OpenDir(t, filepath.Join(dir, "image")), "v7")
	testutil.Must(t, err)
	c := img.Config
	if c.Architecture != "arm64" || strings.Join(c.Config.Cmd, " ") != "/bin/sh -l" || c.Config.Env[0] != "A=B" || c.Config.Labels["a"] != "b=c" || c.Config.Labels["base"] != "1" || c.Config.Labels["version"] != "7" {
		t.Errorf("configuration %+v", c)
	}
	if code, out, errs := runTest(t, "container-encapsulate", "--repo", repo, "--previous", layout, "--arch", "aarch64", "x", file); code != 0 || !strings.Contains(out, "2 as in the previous image, 0 B to download") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	for _, image := range []string{layout, file} {
		to := filepath.Join(t.TempDir(), "repo")
		if code, out, errs := runTest(t, "container-unencapsulate", "--repo", to, "--write-ref", "y", image); code != 0 || strings.TrimSpace(out) != commit {
			t.Errorf("%s: exit %d: %s%s", image, code, out, errs)
		}
		testutil.Run(t, "ostree", "--repo="+to, "fsck")
	}
	left, err := filepath.Glob(filepath.Join(dir, ".hostctl-image-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestContainerUsage(t *testing.T) {
	t.Parallel()
	repo, _ := smallRepo(t)
	out := "oci:" + filepath.Join(t.TempDir(), "out")
	for want, args := range map[string][]string{
		"want a ref and an image": {"container-encapsulate", "--repo", repo, "x"},
		"want oci:":               {"container-encapsulate", "--repo", repo, "x", "registry.example/x"},
		"--compression":           {"container-encapsulate", "--repo", repo, "--compression", "xz", "x", out},
		"--label":                 {"container-encapsulate", "--repo", repo, "--label", "a", "x", out},
		"--max-layers":            {"container-encapsulate", "--repo", repo, "--max-layers", "0", "x", out},
		"skopeo inspect --raw":    {"container-encapsulate", "--repo", repo, "--previous", "docker://x/y", "x", out},
		"none":                    {"container-encapsulate", "--repo", repo, "none", out},
		"no string":               {"container-encapsulate", "--repo", repo, "--copymeta", "nothing", "x", out},
		"give one image":          {"container-unencapsulate", "--repo", repo},
		"want a treefile":         {"extensions", "--repo", repo, "--output-dir", "x", "t.toml"},
	} {
		code, _, errs := runTest(t, args...)
		if code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%v: exit %d: %s, want %q", args, code, errs, want)
		}
	}
}

func TestImageArch(t *testing.T) {
	t.Parallel()
	for arch, want := range map[string]string{"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "amd64": "amd64", "": ""} {
		if got := imageArch(arch); got != want {
			t.Errorf("%s: %s", arch, got)
		}
	}
	if got := mainArch([]*rpm.Package{}); got != "" {
		t.Errorf("no packages: %s", got)
	}
}

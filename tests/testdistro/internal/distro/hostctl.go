// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/hostctl/hostctl/tests/testdistro/internal/debian"
	"github.com/hostctl/hostctl/tests/testdistro/internal/rpmspec"
)

// hostctlJob packages the install root of our own tools.
func hostctlJob(o Options, key signingKey) (job, error) {
	type item struct {
		Path, Link, Sum string
		Mode            uint32
	}
	var items []item
	var files []rpmspec.File
	err := filepath.WalkDir(o.HostctlRoot, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(o.HostctlRoot, p)
		if err != nil || rel == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := rpmspec.File{Path: "/" + filepath.ToSlash(rel), Mode: uint32(info.Mode().Perm()), User: "root", Group: "root"}
		it := item{Path: f.Path, Mode: uint32(info.Mode())}
		switch {
		case d.IsDir():
			if isStandardDir(f.Path) {
				return nil
			}
			f.Kind = rpmspec.Directory
		case info.Mode().IsRegular():
			if it.Sum, err = debian.FileSHA256(p); err != nil {
				return err
			}
			f.Config = strings.HasPrefix(f.Path, "/etc/")
			f.License = path.Base(f.Path) == "LICENSE"
		case info.Mode()&fs.ModeSymlink != 0:
			if it.Link, err = os.Readlink(p); err != nil {
				return err
			}
			f.Kind = rpmspec.Symlink
		default:
			return fmt.Errorf("package %s: neither file, folder nor link", f.Path)
		}
		items, files = append(items, it), append(files, f)
		return nil
	})
	if err != nil {
		return job{}, fmt.Errorf("read the hostctl root: %w", err)
	}
	if len(files) == 0 {
		return job{}, fmt.Errorf("read the hostctl root %s: it is empty", o.HostctlRoot)
	}
	spec := rpmspec.Spec{
		Name: "hostctl", EVR: hostctlEVR(o.HostctlVersion), Arch: "x86_64",
		Summary: "Host agent and composer of image-based systems", Description: "Built from the tree under test.",
		License: "Apache-2.0", Group: "admin", URL: "https://example.test/", Files: files,
		Tags: []rpmspec.Tag{{Name: "Requires", Value: "dracut"}, {Name: "Requires", Value: "systemd"}},
	}
	spec.Scriptlets = unitScriptlets(files, Recipe{}, o.HostctlRoot)
	k, err := jobKey("hostctl", items, spec.Text(), key.fingerprint)
	if err != nil {
		return job{}, err
	}
	prepare := func(_ context.Context, work string) (*recipeOutput, error) {
		root := filepath.Join(work, "root")
		// rpmbuild may empty its build root: hand it a copy.
		if err := copyTree(o.HostctlRoot, root); err != nil {
			return nil, err
		}
		out := &recipeOutput{spec: filepath.Join(work, "hostctl.spec"), buildRoot: root, epoch: ownEpoch, wantFiles: len(files)}
		return out, os.WriteFile(out.spec, []byte(spec.Text()), 0o644)
	}
	return job{name: "hostctl", key: k, weight: 20 << 20, prepare: prepare}, nil
}

func hostctlEVR(v string) rpmspec.EVR {
	if v == "" {
		v = "0.0.0"
	}
	e := rpmspec.FromDebian(v)
	if !strings.Contains(v, "-") {
		e.Release = "1"
	}
	return e
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(dst, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return os.Symlink(target, dst)
		}
		src, err := os.Open(p)
		if err != nil {
			return err
		}
		defer src.Close()
		info, err := src.Stat()
		if err != nil {
			return err
		}
		return writeFile(dst, src, uint32(info.Mode().Perm()), time.Unix(ownEpoch, 0))
	})
}

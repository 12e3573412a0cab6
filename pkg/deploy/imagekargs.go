// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// kargsDir holds fragments of the kernel command line that a tree brings, in
// bootc's format: NAME.toml with the list kargs and, optionally, the list
// match-architectures.
const (
	kargsDir        = "usr/lib/bootc/kargs.d"
	maxKargsFile    = 64 << 10
	maxKargsEntries = 256
)

type kargsFragment struct {
	Kargs  []string `toml:"kargs"`
	Arches []string `toml:"match-architectures"`
}

// imageKargs reads the fragments of a tree for an architecture in the kernel's
// words, in the byte order of their names.
func imageKargs(t tree, arch string) (bls.Kargs, error) {
	files, _, err := t.list(kargsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out bls.Kargs
	for _, name := range files {
		if !strings.HasSuffix(name, ".toml") {
			continue
		}
		k, err := readFragment(t, path.Join(kargsDir, name), arch)
		if err != nil {
			return nil, err
		}
		if out = append(out, k...); len(out) > maxKargsEntries {
			return nil, fmt.Errorf("%w: more than %d in %s", ErrInvalidKargs, maxKargsEntries, kargsDir)
		}
	}
	return out, nil
}

func readFragment(t tree, name, arch string) (bls.Kargs, error) {
	f, err := t.open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKargsFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(data) > maxKargsFile {
		return nil, fmt.Errorf("read %s: %w", name, fsx.ErrTooLarge)
	}
	k, err := parseFragment(string(data), arch)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return k, nil
}

func parseFragment(data, arch string) (bls.Kargs, error) {
	var frag kargsFragment
	md, err := toml.Decode(data, &frag)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidKargs, err)
	}
	if unknown := md.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("%w: unknown key %s", ErrInvalidKargs, unknown[0])
	}
	if len(frag.Arches) > 0 && !slices.Contains(frag.Arches, arch) {
		return nil, nil
	}
	var out bls.Kargs
	for _, line := range frag.Kargs {
		out = append(out, bls.ParseKargs(line)...)
	}
	return out, checkKargs(out)
}

// mergeImageKargs moves a command line from a tree with the fragments from to one
// with those of next. Only what differs between the two is touched: an argument
// that somebody deleted stays deleted while the image keeps bringing it.
func mergeImageKargs(k, from, next bls.Kargs) bls.Kargs {
	out := bls.Kargs{}
	for _, a := range k {
		if !slices.Contains(from, a) || slices.Contains(next, a) {
			out = append(out, a)
		}
	}
	for _, a := range next {
		if !slices.Contains(from, a) && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// applyImageKargs does that for a request.
func (s *Sysroot) applyImageKargs(req *Request) error {
	base := req.KargsFrom
	if base == nil {
		base = req.Merge
	}
	var from bls.Kargs
	if base != nil {
		root, err := s.dir.OpenDir(base.Dir())
		if err != nil {
			return err
		}
		defer root.Close()
		// What the running tree has is not worth failing for.
		if from, err = s.treeKargs(dirTree{root}); err != nil {
			s.log.Warn("kernel arguments of a tree cannot be read", "deployment", base.Name(), "error", err)
			return nil
		}
	}
	next, err := s.treeKargs(repoTree{s.repo, req.Commit})
	if err != nil {
		return err
	}
	if len(from)+len(next) > 0 {
		req.Kargs = mergeImageKargs(req.Kargs, from, next)
	}
	return nil
}

// kernelArch is this machine's architecture as uname -m says it.
func kernelArch() string {
	for goarch, arch := range map[string]string{"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64", "386": "i686", "arm": "armv7l"} {
		if runtime.GOARCH == goarch {
			return arch
		}
	}
	return runtime.GOARCH
}

// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/hostctl/hostctl/tests/testdistro/internal/rpmspec"
)

// heldModule is a pruned kernel module, set aside until it is known whether a
// module that stays needs it.
type heldModule struct {
	file rpmspec.File
	at   string // where its bytes are
}

// moduleName is what "depends=" of another module calls the file.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_")
}

// moduleDepends reads the names of the modules that must be loaded before.
func moduleDepends(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", filepath.Base(file), err)
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("read module %s: no .modinfo section", filepath.Base(file))
	}
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", filepath.Base(file), err)
	}
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		if list, ok := strings.CutPrefix(string(entry), "depends="); ok && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}

// restoreNeeded brings pruned modules back that remaining ones depend on, so
// that every module of the package can be loaded.
func (x *extractor) restoreNeeded() error {
	if len(x.held) == 0 {
		return nil
	}
	var queue []string
	for _, f := range x.out.files {
		if f.Kind == rpmspec.Regular && strings.HasSuffix(f.Path, ".ko") {
			queue = append(queue, filepath.Join(x.root, f.Path))
		}
	}
	for len(queue) > 0 {
		file := queue[0]
		queue = queue[1:]
		names, err := moduleDepends(file)
		if err != nil {
			return err
		}
		for _, n := range names {
			h, ok := x.held[n]
			if !ok {
				continue
			}
			delete(x.held, n)
			dst, err := x.restore(h)
			if err != nil {
				return err
			}
			queue = append(queue, dst)
		}
	}
	return os.RemoveAll(x.heldDir())
}

func (x *extractor) heldDir() string { return x.root + ".held" }

func (x *extractor) restore(h heldModule) (string, error) {
	dst := filepath.Join(x.root, h.file.Path)
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return "", err
	}
	for dir := path.Dir(h.file.Path); !isStandardDir(dir); dir = path.Dir(dir) {
		if _, ok := x.at[dir]; !ok {
			x.put(rpmspec.File{Path: dir, Kind: rpmspec.Directory, Mode: 0o755, User: "root", Group: "root"})
		}
	}
	x.put(h.file)
	return dst, os.Rename(h.at, dst)
}

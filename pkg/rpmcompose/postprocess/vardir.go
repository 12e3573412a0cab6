// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// autovarConf holds what scripts made in /var.
const autovarConf = "usr/lib/tmpfiles.d/hostctl-1-autovar.conf"

// varScratch is content of /var that no boot needs: caches, and what the sandbox
// itself put there.
var varScratch = []string{"var/tmp", "var/cache/ldconfig", "var/lib/rpm-state", "var/lib/rpm", "var/lib/dnf", "var/lib/systemd",
	"var/lib/selinux", "var/log/journal", "var/.updated", "var/run", "var/lock", "var/roothome", "var/home", "var/cache/man"}

// convertVar turns directories and links in /var that no tmpfiles.d line makes
// into such lines, and empties /var. Files are dropped: a tree cannot hold them.
func (r *runner) convertVar() error {
	known, err := scripts.TmpfilesPaths(r.root)
	if err != nil {
		return err
	}
	names, err := loadNames(r.root)
	if err != nil {
		return err
	}
	var lines []string
	err = walk(r.root, "var", func(_ *fsx.Dir, _, full string, st fsx.Stat) error {
		if inScratch(full) || known["/"+full] {
			return nil
		}
		f := rpm.File{Path: "/" + full, Mode: st.Mode, User: names.user(st.UID), Group: names.group(st.GID)}
		if st.IsSymlink() {
			if f.Link, err = r.root.Readlink(full); err != nil {
				return err
			}
		}
		p, err := importer.Place(&f, importer.Filter{})
		if err != nil {
			return err
		}
		if p.Kind == importer.Tmpfiles {
			lines = append(lines, p.Lines...)
		} else if st.IsRegular() {
			r.drop(full, "a script made a file in /var")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(lines) > 0 {
		slices.Sort(lines)
		text := "# Directories and links of /var that scripts of packages made.\n" + strings.Join(lines, "\n") + "\n"
		if err := r.root.MkdirAll(path.Dir(autovarConf), 0o755); err != nil {
			return err
		}
		if err := r.root.WriteFileAtomic(autovarConf, []byte(text), 0o644); err != nil {
			return err
		}
	}
	entries, err := r.root.ReadDir("var")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := r.root.RemoveAll(path.Join("var", e.Name)); err != nil {
			return err
		}
	}
	return nil
}

func inScratch(full string) bool {
	for _, s := range varScratch {
		if full == s || strings.HasPrefix(full, s+"/") {
			return true
		}
	}
	return false
}

// accountNames maps ids to names, the first entry of a file winning.
type accountNames struct{ users, groups map[string]string }

func loadNames(root *fsx.Dir) (accountNames, error) {
	n := accountNames{map[string]string{}, map[string]string{}}
	for _, f := range []struct {
		file string
		to   map[string]string
	}{{"passwd", n.users}, {"group", n.groups}} {
		for _, dir := range []string{"usr/etc/", "usr/lib/"} {
			text, err := readOptional(root, dir+f.file)
			if err != nil {
				return n, err
			}
			for line := range strings.Lines(text) {
				fields := strings.Split(line, ":")
				if len(fields) < 3 {
					continue
				}
				if _, ok := f.to[fields[2]]; !ok {
					f.to[fields[2]] = fields[0]
				}
			}
		}
	}
	return n, nil
}

func (n accountNames) user(id uint32) string  { return nameOf(n.users, id) }
func (n accountNames) group(id uint32) string { return nameOf(n.groups, id) }

func nameOf(names map[string]string, id uint32) string {
	key := fmt.Sprint(id)
	if name, ok := names[key]; ok {
		return name
	}
	return key
}

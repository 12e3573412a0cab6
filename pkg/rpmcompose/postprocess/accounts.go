// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// altfiles is the library that looks accounts up in usr/lib.
const altfiles = "libnss_altfiles.so.2"

func readOptional(root *fsx.Dir, name string) (string, error) {
	b, err := root.ReadFile(name, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// splitAccounts moves accounts to usr/lib, where an update replaces them while
// /etc keeps what the administrator adds. Without the library that reads them
// there, accounts stay in /etc and are merged like any other file.
func (r *runner) splitAccounts() error {
	ok, err := r.hasAltfiles()
	if err != nil || !ok {
		return err
	}
	keepGroups := append([]string{"root"}, r.o.EtcGroupMembers...)
	for _, f := range []struct {
		name string
		keep []string
	}{{"passwd", []string{"root"}}, {"group", keepGroups}} {
		etc, lib := "usr/etc/"+f.name, "usr/lib/"+f.name
		text, err := readOptional(r.root, etc)
		if err != nil || text == "" {
			return err
		}
		stay, move := splitEntries(text, f.keep)
		if err := r.root.WriteFileAtomic(lib, []byte(move), 0o644); err != nil {
			return err
		}
		if err := r.replace(etc, stay); err != nil {
			return err
		}
	}
	return r.nsswitch()
}

func splitEntries(text string, keep []string) (stay, move string) {
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, ":")
		if slices.Contains(keep, name) {
			stay += line
		} else {
			move += line
		}
	}
	return stay, move
}

func (r *runner) hasAltfiles() (bool, error) {
	dirs := []string{"usr/lib", "usr/lib64"}
	entries, err := r.root.ReadDir("usr/lib")
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.IsDir() && strings.Contains(e.Name, "-linux-") {
			dirs = append(dirs, path.Join("usr/lib", e.Name))
		}
	}
	for _, d := range dirs {
		if ok, err := r.root.Exists(path.Join(d, altfiles)); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// nsswitch adds altfiles after files for passwd and group.
func (r *runner) nsswitch() error {
	name, err := follow(r.root, "usr/etc/nsswitch.conf")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	text, err := readOptional(r.root, name)
	if err != nil {
		return err
	}
	return r.replace(name, addAltfiles(text))
}

func addAltfiles(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		db, rest, ok := strings.Cut(line, ":")
		if db = strings.TrimSpace(db); ok && (db == "passwd" || db == "group") && !strings.Contains(rest, "altfiles") {
			line = strings.Replace(line, "files", "files altfiles", 1)
		}
		out.WriteString(line)
	}
	return out.String()
}

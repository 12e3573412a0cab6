// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
)

const maxExternalSize = 64 << 20

// Role says what an external file is for.
type Role string

// The roles.
const (
	RoleAddFile     Role = "add-files"
	RolePostprocess Role = "postprocess-script"
	RolePasswd      Role = "check-passwd"
	RoleGroup       Role = "check-groups"
	RoleFinalize    Role = "finalize.d"
)

// External is a file that the treefile refers to. Its digest is part of the
// canonical form, so that a change of the file is a change of the request.
type External struct {
	Role   Role   `json:"role"`
	Path   string `json:"path"` // inside the file system
	Digest string `json:"sha256"`
	Size   int64  `json:"size"`
	// Executable is the only permission bit that reaches the tree; others
	// depend on the umask of whoever checked the files out.
	Executable bool `json:"executable,omitempty"`
}

// ReadExternal returns the content of an external file, after checking that it
// is still what Load saw. Errors name the file.
func (m *Manifest) ReadExternal(e External) ([]byte, error) {
	data, _, err := readFile(m.fsys, e.Path, maxExternalSize)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", e.Role, err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != e.Digest {
		return nil, fmt.Errorf("read %s: %s changed while the tree was composed", e.Role, e.Path)
	}
	return data, nil
}

// External returns the external file of a role and path.
func (m *Manifest) External(role Role, path string) (External, bool) {
	i := slices.IndexFunc(m.Externals, func(e External) bool { return e.Role == role && e.Path == path })
	if i < 0 {
		return External{}, false
	}
	return m.Externals[i], true
}

func (d *decoder) externals(m *Manifest) error {
	if m.PostprocessScript != "" {
		if err := d.external(m, RolePostprocess, m.PostprocessScript, d.root.get("postprocess-script")); err != nil {
			return err
		}
	}
	if m.CheckPasswd.Type == CheckFile {
		if err := d.external(m, RolePasswd, m.CheckPasswd.Filename, d.root.get("check-passwd")); err != nil {
			return err
		}
	}
	if m.CheckGroups.Type == CheckFile {
		if err := d.external(m, RoleGroup, m.CheckGroups.Filename, d.root.get("check-groups")); err != nil {
			return err
		}
	}
	for i, f := range m.AddFiles {
		if err := d.external(m, RoleAddFile, f.Source, items(d.root.get("add-files"))[i]); err != nil {
			return err
		}
	}
	return d.finalizeHooks(m)
}

func (d *decoder) external(m *Manifest, role Role, name string, at *node) error {
	if _, ok := m.External(role, name); ok {
		return nil
	}
	data, perm, err := readFile(d.fsys, name, maxExternalSize)
	if err != nil {
		return &Error{File: at.file, Line: at.line, Key: string(role), Msg: "read external file", Err: err, id: at.id}
	}
	sum := sha256.Sum256(data)
	m.Externals = append(m.Externals, External{Role: role, Path: name, Digest: hex.EncodeToString(sum[:]), Size: int64(len(data)), Executable: perm&0o100 != 0})
	return nil
}

// finalizeHooks finds the programs of the folder finalize.d beside the treefile
// and beside each that it includes, in the order of their names. It is read in
// edition 2024 only. Source: rpm-ostree's treefile documentation, "associated
// directories".
func (d *decoder) finalizeHooks(m *Manifest) error {
	if m.Edition != "2024" {
		return nil
	}
	hooks := map[string]string{} // name -> path
	for _, file := range d.sources {
		dir := path.Join(path.Dir(file), "finalize.d")
		entries, err := fs.ReadDir(d.fsys, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return &Error{File: file, Key: "finalize.d", Msg: "read folder", Err: err}
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				return &Error{File: file, Key: "finalize.d", Msg: "read folder", Err: err}
			}
			name := path.Join(dir, e.Name())
			if !info.Mode().IsRegular() || info.Mode()&0o100 == 0 {
				continue
			}
			if have := hooks[e.Name()]; have != "" && have != name {
				return &Error{File: name, Key: "finalize.d", Msg: "has the name of " + have, Hint: "rename one of them"}
			}
			hooks[e.Name()] = name
		}
	}
	for _, k := range sortedKeys(hooks) {
		if err := d.external(m, RoleFinalize, hooks[k], d.root); err != nil {
			return err
		}
	}
	return nil
}

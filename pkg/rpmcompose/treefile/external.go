// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
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
	return nil
}

func (d *decoder) external(m *Manifest, role Role, name string, at *node) error {
	if _, ok := m.External(role, name); ok {
		return nil
	}
	data, perm, err := readFile(d.fsys, name, maxExternalSize)
	if err != nil {
		return &Error{File: at.file, Line: at.line, Key: string(role), Msg: "read external file", Err: err}
	}
	sum := sha256.Sum256(data)
	m.Externals = append(m.Externals, External{Role: role, Path: name, Digest: hex.EncodeToString(sum[:]), Size: int64(len(data)), Executable: perm&0o100 != 0})
	return nil
}

// findUnsupported collects keys that the composer cannot honour.
func (d *decoder) findUnsupported(m *Manifest) error {
	for _, k := range d.root.keys {
		f, ok := d.schema.lookup(k)
		if !ok || f.why == "" {
			continue
		}
		n := d.root.vals[k]
		if (n.kind == kindList || n.kind == kindMap) && len(n.list)+len(n.keys) == 0 {
			continue
		}
		if f.unless != "" && slices.Contains(strings.Fields(f.unless), scalarText(n)) {
			continue
		}
		m.unsupported = append(m.unsupported, Use{Key: k, File: n.file, Line: n.line, Why: f.why})
	}
	d.unsupportedChecks(m)
	if m.Edition == "2024" {
		d.finalizeHooks(m)
	}
	slices.SortFunc(m.unsupported, func(a, b Use) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key))
	})
	return nil
}

// unsupportedChecks refuses comparisons of ids with a list. That with the
// previous commit holds by itself, and nobody is ever removed, where the
// accounts of that commit are kept; without them it would be a promise.
func (d *decoder) unsupportedChecks(m *Manifest) {
	for key, c := range map[string]Check{"check-passwd": m.CheckPasswd, "check-groups": m.CheckGroups} {
		n := d.root.get(key)
		switch {
		case n == nil || c.Type == CheckNone || c.Type == CheckPrevious && m.PreservePasswd:
		case c.Type == CheckPrevious:
			m.unsupported = append(m.unsupported, Use{Key: key, File: n.file, Line: n.line,
				Why: `type = "previous" needs preserve-passwd = true`})
		default:
			m.unsupported = append(m.unsupported, Use{Key: key, File: n.file, Line: n.line,
				Why: `only the types "none" and "previous" are implemented by this composer`})
		}
	}
}

// finalizeHooks notices a finalize.d beside the treefile, whose programs would
// otherwise silently not run.
func (d *decoder) finalizeHooks(m *Manifest) {
	dir := path.Join(path.Dir(d.root.file), "finalize.d")
	entries, err := fs.ReadDir(d.fsys, dir)
	if err == nil && len(entries) > 0 {
		m.unsupported = append(m.unsupported, Use{Key: "finalize.d", File: dir, Why: notYet})
	}
}

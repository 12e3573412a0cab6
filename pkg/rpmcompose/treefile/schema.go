// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"fmt"
	"slices"
	"strings"
)

// shape is the type that a key's value must have.
type shape uint8

const (
	shapeString shape = iota
	shapeBool
	shapeInt
	shapeStringOrInt // releasever: 40, "40", rawhide
	shapeStrings
	shapeWords     // like shapeStrings, but white space inside an item separates
	shapeIncludes  // a string or a list of strings
	shapeMap       // free-form table
	shapeStringMap // table of strings
	shapeVars      // table of booleans, integers, strings
	shapeOther     // checked by its decoder
)

// merge is how a key of an including file meets the same key of an included one.
type merge uint8

const (
	mergeFirst  merge = iota // the including file wins
	mergeAppend              // the included file's items come first
	mergeKeys                // per key, the including file wins
	mergeLists               // per key, the lists below it are appended
	mergeNone                // consumed while including
)

// field describes one key.
type field struct {
	name  string
	shape shape
	merge merge
	enum  []string
}

// fields is the table of all keys. A function, not a variable, so that nobody
// can change it.
func fields() []field {
	return []field{
		{name: "edition", shape: shapeStringOrInt, enum: []string{"2014", "2024"}},
		{name: "ref", shape: shapeString},
		{name: "metadata", shape: shapeMap, merge: mergeKeys},
		{name: "gpg-key", shape: shapeString},
		{name: "basearch", shape: shapeString},
		{name: "releasever", shape: shapeStringOrInt},
		{name: "variables", shape: shapeVars, merge: mergeNone},
		{name: "repovars", shape: shapeStringMap, merge: mergeKeys},
		// Like metadata a description that nothing acts upon.
		{name: "rojig", shape: shapeMap},
		{name: "repos", shape: shapeStrings, merge: mergeAppend},
		{name: "lockfile-repos", shape: shapeStrings, merge: mergeAppend},
		{name: "packages", shape: shapeWords, merge: mergeAppend},
		{name: "bootstrap_packages", shape: shapeWords, merge: mergeAppend},
		{name: "repo-packages", shape: shapeOther, merge: mergeAppend},
		{name: "exclude-packages", shape: shapeWords, merge: mergeAppend},
		{name: "groups", shape: shapeStrings, merge: mergeAppend},
		{name: "modules", shape: shapeMap, merge: mergeLists},
		{name: "ostree-layers", shape: shapeStrings, merge: mergeAppend},
		{name: "ostree-override-layers", shape: shapeStrings, merge: mergeAppend},
		{name: "include", shape: shapeIncludes, merge: mergeNone},
		{name: "arch-include", shape: shapeOther, merge: mergeNone},
		{name: "conditional-include", shape: shapeOther, merge: mergeNone},
		{name: "selinux", shape: shapeBool},
		{name: "selinux-label-version", shape: shapeInt, enum: []string{"0", "1"}},
		{name: "ignore-devices", shape: shapeBool},
		{name: "ima", shape: shapeBool},
		{name: "recommends", shape: shapeBool},
		{name: "documentation", shape: shapeBool},
		{name: "install-langs", shape: shapeStrings, merge: mergeAppend},
		{name: "sysusers", shape: shapeString, enum: []string{string(SysusersAuto), string(SysusersForced)}},
		{name: "initramfs-args", shape: shapeStrings, merge: mergeAppend},
		{name: "no-initramfs", shape: shapeBool},
		{name: "readonly-executables", shape: shapeBool},
		{name: "boot-location", shape: shapeString, enum: []string{string(BootNew), string(BootModules), string(BootKernelInstall)}},
		{name: "tmp-is-dir", shape: shapeBool},
		{name: "machineid-compat", shape: shapeBool},
		{name: "opt-usrlocal", shape: shapeString, enum: []string{string(OptVar), string(OptRoot), string(OptStateOverlay)}},
		{name: "units", shape: shapeStrings, merge: mergeAppend},
		{name: "default-target", shape: shapeString},
		{name: "automatic-version-prefix", shape: shapeString},
		{name: "automatic-version-suffix", shape: shapeString},
		{name: "mutate-os-release", shape: shapeString},
		{name: "etc-group-members", shape: shapeStrings, merge: mergeAppend},
		{name: "preserve-passwd", shape: shapeBool},
		{name: "check-passwd", shape: shapeOther},
		{name: "check-groups", shape: shapeOther},
		{name: "ignore-removed-users", shape: shapeStrings, merge: mergeAppend},
		{name: "ignore-removed-groups", shape: shapeStrings, merge: mergeAppend},
		{name: "postprocess-script", shape: shapeString},
		{name: "postprocess", shape: shapeStrings, merge: mergeAppend},
		{name: "add-files", shape: shapeOther, merge: mergeAppend},
		{name: "remove-files", shape: shapeStrings, merge: mergeAppend},
		{name: "remove-from-packages", shape: shapeOther, merge: mergeAppend},
		{name: "add-commit-metadata", shape: shapeMap, merge: mergeKeys},
		{name: "repo-metadata", shape: shapeString, enum: metadataTargets()},
		{name: "advisories-metadata", shape: shapeString, enum: metadataTargets()},
		// rpm-ostree treats the names of formats as "target" today; what rpm of the tree reads is sqlite.
		{name: "rpmdb", shape: shapeString, enum: []string{"sqlite", "target", "host", "bdb", "ndb", "b-d-b"}},
		// The database is always the same for the same packages.
		{name: "rpmdb-normalize", shape: shapeBool},
		{name: "container", shape: shapeBool},
		{name: "container-cmd", shape: shapeStrings},
		{name: "platform-module", shape: shapeString},
		{name: "cliwrap", shape: shapeBool},
		{name: "cliwrap-binaries", shape: shapeStrings, merge: mergeAppend},
		{name: "ex-override-replace", shape: shapeOther, merge: mergeAppend},
	}
}

func metadataTargets() []string {
	return []string{string(MetadataInline), string(MetadataDetached), string(MetadataDisabled)}
}

// legacy maps spellings of old treefiles to the key of today.
func legacy() map[string]string {
	return map[string]string{
		"gpg_key":                  "gpg-key",
		"boot_location":            "boot-location",
		"default_target":           "default-target",
		"automatic_version_prefix": "automatic-version-prefix",
	}
}

// hostKeys belong to the treefile that a host keeps for itself.
func hostKeys() []string {
	return []string{"base-refspec", "container-image-reference", "packages-local", "packages-local-fileoverride",
		"override-remove", "override-replace-local", "initramfs", "custom", "override-commit", "unconfigured-state"}
}

// schema is the key table prepared for look-ups.
type schema struct {
	order  []field
	byName map[string]field
	legacy map[string]string
	host   []string
}

func newSchema() *schema {
	s := &schema{order: fields(), byName: map[string]field{}, legacy: legacy(), host: hostKeys()}
	for _, f := range s.order {
		s.byName[f.name] = f
	}
	return s
}

// check validates every key of one file and renames legacy spellings.
func (s *schema) check(n *node, nested bool) error {
	for _, key := range slices.Clone(n.keys) {
		v := n.vals[key]
		if now, ok := s.legacy[key]; ok {
			if n.vals[now] != nil {
				return v.errorf(key, "contradicts %q in the same file: it is the old spelling of the same key", now)
			}
			n.rename(key, now)
			key = now
		}
		f, ok := s.lookup(key)
		if !ok {
			return s.unknown(key, v)
		}
		if nested && f.merge == mergeNone {
			return v.errorf(key, "is not possible in an inline treefile")
		}
		if v.kind == kindNull {
			n.drop(key)
			continue
		}
		if err := f.check(key, v); err != nil {
			return err
		}
	}
	return nil
}

func (s *schema) lookup(key string) (field, bool) {
	if f, ok := s.byName[key]; ok {
		return f, true
	}
	arch, ok := strings.CutPrefix(key, "packages-")
	if !ok || slices.Contains(s.host, key) || !isWord(arch) {
		return field{}, false
	}
	return field{name: key, shape: shapeWords, merge: mergeAppend}, true
}

func (s *schema) unknown(key string, v *node) error {
	if slices.Contains(s.host, key) {
		return v.errorf(key, "belongs to a host's own treefile, not to a tree's")
	}
	e := v.errorf(key, "unknown key")
	names := make([]string, 0, len(s.order))
	for _, f := range s.order {
		names = append(names, f.name)
	}
	if near := nearest(key, names); near != "" {
		e.Hint = fmt.Sprintf("did you mean %q?", near)
	}
	return e
}

func (f field) check(key string, v *node) error {
	switch f.shape {
	case shapeString:
		return f.checkScalar(key, v, kindString)
	case shapeBool:
		return f.checkScalar(key, v, kindBool)
	case shapeInt:
		return f.checkScalar(key, v, kindInt)
	case shapeStringOrInt:
		return f.checkScalar(key, v, kindString, kindInt)
	case shapeStrings, shapeWords:
		if v.kind != kindList {
			return v.errorf(key, "must be a list of strings, not %s", v.kind)
		}
		return checkItems(key, v)
	case shapeIncludes:
		if v.kind == kindString {
			return nil
		}
		if v.kind != kindList {
			return v.errorf(key, "must be a string or a list of strings, not %s", v.kind)
		}
		return checkItems(key, v)
	case shapeMap:
		if v.kind != kindMap {
			return v.errorf(key, "must be a table, not %s", v.kind)
		}
	case shapeStringMap:
		return checkTable(key, v, "a string", kindString)
	case shapeVars:
		return checkTable(key, v, "a boolean, an integer or a string", kindBool, kindInt, kindString)
	}
	return nil
}

func (f field) checkScalar(key string, v *node, kinds ...kind) error {
	if !slices.Contains(kinds, v.kind) {
		e := v.errorf(key, "must be %s, not %s", kinds[0], v.kind)
		if v.kind == kindFloat && kinds[0] == kindString {
			e.Hint = "put it in quotes, so that 9.10 stays 9.10"
		}
		return e
	}
	if v.kind == kindString && strings.ContainsRune(v.str, 0) {
		return v.errorf(key, "contains a NUL byte")
	}
	if len(f.enum) == 0 {
		return nil
	}
	got := scalarText(v)
	if slices.Contains(f.enum, got) {
		return nil
	}
	e := v.errorf(key, "unknown value %q, expected one of %s", got, strings.Join(f.enum, ", "))
	if near := nearest(got, f.enum); near != "" {
		e.Hint = fmt.Sprintf("did you mean %q?", near)
	}
	return e
}

func checkItems(key string, v *node) error {
	for _, c := range v.list {
		if c.kind != kindString {
			return c.errorf(key, "every item must be a string, not %s", c.kind)
		}
		if c.str == "" {
			return c.errorf(key, "an item is empty")
		}
		if strings.ContainsRune(c.str, 0) {
			return c.errorf(key, "contains a NUL byte")
		}
	}
	return nil
}

func checkTable(key string, v *node, want string, kinds ...kind) error {
	if v.kind != kindMap {
		return v.errorf(key, "must be a table, not %s", v.kind)
	}
	for _, k := range v.keys {
		c := v.vals[k]
		if slices.Contains(kinds, c.kind) {
			continue
		}
		e := c.errorf(key+"."+k, "must be %s, not %s", want, c.kind)
		if strings.HasSuffix(strings.ToLower(c.file), ".toml") && slices.ContainsFunc(fields(), func(f field) bool { return f.name == k }) {
			e.Hint = fmt.Sprintf("in TOML every key after [%s] belongs to that table: move %q above it", key, k)
		}
		return e
	}
	return nil
}

func scalarText(v *node) string {
	switch v.kind {
	case kindInt:
		return fmt.Sprint(v.num)
	case kindBool:
		return fmt.Sprint(v.flag)
	}
	return v.str
}

// isWord reports whether s consists of letters, digits and underscores only.
func isWord(s string) bool {
	for _, c := range []byte(s) {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != ""
}

// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"fmt"
	"io/fs"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
)

// decoder reads the merged and expanded tree into a Manifest.
type decoder struct {
	root   *node
	fsys   fs.FS
	schema *schema
	arch   string
	// sources are the files read, the root first.
	sources []string
}

func (d *decoder) manifest() (*Manifest, error) {
	m := &Manifest{Basearch: d.arch, fsys: d.fsys}
	steps := []func(*Manifest) error{d.defaults, d.scalars, d.lists, d.packages, d.checks, d.files, d.consistent, d.externals, d.flatten}
	for _, step := range steps {
		if err := step(m); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (d *decoder) defaults(m *Manifest) error {
	m.Edition = "2014"
	if n := d.root.get("edition"); n != nil {
		m.Edition = scalarText(n)
	}
	m.Recommends, m.Documentation, m.SELinux, m.IgnoreDevices = true, true, true, true
	m.MachineidCompat, m.PreservePasswd = true, true
	m.OptUsrlocal = OptVar
	m.RepoMetadata, m.AdvisoriesMetadata = MetadataInline, MetadataInline
	m.BootLocation = BootNew
	if m.Edition == "2024" {
		m.BootLocation, m.TmpIsDir = BootModules, true
	}
	m.CheckPasswd, m.CheckGroups = Check{Type: CheckPrevious}, Check{Type: CheckPrevious}
	d.flag("container", &m.Container)
	if m.Container {
		m.TmpIsDir, m.PreservePasswd, m.SELinux = true, false, false
		m.CheckPasswd, m.CheckGroups = Check{Type: CheckNone}, Check{Type: CheckNone}
	}
	return nil
}

func (d *decoder) flag(key string, to *bool) {
	if n := d.root.get(key); n != nil {
		*to = n.flag
	}
}

func text[T ~string](d *decoder, key string, to *T) {
	if n := d.root.get(key); n != nil {
		*to = T(scalarText(n))
	}
}

func (d *decoder) scalars(m *Manifest) error {
	for key, to := range map[string]*bool{
		"recommends": &m.Recommends, "documentation": &m.Documentation, "no-initramfs": &m.NoInitramfs,
		"tmp-is-dir": &m.TmpIsDir, "machineid-compat": &m.MachineidCompat, "readonly-executables": &m.ReadonlyExecutables,
		"selinux": &m.SELinux, "ignore-devices": &m.IgnoreDevices, "ima": &m.IMA, "preserve-passwd": &m.PreservePasswd,
		"cliwrap": &m.Cliwrap,
	} {
		d.flag(key, to)
	}
	text(d, "ref", &m.Ref)
	text(d, "releasever", &m.Releasever)
	text(d, "gpg-key", &m.GPGKey)
	text(d, "automatic-version-prefix", &m.AutomaticVersionPrefix)
	text(d, "automatic-version-suffix", &m.AutomaticVersionSuffix)
	text(d, "mutate-os-release", &m.MutateOSRelease)
	text(d, "default-target", &m.DefaultTarget)
	text(d, "postprocess-script", &m.PostprocessScript)
	text(d, "boot-location", &m.BootLocation)
	text(d, "opt-usrlocal", &m.OptUsrlocal)
	text(d, "platform-module", &m.PlatformModule)
	text(d, "sysusers", &m.Sysusers)
	text(d, "repo-metadata", &m.RepoMetadata)
	text(d, "advisories-metadata", &m.AdvisoriesMetadata)
	if n := d.root.get("selinux-label-version"); n != nil {
		m.SELinuxLabelVersion = int(n.num)
	}
	m.Metadata = d.object("metadata")
	m.AddCommitMetadata = d.object("add-commit-metadata")
	return d.repovars(m)
}

func (d *decoder) object(key string) map[string]any {
	if n := d.root.get(key); n != nil && len(n.keys) > 0 {
		return n.plain().(map[string]any)
	}
	return nil
}

func (d *decoder) repovars(m *Manifest) error {
	n := d.root.get("repovars")
	if n == nil {
		return nil
	}
	m.Repovars = map[string]string{}
	for _, k := range n.keys {
		if k == "basearch" || k == "releasever" {
			return n.vals[k].errorf("repovars."+k, "is filled in by itself: use the key %q of the top level", k)
		}
		m.Repovars[k] = n.vals[k].str
	}
	return nil
}

func (d *decoder) lists(m *Manifest) error {
	for key, to := range map[string]*[]string{
		"repos": &m.Repos, "lockfile-repos": &m.LockfileRepos, "install-langs": &m.InstallLangs,
		"initramfs-args": &m.InitramfsArgs, "units": &m.Units, "postprocess": &m.Postprocess,
		"container-cmd": &m.ContainerCmd, "ostree-layers": &m.OstreeLayers,
		"ostree-override-layers": &m.OstreeOverrideLayers, "groups": &m.Groups, "cliwrap-binaries": &m.CliwrapBinaries,
	} {
		*to = d.root.get(key).strings()
	}
	for key, to := range map[string]*[]string{
		"etc-group-members": &m.EtcGroupMembers, "ignore-removed-users": &m.IgnoreRemovedUsers,
		"ignore-removed-groups": &m.IgnoreRemovedGroups,
	} {
		*to = sortedSet(d.root.get(key).strings())
	}
	// A repository named twice is the same repository; the first place counts.
	m.Repos, m.LockfileRepos, m.Groups = unique(m.Repos), unique(m.LockfileRepos), unique(m.Groups)
	return nil
}

func (d *decoder) checks(m *Manifest) error {
	if err := d.idCheck("check-passwd", &m.CheckPasswd, true); err != nil {
		return err
	}
	if err := d.idCheck("check-groups", &m.CheckGroups, false); err != nil {
		return err
	}
	// The tree would start with the users of one place and the groups of another.
	if m.PreservePasswd && (m.CheckPasswd.Type == CheckFile) != (m.CheckGroups.Type == CheckFile) {
		key := "check-passwd"
		if m.CheckPasswd.Type != CheckFile {
			key = "check-groups"
		}
		e := d.root.get(key).errorf(key, "is of type \"file\", but only one of check-passwd and check-groups is")
		e.Hint = "give both a file, or write preserve-passwd = false"
		return e
	}
	return nil
}

func (d *decoder) idCheck(key string, to *Check, pairs bool) error {
	n := d.root.get(key)
	if n == nil {
		return nil
	}
	if err := checkKeys(key, n, []string{"type"}, []string{"filename", "entries"}); err != nil {
		return err
	}
	typ := field{shape: shapeString, enum: []string{string(CheckNone), string(CheckPrevious), string(CheckFile), string(CheckData)}}
	if err := typ.check(key+".type", n.get("type")); err != nil {
		return err
	}
	*to = Check{Type: CheckType(n.get("type").str)}
	file, entries := n.get("filename"), n.get("entries")
	if (to.Type == CheckFile) != (file != nil) {
		return n.errorf(key, "type = \"file\" and the key filename go together")
	}
	if (to.Type == CheckData) != (entries != nil) {
		return n.errorf(key, "type = \"data\" and the key entries go together")
	}
	if file != nil {
		if file.kind != kindString {
			return file.errorf(key+".filename", "must be a string, not %s", file.kind)
		}
		to.Filename = file.str
	}
	if entries == nil {
		return nil
	}
	if entries.kind != kindMap {
		return entries.errorf(key+".entries", "must be a table from name to id, not %s", entries.kind)
	}
	to.Entries = map[string]IDs{}
	for _, k := range entries.keys {
		ids, err := idsOf(key+".entries."+k, entries.vals[k], pairs)
		if err != nil {
			return err
		}
		to.Entries[k] = ids
	}
	return nil
}

func idsOf(key string, n *node, pairs bool) (IDs, error) {
	list := items(n)
	if len(list) == 0 || len(list) > 2 || (len(list) == 2 && !pairs) {
		return IDs{}, n.errorf(key, "must be an id, or for a user a list of user id and group id")
	}
	var ids [2]uint32
	for i, c := range list {
		if c.kind != kindInt || c.num < 0 || c.num > math.MaxUint32-1 {
			return IDs{}, c.errorf(key, "is not an id")
		}
		ids[i] = uint32(c.num)
	}
	if len(list) == 1 {
		ids[1] = ids[0]
	}
	return IDs{UID: ids[0], GID: ids[1]}, nil
}

func (d *decoder) files(m *Manifest) error {
	for _, pair := range items(d.root.get("add-files")) {
		if pair.kind != kindList || len(pair.list) != 2 {
			return pair.errorf("add-files", "every item must be a list of source and destination")
		}
		if err := checkItems("add-files", pair); err != nil {
			return err
		}
		dest := path.Clean("/" + pair.list[1].str)[1:]
		if !addable(dest) || strings.HasSuffix(pair.list[1].str, "/") {
			return pair.errorf("add-files", "destination %q is not a file below /usr (but not /usr/local) or /etc", pair.list[1].str)
		}
		m.AddFiles = append(m.AddFiles, AddFile{Source: pair.list[0].str, Dest: dest})
	}
	for _, c := range items(d.root.get("remove-files")) {
		p := path.Clean("/" + c.str)[1:]
		if p == "" {
			return c.errorf("remove-files", "%q is the whole tree", c.str)
		}
		m.RemoveFiles = append(m.RemoveFiles, p)
	}
	for _, c := range items(d.root.get("remove-from-packages")) {
		if c.kind != kindList || len(c.list) < 2 {
			return c.errorf("remove-from-packages", "every item must be a list of a package and one or more expressions")
		}
		if err := checkItems("remove-from-packages", c); err != nil {
			return err
		}
		all := c.strings()
		for _, p := range all[1:] {
			if _, err := regexp.Compile(p); err != nil {
				return c.errorf("remove-from-packages", "expression %q: %v", p, err)
			}
		}
		m.RemoveFromPackages = append(m.RemoveFromPackages, RemoveFrom{Package: all[0], Patterns: all[1:]})
	}
	return nil
}

func addable(dest string) bool {
	if strings.HasPrefix(dest, "usr/local/") {
		return false
	}
	for _, p := range []string{"usr/", "etc/", "bin/", "sbin/", "lib/", "lib64/"} {
		if strings.HasPrefix(dest, p) {
			return true
		}
	}
	return false
}

// consistent refuses keys that contradict each other or cannot mean anything.
func (d *decoder) consistent(m *Manifest) error {
	for _, s := range m.ExcludePackages {
		if slices.Contains(m.Packages, s) {
			return d.root.get("exclude-packages").errorf("exclude-packages", "%q is in packages, too", s)
		}
	}
	if n := d.root.get("initramfs-args"); n != nil && m.NoInitramfs && len(n.list) > 0 {
		return n.errorf("initramfs-args", "contradicts no-initramfs")
	}
	for _, c := range items(d.root.get("cliwrap-binaries")) {
		if c.str != "kernel-install" {
			e := c.errorf("cliwrap-binaries", "%q cannot be wrapped", c.str)
			e.Hint = "only kernel-install can"
			return e
		}
	}
	if n := d.root.get("automatic-version-suffix"); n != nil {
		if len(n.str) != 1 || n.str[0] <= ' ' || n.str[0] > '~' {
			return n.errorf("automatic-version-suffix", "must be one ASCII character")
		}
		if m.AutomaticVersionPrefix == "" {
			return n.errorf("automatic-version-suffix", "needs automatic-version-prefix")
		}
	}
	if n := d.root.get("ref"); n != nil && !validRef(n.str) {
		return n.errorf("ref", "%q is not a branch name", n.str)
	}
	if n := d.root.get("default-target"); n != nil && !unitName(n.str, ".target") {
		return n.errorf("default-target", "%q is not the name of a target", n.str)
	}
	for _, c := range items(d.root.get("units")) {
		if !unitName(c.str, "") {
			return c.errorf("units", "%q is not the name of a unit", c.str)
		}
	}
	return nil
}

// validRef accepts words of letters, digits, ".", "_" and "-", joined by "/".
func validRef(s string) bool {
	for _, part := range strings.Split(s, "/") {
		if part == "" || part == "." || part == ".." || strings.HasPrefix(part, "-") {
			return false
		}
		if strings.ContainsFunc(part, func(c rune) bool { return c > 127 || !isWord(string(c)) && c != '.' && c != '-' }) {
			return false
		}
	}
	return true
}

func unitName(s, suffix string) bool {
	return strings.HasSuffix(s, suffix) && strings.LastIndexByte(s, '.') > 0 && !strings.ContainsAny(s, "/ \t\n")
}

// checkKeys demands a table with exactly the required and optional keys.
func checkKeys(key string, n *node, required, optional []string) error {
	if n.kind != kindMap {
		return n.errorf(key, "must be a table with the keys %s, not %s", strings.Join(required, " and "), n.kind)
	}
	all := append(slices.Clone(required), optional...)
	for _, k := range n.keys {
		if slices.Contains(all, k) {
			continue
		}
		e := n.vals[k].errorf(key+"."+k, "unknown key")
		if near := nearest(k, all); near != "" {
			e.Hint = fmt.Sprintf("did you mean %q?", near)
		}
		return e
	}
	for _, k := range required {
		if n.vals[k] == nil || n.vals[k].kind == kindNull {
			return n.errorf(key, "lacks the key %q", k)
		}
	}
	return nil
}

func sortedSet(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/tests/testdistro/internal/debian"
	"github.com/hostctl/hostctl/tests/testdistro/internal/rpmspec"
)

// converted is a package ready for rpmbuild.
type converted struct {
	spec rpmspec.Spec
	kver string // kernel release, for a kernel package
}

// convert maps control data, files and recipe of a package to a spec. p is the
// package as selected; u is what was unpacked, which for an absorbed package is
// another .deb.
func convert(p *debian.Package, u *unpacked, r Recipe, drop map[string]bool, root string) (*converted, error) {
	evr := rpmspec.FromDebian(p.Version)
	c := &converted{spec: rpmspec.Spec{
		Name: p.Name, Source: p.Source, EVR: evr, Arch: rpmArch(p.Arch),
		License: "see copyright file", Group: p.Section, URL: p.Homepage, Files: u.files,
	}}
	s := &c.spec
	s.Summary, s.Description = description(p, u)
	tags, err := relations(p, u, r, drop, evr)
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", p.Name, err)
	}
	s.Tags = tags
	if r.Absorb != "" {
		if err := c.absorb(p, root); err != nil {
			return nil, fmt.Errorf("convert %s: %w", p.Name, err)
		}
	}
	for _, u := range u.unmerged {
		s.Tags = append(s.Tags, rpmspec.Tag{Name: "Provides", Value: u})
	}
	s.Tags = append(s.Tags, ownerTags(u.files, r.Tags)...)
	s.Tags = append(s.Tags, r.Tags...)
	if r.NoScan {
		s.Tags = append(s.Tags, rpmspec.Tag{Name: "AutoReqProv", Value: "no"})
	}
	for _, sc := range r.Scriptlets {
		sc.Body = strings.ReplaceAll(sc.Body, "@KVER@", c.kver)
		s.Scriptlets = append(s.Scriptlets, sc)
	}
	s.Scriptlets = append(s.Scriptlets, unitScriptlets(u.files, r, root)...)
	changes, err := readChangelog(root, u, p)
	if err != nil {
		return nil, err
	}
	s.Changes = changes
	return c, nil
}

func rpmArch(deb string) string {
	if deb == "all" {
		return "noarch"
	}
	return "x86_64"
}

func description(p *debian.Package, u *unpacked) (summary, text string) {
	lines := strings.Split(u.control["Description"], "\n")
	summary = lines[0]
	if summary == "" {
		summary = p.Name
	}
	for i, l := range lines {
		if l == "." {
			lines[i] = ""
		}
	}
	text = strings.Join(lines[1:], "\n")
	if strings.TrimSpace(text) == "" {
		text = summary
	}
	return summary, text
}

// relations maps the fields of the package that was unpacked.
func relations(p *debian.Package, u *unpacked, r Recipe, drop map[string]bool, evr rpmspec.EVR) ([]rpmspec.Tag, error) {
	skip := set(r.DropRequires...)
	var absorbed *regexp.Regexp
	if r.Absorb != "" {
		absorbed = regexp.MustCompile(r.Absorb)
	}
	dropAtom := func(a debian.Atom) bool {
		return drop[a.Name] || skip[a.Name] || (absorbed != nil && absorbed.MatchString(a.Name))
	}
	keepAll := func(debian.Atom) bool { return false }
	field := func(name string) string { return u.control[name] }

	var tags []rpmspec.Tag
	add := func(tag string, values []string, err error) error {
		for _, v := range values {
			tags = append(tags, rpmspec.Tag{Name: tag, Value: v})
		}
		return err
	}
	for _, m := range [][2]string{
		{"Depends", "Requires"}, {"Pre-Depends", "Requires(pre)"}, {"Recommends", "Recommends"},
		{"Suggests", "Suggests"}, {"Enhances", "Enhances"},
	} {
		values, err := hardOrSoft(m[0], field(m[0]), dropAtom)
		if err := add(m[1], values, err); err != nil {
			return nil, err
		}
	}
	provides, err := rpmspec.Provides(field("Provides"), evr)
	if err := add("Provides", provides, err); err != nil {
		return nil, err
	}
	own := map[string]bool{p.Name: true}
	for _, v := range provides {
		own[rpmspec.Name(v)] = true
	}
	conflicts := map[string]bool{}
	for _, name := range []string{"Conflicts", "Breaks"} {
		values, err := rpmspec.Relations(field(name), keepAll)
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			if name == "Conflicts" {
				conflicts[rpmspec.Name(v)] = true
			}
			// Conflicting with a name one provides oneself means "only one
			// provider" to dpkg and "not installable" to RPM.
			if !own[rpmspec.Name(v)] {
				tags = append(tags, rpmspec.Tag{Name: "Conflicts", Value: v})
			}
		}
	}
	replaces, err := rpmspec.Relations(field("Replaces"), keepAll)
	if err != nil {
		return nil, err
	}
	for _, v := range replaces {
		n := rpmspec.Name(v)
		if n != p.Name && own[n] && conflicts[n] {
			tags = append(tags, rpmspec.Tag{Name: "Obsoletes", Value: v})
		}
	}
	return tags, nil
}

// hardOrSoft drops relations on packages we leave out only where they would be
// required: a weak relation on something absent does no harm.
func hardOrSoft(field, value string, drop func(debian.Atom) bool) ([]string, error) {
	if field == "Depends" || field == "Pre-Depends" {
		return rpmspec.Relations(value, drop)
	}
	return rpmspec.Relations(value, func(debian.Atom) bool { return false })
}

// absorb turns the package into a kernel as RPM distributions know it.
func (c *converted) absorb(p *debian.Package, root string) error {
	entries, err := os.ReadDir(filepath.Join(root, "usr/lib/modules"))
	if err != nil || len(entries) != 1 {
		return fmt.Errorf("want one directory in usr/lib/modules, have %d (%v)", len(entries), err)
	}
	c.kver = entries[0].Name()
	v := c.spec.EVR.String()
	for _, name := range []string{
		"kernel", "kernel-core", "kernel-modules", "kernel-uname-r", "linux-image-" + c.kver,
	} {
		version := v
		if name == "kernel-uname-r" {
			version = c.kver
		}
		c.spec.Tags = append(c.spec.Tags, rpmspec.Tag{Name: "Provides", Value: name + " = " + hyphenSafe(name, version)})
	}
	c.spec.Tags = append(c.spec.Tags,
		rpmspec.Tag{Name: "Provides", Value: "installonlypkg(kernel)"},
		rpmspec.Tag{Name: "Requires(pre)", Value: "filesystem"})
	return nil
}

// hyphenSafe: a kernel release may hold two hyphens, an RPM version one.
func hyphenSafe(name, v string) string {
	if name != "kernel-uname-r" {
		return v
	}
	return strings.ReplaceAll(v, "-", "_")
}

// ownerTags requires the users and groups that files belong to: rpm resolves
// names while it unpacks. What a package creates itself it provides.
func ownerTags(files []rpmspec.File, own []rpmspec.Tag) []rpmspec.Tag {
	provided := map[string]bool{}
	for _, t := range own {
		if t.Name == "Provides" {
			provided[t.Value] = true
		}
	}
	need := map[string]bool{}
	for _, f := range files {
		for _, n := range []string{"user(" + f.User + ")", "group(" + f.Group + ")"} {
			if !strings.HasSuffix(n, "(root)") && !provided[n] {
				need[n] = true
			}
		}
	}
	var tags []rpmspec.Tag
	for n := range need {
		tags = append(tags, rpmspec.Tag{Name: "Requires(pre)", Value: n})
	}
	slices.SortFunc(tags, func(a, b rpmspec.Tag) int { return strings.Compare(a.Value, b.Value) })
	return tags
}

var unitFile = regexp.MustCompile(`^/usr/lib/systemd/system/[^/]+\.(service|socket|timer|path|target)$`)

// unitScriptlets apply the preset policy to units that can be enabled.
func unitScriptlets(files []rpmspec.File, r Recipe, root string) []rpmspec.Scriptlet {
	var units []string
	for _, f := range files {
		if f.Kind != rpmspec.Regular || !unitFile.MatchString(f.Path) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, f.Path))
		if err == nil && strings.Contains(string(data), "[Install]") {
			units = append(units, path.Base(f.Path))
		}
	}
	for _, sc := range r.Scriptlets {
		if sc.Kind == "%post" {
			return nil // the recipe takes care
		}
	}
	if len(units) == 0 {
		return nil
	}
	list := strings.Join(units, " ")
	// systemd's own %post runs preset-all, for what came before it.
	return []rpmspec.Scriptlet{
		{Kind: "%post", Body: "if [ $1 -eq 1 ] && [ -x /usr/bin/systemctl ]; then\n  systemctl --no-reload preset " + list + " >/dev/null 2>&1 || :\nfi\n"},
		{Kind: "%preun", Body: "if [ $1 -eq 0 ] && [ -x /usr/bin/systemctl ]; then\n  systemctl --no-reload disable --now " + list + " >/dev/null 2>&1 || :\nfi\n"},
	}
}

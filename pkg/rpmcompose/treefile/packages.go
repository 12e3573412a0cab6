// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"slices"
	"strings"
)

func (d *decoder) packages(m *Manifest) error {
	for _, key := range []string{"packages", "bootstrap_packages"} {
		specs, err := words(key, d.root.get(key))
		if err != nil {
			return err
		}
		m.Packages = append(m.Packages, texts(specs)...)
	}
	m.Packages = sortedSet(m.Packages)
	specs, err := words("exclude-packages", d.root.get("exclude-packages"))
	if err != nil {
		return err
	}
	m.ExcludePackages = sortedSet(texts(specs))
	if m.RepoPackages, err = d.repoPackages("repo-packages"); err != nil {
		return err
	}
	if m.OverrideReplace, err = d.repoPackages("ex-override-replace"); err != nil {
		return err
	}
	return d.modules(m)
}

func (d *decoder) modules(m *Manifest) error {
	n := d.root.get("modules")
	if n == nil {
		return nil
	}
	if err := checkKeys("modules", n, nil, []string{"enable", "install"}); err != nil {
		return err
	}
	for key, to := range map[string]*[]string{"enable": &m.Modules.Enable, "install": &m.Modules.Install} {
		c := n.get(key)
		if c == nil {
			continue
		}
		if err := (field{shape: shapeStrings}).check("modules."+key, c); err != nil {
			return err
		}
		for _, item := range c.list {
			name, profile, ok := strings.Cut(item.str, "/")
			if name == "" || strings.HasPrefix(name, ":") || strings.ContainsAny(item.str, " \t") || (ok && (profile == "" || key == "enable")) {
				return item.errorf("modules."+key, "%q is not the name of a module stream", item.str)
			}
		}
		*to = unique(c.strings())
	}
	return nil
}

func texts(list []*node) []string {
	var out []string
	for _, n := range list {
		out = append(out, n.str)
	}
	return out
}

func (d *decoder) repoPackages(key string) ([]RepoPackages, error) {
	list, err := effectiveRepoPackages(key, d.root.get(key))
	if err != nil {
		return nil, err
	}
	var out []RepoPackages
	for _, e := range list {
		out = append(out, RepoPackages{Repo: e.repo.str, Packages: texts(e.specs)})
	}
	return out, nil
}

// repoEntry is one item of repo-packages or ex-override-replace.
type repoEntry struct {
	at, repo *node
	specs    []*node
}

// effectiveRepoPackages keeps each package only in the last entry that names
// it: entries of including files come after those of included ones.
func effectiveRepoPackages(key string, n *node) ([]repoEntry, error) {
	if n == nil {
		return nil, nil
	}
	first := "repo"
	if key == "ex-override-replace" {
		first = "from"
	}
	if n.kind != kindList {
		return nil, n.errorf(key, "must be a list of tables with the keys %s and packages, not %s", first, n.kind)
	}
	seen := map[string]bool{}
	var out []repoEntry
	for _, c := range slices.Backward(n.list) {
		if err := checkKeys(key, c, []string{first, "packages"}, nil); err != nil {
			return nil, err
		}
		repo, list := c.get(first), c.get("packages")
		if first == "from" {
			if err := checkKeys(key+".from", repo, []string{"repo"}, nil); err != nil {
				return nil, err
			}
			repo = repo.get("repo")
		}
		if repo.kind != kindString || repo.str == "" {
			return nil, repo.errorf(key+".repo", "must be a string, not %s", repo.kind)
		}
		if err := (field{shape: shapeWords}).check(key+".packages", list); err != nil {
			return nil, err
		}
		specs, err := words(key+".packages", list)
		if err != nil {
			return nil, err
		}
		e := repoEntry{at: c, repo: repo}
		for _, s := range sortedNodes(specs) {
			if !seen[s.str] {
				e.specs, seen[s.str] = append(e.specs, s), true
			}
		}
		if len(e.specs) > 0 {
			out = append(out, e)
		}
	}
	slices.Reverse(out)
	return out, nil
}

// words splits the items of a list at white space; single quotes keep it.
func words(key string, n *node) ([]*node, error) {
	var out []*node
	for _, item := range items(n) {
		parts := strings.Split(item.str, "'")
		if len(parts)%2 == 0 {
			return nil, item.errorf(key, "a single quote is not closed in %q", item.str)
		}
		for i, p := range parts {
			if i%2 == 1 {
				if p != "" {
					out = append(out, item.withText(p))
				}
				continue
			}
			for _, w := range strings.Fields(p) {
				out = append(out, item.withText(w))
			}
		}
	}
	return out, nil
}

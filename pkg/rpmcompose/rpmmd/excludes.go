// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"fmt"
	"path"
	"strings"
)

// Excluded says why the repository's own definition leaves a package out: excludepkgs, or includepkgs that do
// not name it. It is "" for a package that stays. A pattern is a name, NAME.ARCH, NAME-VERSION[-RELEASE[.ARCH]]
// or a shell pattern over those.
func (r *Repo) Excluded(p *Package) string {
	switch {
	case len(r.IncludePkgs) > 0 && !matchesAny(r.IncludePkgs, p):
		return "includepkgs of its repository does not name it"
	case matchesAny(r.ExcludePkgs, p):
		return "it is excluded by its repository's definition"
	}
	return ""
}

func matchesAny(patterns []string, p *Package) bool {
	var forms []string
	for _, pat := range patterns {
		if pat == p.NEVRA.Name {
			return true
		}
		if !strings.ContainsAny(pat, "*?[") && !strings.HasPrefix(pat, p.NEVRA.Name) && !strings.Contains(pat, ":") {
			continue
		}
		if forms == nil {
			n := p.NEVRA
			vr := n.Version + "-" + n.Release
			forms = []string{n.Name, n.Name + "." + n.Arch, n.Name + "-" + n.Version, n.Name + "-" + vr, n.Name + "-" + vr + "." + n.Arch,
				fmt.Sprintf("%s-%d:%s", n.Name, n.Epoch, vr), fmt.Sprintf("%s-%d:%s.%s", n.Name, n.Epoch, vr, n.Arch)}
		}
		for _, f := range forms {
			if ok, err := path.Match(pat, f); ok && err == nil {
				return true
			}
		}
	}
	return false
}

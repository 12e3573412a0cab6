// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"fmt"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// moduleChoice reads the keys modules and platform-module. The platform is
// written as in a module's dependencies: platform:f36.
func moduleChoice(m *treefile.Manifest) (rpmmd.ModuleChoice, error) {
	c := rpmmd.ModuleChoice{Enable: m.Modules.Enable}
	for _, spec := range m.Modules.Install {
		name, _, _ := strings.Cut(spec, "/")
		c.Enable = append(c.Enable, name)
	}
	if m.PlatformModule == "" {
		return c, nil
	}
	stream, ok := strings.CutPrefix(m.PlatformModule, "platform:")
	if !ok || stream == "" {
		return c, fmt.Errorf("%w: %s: key `platform-module`: %q is not platform:STREAM", ErrTreefile, m.Where("platform-module", -1), m.PlatformModule)
	}
	c.Platform = stream
	return c, nil
}

// profilePackages gives the packages of the module profiles that
// `modules.install` names, or of a stream's default profiles where it names none.
func (u *universe) profilePackages(m *treefile.Manifest) ([]string, error) {
	var out []string
	for _, spec := range m.Modules.Install {
		k := parseModuleSpec(spec)
		stream, ok := u.streams[k.name]
		if !ok {
			return nil, fmt.Errorf("%w: %s: key `modules`: no repository has module %q", ErrTreefile, m.Where("modules", -1), k.name)
		}
		k.stream = stream
		list, err := u.profile(k)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: key `modules`: %w", ErrTreefile, m.Where("modules", -1), err)
		}
		out = append(out, list...)
	}
	return out, nil
}

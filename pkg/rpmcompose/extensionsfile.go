// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// maxExtensionsFile bounds a list of extensions.
const maxExtensionsFile = 1 << 20

// ErrExtensions is the condition of a list of extensions that cannot be read or met.
var ErrExtensions = errors.New("extensions")

// ExtensionKind says what an extension is for.
type ExtensionKind string

// The kinds. Packages for development are not solved for: they are for building things
// for the tree, not to be added to it.
const (
	OSExtension          ExtensionKind = "os-extension"
	DevelopmentExtension ExtensionKind = "development"
)

// Extensions are packages that hosts may add to a tree. Source of the keys:
// rpm-ostree's "compose extensions".
type Extensions struct {
	Extensions map[string]Extension `json:"extensions" yaml:"extensions"`
	// Repos and Modules are used beside those of the treefile.
	Repos   []string          `json:"repos,omitempty" yaml:"repos"`
	Modules *ExtensionModules `json:"modules,omitempty" yaml:"modules"`
}

// Extension is one of them. The lists of repositories and modules count for all
// extensions, if there is one of this architecture.
type Extension struct {
	Packages []string          `json:"packages" yaml:"packages"`
	Repos    []string          `json:"repos,omitempty" yaml:"repos"`
	Modules  *ExtensionModules `json:"modules,omitempty" yaml:"modules"`
	// Architectures are those for which the extension is there; empty means all.
	Architectures []string `json:"architectures,omitempty" yaml:"architectures"`
	// MatchBaseEVR names a package of the tree; all packages of the extension have its
	// version and release.
	MatchBaseEVR string        `json:"match-base-evr,omitempty" yaml:"match-base-evr"`
	Kind         ExtensionKind `json:"kind" yaml:"kind"`
}

// ExtensionModules are streams to enable and profiles to install.
type ExtensionModules struct {
	Enable  []string `json:"enable,omitempty" yaml:"enable"`
	Install []string `json:"install,omitempty" yaml:"install"`
}

// ParseExtensions reads a list of extensions in YAML. Unknown keys are errors; name and
// line are in every error, which wraps ErrExtensions.
func ParseExtensions(name string, data []byte) (*Extensions, error) {
	x, err := parseExtensions(data)
	if err != nil {
		return nil, fmt.Errorf("read %w %s: %w", ErrExtensions, name, err)
	}
	return x, nil
}

func parseExtensions(data []byte) (*Extensions, error) {
	if len(data) > maxExtensionsFile {
		return nil, fmt.Errorf("more than %d bytes", maxExtensionsFile)
	}
	var x Extensions
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&x); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("parse YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("parse YAML: more than one document")
	}
	if len(x.Extensions) == 0 {
		return nil, errors.New("key `extensions` is missing or empty")
	}
	for _, name := range slices.Sorted(maps.Keys(x.Extensions)) {
		e := x.Extensions[name]
		if e.Kind == "" {
			e.Kind = OSExtension
			x.Extensions[name] = e
		}
		if e.Kind != OSExtension && e.Kind != DevelopmentExtension {
			return nil, fmt.Errorf("extension %q: kind %q is neither %s nor %s", name, e.Kind, OSExtension, DevelopmentExtension)
		}
		if len(e.Packages) == 0 || slices.Contains(e.Packages, "") {
			return nil, fmt.Errorf("extension %q: key `packages` is missing or has an empty name", name)
		}
	}
	return &x, nil
}

// resolve leaves the extensions of an architecture, with their repositories and modules
// joined to the global ones and the versions of the tree in their packages. base maps
// the tree's packages to their version and release.
func (x *Extensions) resolve(arch string, base map[string]string) (*Extensions, error) {
	out := &Extensions{Extensions: map[string]Extension{}, Repos: slices.Clone(x.Repos)}
	var modules ExtensionModules
	modules.add(x.Modules)
	for _, name := range slices.Sorted(maps.Keys(x.Extensions)) {
		e := x.Extensions[name]
		if len(e.Architectures) > 0 && !slices.Contains(e.Architectures, arch) {
			continue
		}
		out.Repos = append(out.Repos, e.Repos...)
		modules.add(e.Modules)
		e.Repos, e.Modules = nil, nil
		for _, p := range e.Packages {
			if _, there := base[p]; there && e.Kind == OSExtension {
				return nil, fmt.Errorf("%w: %q: package %s is in the tree already", ErrExtensions, name, p)
			}
		}
		if e.MatchBaseEVR != "" {
			evr, ok := base[e.MatchBaseEVR]
			if !ok {
				return nil, fmt.Errorf("%w: %q: key `match-base-evr`: the tree has no package %s", ErrExtensions, name, e.MatchBaseEVR)
			}
			e.Packages = slices.Clone(e.Packages)
			for i, p := range e.Packages {
				e.Packages[i] = p + "-" + evr
			}
		}
		out.Extensions[name] = e
	}
	out.Repos, modules.Enable, modules.Install = set(out.Repos), set(modules.Enable), set(modules.Install)
	if len(modules.Enable)+len(modules.Install) > 0 {
		out.Modules = &modules
	}
	return out, nil
}

func set(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

func (m *ExtensionModules) add(more *ExtensionModules) {
	if more != nil {
		m.Enable, m.Install = append(m.Enable, more.Enable...), append(m.Install, more.Install...)
	}
}

// manifest is the treefile as far as it matters for extensions: which repositories and
// modules there are.
func (x *Extensions) manifest(m *treefile.Manifest, enabled []string) *treefile.Manifest {
	out := *m
	if len(out.Repos) == 0 {
		out.Repos = enabled
	}
	out.Repos = set(slices.Concat(out.Repos, x.Repos))
	out.Modules.Install = nil // in the tree already
	out.Modules.Enable = slices.Clone(m.Modules.Enable)
	for _, spec := range m.Modules.Install {
		stream, _, _ := strings.Cut(spec, "/")
		out.Modules.Enable = append(out.Modules.Enable, stream)
	}
	if x.Modules != nil {
		out.Modules.Enable = set(slices.Concat(out.Modules.Enable, x.Modules.Enable))
		out.Modules.Install = x.Modules.Install
	}
	return &out
}

// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	maxModuleText = 64 << 20
	maxModuleDocs = 100_000
)

// ModuleStream is one build of a module's stream (a modulemd document, version 1 or 2).
type ModuleStream struct {
	Name, Stream, Context, Arch string
	Version                     uint64
	// Requires are alternatives; of each, every module must be there in one of the streams ("-x" excludes
	// x, an empty list means any).
	Requires []map[string][]string
	// Artifacts are the packages of the stream, as NAME-EPOCH:VERSION-RELEASE.ARCH.
	Artifacts []string
	// Profiles name the packages that a use of the module needs.
	Profiles map[string][]string
}

// ID gives NAME:STREAM.
func (s *ModuleStream) ID() string { return s.Name + ":" + s.Stream }

// ModuleDefaults is a modulemd-defaults document: what is used of a module that nobody chose.
type ModuleDefaults struct {
	Module, Stream string
	Profiles       map[string][]string // stream -> profiles
	Modified       uint64              // the larger one replaces the other of two repositories
}

// Modules is the module list of one repository.
type Modules struct {
	Streams  []ModuleStream
	Defaults []ModuleDefaults
}

// Modules reads the module list. A repository without modules gives an error that wraps [ErrNoList].
func (m *Metadata) Modules(ctx context.Context) (*Modules, error) {
	data, err := m.readText(ctx, "modules")
	if err != nil {
		return nil, fmt.Errorf("load repository %s: %w", m.Repo.ID, err)
	}
	mods, err := ParseModules(data)
	if err != nil {
		return nil, fmt.Errorf("load repository %s: %w", m.Repo.ID, err)
	}
	return mods, nil
}

type moduleDoc struct {
	Document string    `yaml:"document"`
	Version  int       `yaml:"version"`
	Data     yaml.Node `yaml:"data"`
}

type moduleData struct {
	Name, Stream, Context, Arch string
	Version                     uint64
	// Version 2 has a list of alternatives, version 1 one map from module to stream.
	Dependencies yaml.Node
	Artifacts    struct{ RPMs []string }
	Profiles     map[string]struct{ RPMs []string }
}

type defaultsData struct {
	Module, Stream string
	Modified       uint64
	Profiles       map[string][]string
}

// ParseModules reads the text of a modules.yaml, a stream of YAML documents. Documents of kinds that do not
// decide what is installed are passed over; one that is broken is an error, since the packages it lists
// would otherwise be taken for ordinary ones. An error gives the document's number and wraps [ErrSyntax].
func ParseModules(data []byte) (*Modules, error) {
	if len(data) > maxModuleText {
		return nil, fmt.Errorf("read modules: %d bytes: %w", len(data), ErrSyntax)
	}
	out := &Modules{}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for n := 1; ; n++ {
		var doc moduleDoc
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err == nil && n > maxModuleDocs {
			err = errors.New("too many documents")
		}
		if err == nil {
			err = out.add(&doc)
		}
		if err != nil {
			return nil, fmt.Errorf("read modules: document %d: %w: %w", n, ErrSyntax, err)
		}
	}
}

func (m *Modules) add(doc *moduleDoc) error {
	switch doc.Document {
	case "modulemd":
		var d moduleData
		if err := doc.Data.Decode(&d); err != nil {
			return err
		}
		s, err := d.stream()
		if err != nil {
			return err
		}
		m.Streams = append(m.Streams, s)
	case "modulemd-defaults":
		var d defaultsData
		if err := doc.Data.Decode(&d); err != nil {
			return err
		}
		if d.Module == "" {
			return errors.New("defaults without module")
		}
		m.Defaults = append(m.Defaults, ModuleDefaults{Module: d.Module, Stream: d.Stream, Profiles: d.Profiles, Modified: d.Modified})
	}
	return nil
}

func (d *moduleData) stream() (ModuleStream, error) {
	s := ModuleStream{Name: d.Name, Stream: d.Stream, Context: d.Context, Arch: d.Arch, Version: d.Version, Artifacts: d.Artifacts.RPMs}
	if strings.ContainsAny(s.Name+s.Stream, ": \n\x00") {
		return s, fmt.Errorf("module %q, stream %q: name is not allowed", s.Name, s.Stream)
	}
	if len(d.Profiles) > 0 {
		s.Profiles = map[string][]string{}
	}
	for name, p := range d.Profiles {
		s.Profiles[name] = p.RPMs
	}
	switch d.Dependencies.Kind {
	case 0, yaml.ScalarNode: // absent or null
	case yaml.SequenceNode:
		var list []struct{ Requires map[string][]string }
		if err := d.Dependencies.Decode(&list); err != nil {
			return s, err
		}
		for _, l := range list {
			s.Requires = append(s.Requires, l.Requires)
		}
	default:
		var old struct{ Requires map[string]string }
		if err := d.Dependencies.Decode(&old); err != nil {
			return s, err
		}
		alt := map[string][]string{}
		for k, v := range old.Requires {
			alt[k] = []string{v}
		}
		s.Requires = append(s.Requires, alt)
	}
	return s, nil
}

// MergeDefaults joins the defaults of several repositories. Of two for one module the one modified later
// counts; two as new as each other that name different streams cancel out.
func MergeDefaults(repos []*Modules) map[string]ModuleDefaults {
	out := map[string]ModuleDefaults{}
	for _, r := range repos {
		for _, d := range r.Defaults {
			old, ok := out[d.Module]
			switch {
			case !ok || d.Modified > old.Modified:
				out[d.Module] = d
			case d.Modified == old.Modified && d.Stream != old.Stream && d.Stream != "":
				if old.Stream == "" {
					out[d.Module] = d
					continue
				}
				old.Stream = ""
				out[d.Module] = old
			}
		}
	}
	return out
}

// ModuleChoice is what a treefile or a user says about modules.
type ModuleChoice struct {
	Enable  []string // NAME:STREAM, or NAME for the default stream
	Disable []string // NAME
	// Platform is the stream of the virtual module "platform", such as f40; "" accepts any.
	Platform string
}

// ErrModule is wrapped where the choice of modules cannot be met.
var ErrModule = errors.New("modules cannot be enabled")

// moduleSolver finds the active streams.
type moduleSolver struct {
	streams  map[string]map[string][]*ModuleStream // name -> stream -> builds
	defaults map[string]ModuleDefaults
	choice   ModuleChoice
	disabled map[string]bool
	active   map[string]string
	steps    int
}

// ActiveModules gives the stream of every module that is in use: those chosen, what they require, and the
// defaults of all others as far as their own requirements can be met.
func ActiveModules(repos []*Modules, choice ModuleChoice) (map[string]string, error) {
	s := &moduleSolver{streams: map[string]map[string][]*ModuleStream{}, defaults: MergeDefaults(repos), choice: choice,
		disabled: map[string]bool{}, active: map[string]string{}}
	for _, r := range repos {
		for i := range r.Streams {
			b := &r.Streams[i]
			if s.streams[b.Name] == nil {
				s.streams[b.Name] = map[string][]*ModuleStream{}
			}
			s.streams[b.Name][b.Stream] = append(s.streams[b.Name][b.Stream], b)
		}
	}
	for _, name := range choice.Disable {
		s.disabled[name] = true
	}
	if err := s.enable(); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(s.defaults)) {
		if _, done := s.active[name]; done || s.disabled[name] || s.defaults[name].Stream == "" {
			continue
		}
		before := maps.Clone(s.active)
		if s.activate(name, s.defaults[name].Stream, 0) != nil {
			s.active = before // a default whose requirements cannot be met is no default
		}
	}
	return s.active, nil
}

// enable activates what was chosen: first all names, so that requirements meet the chosen streams.
func (s *moduleSolver) enable() error {
	chosen := map[string]string{}
	for _, spec := range s.choice.Enable {
		name, stream, ok := strings.Cut(spec, ":")
		if !ok {
			stream = s.defaults[name].Stream
		}
		switch {
		case s.streams[name] == nil:
			return fmt.Errorf("%w: no repository has module %q", ErrModule, name)
		case stream == "":
			return fmt.Errorf("%w: module %q has no default stream; name one of %s", ErrModule, name, strings.Join(slices.Sorted(maps.Keys(s.streams[name])), ", "))
		case s.streams[name][stream] == nil:
			return fmt.Errorf("%w: module %q has no stream %q; there is %s", ErrModule, name, stream, strings.Join(slices.Sorted(maps.Keys(s.streams[name])), ", "))
		case chosen[name] != "" && chosen[name] != stream:
			return fmt.Errorf("%w: module %q in two streams, %s and %s", ErrModule, name, chosen[name], stream)
		}
		chosen[name] = stream
	}
	maps.Copy(s.active, chosen)
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		delete(s.active, name)
		if err := s.activate(name, chosen[name], 0); err != nil {
			return fmt.Errorf("%w: %w", ErrModule, err)
		}
	}
	return nil
}

// Bounds of the search, which goes back and forth between alternatives.
const (
	maxModuleDepth = 100
	maxModuleSteps = 100_000
)

// activate makes a stream active with all that one of its builds requires.
func (s *moduleSolver) activate(name, stream string, depth int) error {
	if have, ok := s.active[name]; ok {
		if have == stream {
			return nil
		}
		return fmt.Errorf("module %s:%s is needed, but stream %s is in use", name, stream, have)
	}
	if s.disabled[name] {
		return fmt.Errorf("module %q is disabled", name)
	}
	builds := s.streams[name][stream]
	if s.steps++; s.steps > maxModuleSteps || depth > maxModuleDepth {
		return fmt.Errorf("requirements of module %s:%s are too tangled", name, stream)
	}
	if builds == nil {
		return fmt.Errorf("no repository has module %s:%s", name, stream)
	}
	builds = slices.Clone(builds)
	slices.SortStableFunc(builds, func(a, b *ModuleStream) int {
		if a.Version != b.Version {
			return 1 - 2*b2i(a.Version > b.Version)
		}
		return strings.Compare(a.Context, b.Context)
	})
	var last error
	for _, b := range builds {
		alternatives := b.Requires
		if len(alternatives) == 0 {
			alternatives = []map[string][]string{nil}
		}
		for _, alt := range alternatives {
			before := maps.Clone(s.active)
			s.active[name] = stream
			if last = s.require(alt, depth); last == nil {
				return nil
			}
			s.active = before
		}
	}
	return fmt.Errorf("module %s:%s: %w", name, stream, last)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *moduleSolver) require(alt map[string][]string, depth int) error {
	for _, name := range slices.Sorted(maps.Keys(alt)) {
		allowed := alt[name]
		if name == "platform" {
			if s.choice.Platform != "" && !streamAllowed(allowed, s.choice.Platform) {
				return fmt.Errorf("it is for another platform than %s", s.choice.Platform)
			}
			continue
		}
		if have, ok := s.active[name]; ok {
			if !streamAllowed(allowed, have) {
				return fmt.Errorf("it requires %s in another stream than %s", name, have)
			}
			continue
		}
		if err := s.requireOne(name, allowed, depth); err != nil {
			return err
		}
	}
	return nil
}

// requireOne activates the default stream of a module, or the first in order that is allowed.
func (s *moduleSolver) requireOne(name string, allowed []string, depth int) error {
	candidates := slices.Sorted(maps.Keys(s.streams[name]))
	if d := s.defaults[name].Stream; d != "" {
		candidates = slices.Insert(candidates, 0, d)
	}
	err := fmt.Errorf("it requires module %q, which no repository has", name)
	for _, stream := range candidates {
		if !streamAllowed(allowed, stream) {
			continue
		}
		if err = s.activate(name, stream, depth+1); err == nil {
			return nil
		}
	}
	return err
}

func streamAllowed(list []string, stream string) bool {
	positive := false
	for _, l := range list {
		if not, ok := strings.CutPrefix(l, "-"); ok {
			if not == stream {
				return false
			}
			continue
		}
		positive = true
		if l == stream {
			return true
		}
	}
	return !positive
}

// ModuleFilter decides which packages the modules leave to choose from.
type ModuleFilter struct {
	inactive map[string]bool // artifacts of streams not in use
	active   map[string]bool // artifacts of streams in use
	names    map[string]bool // package names that streams in use provide
}

// NewModuleFilter makes the filter for the streams of [ActiveModules].
func NewModuleFilter(repos []*Modules, active map[string]string) *ModuleFilter {
	f := &ModuleFilter{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	for _, r := range repos {
		for i := range r.Streams {
			s := &r.Streams[i]
			into := f.inactive
			if stream, ok := active[s.Name]; ok && stream == s.Stream {
				into = f.active
			}
			for _, a := range s.Artifacts {
				into[a] = true
				if name := artifactName(a); into[a] && active[s.Name] == s.Stream && !strings.HasSuffix(a, ".src") && name != "" {
					f.names[name] = true
				}
			}
		}
	}
	return f
}

// artifactName takes the name off NAME-EPOCH:VERSION-RELEASE.ARCH.
func artifactName(a string) string {
	i := strings.LastIndexByte(a, '-')
	if i < 0 {
		return ""
	}
	i = strings.LastIndexByte(a[:i], '-')
	return a[:max(i, 0)]
}

// Reason says why a package cannot be chosen, "" if it can. Packages of streams not in use are out; so are
// packages outside of all modules that a stream in use also has. Repositories with module_hotfixes are exempt.
func (f *ModuleFilter) Reason(repo Repo, p *Package) string {
	if repo.ModuleHotfixes || len(f.inactive)+len(f.active) == 0 {
		return ""
	}
	n := p.NEVRA
	id := fmt.Sprintf("%s-%d:%s-%s.%s", n.Name, n.Epoch, n.Version, n.Release, n.Arch)
	switch {
	case f.active[id]:
		return ""
	case f.inactive[id]:
		return "its module stream is not enabled"
	case f.names[n.Name]:
		return "an enabled module provides the package"
	}
	for _, d := range p.Provides {
		if f.names[d.Name] {
			return "an enabled module provides " + d.Name
		}
	}
	return ""
}

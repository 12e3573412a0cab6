// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmmd"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// maxLockfile bounds a lockfile; one of 10,000 packages has 3 MB.
const maxLockfile = 64 << 20

// ErrLockfile is the condition of a lockfile that cannot be read or held.
var ErrLockfile = errors.New("lockfile")

// LockedPackage is one line of a lockfile.
type LockedPackage struct {
	Name string
	EVR  rpm.EVR
	Arch string // "": any
	// Checksum is that of the package file, ALGORITHM:HEX; "" is not compared.
	Checksum string
	File     string // the lockfile
}

func (l LockedPackage) String() string {
	s := l.Name + "-" + l.EVR.String()
	if l.Arch != "" {
		s += "." + l.Arch
	}
	return s
}

// Lock holds packages at the builds that lockfiles name.
type Lock struct {
	Packages []LockedPackage
	// Strict leaves no package eligible that is not locked. Without it only the
	// locked names are held.
	Strict bool
}

// ReadLockfile reads the JSON of a Plan, or a lockfile of rpm-ostree in JSON or
// (extension .yaml or .yml) YAML. Source of the second form: rpm-ostree's
// "compose tree --ex-write-lockfile-to": a table `packages` from name to `evra`,
// or `evr` for any architecture, with an optional `digest`. Unknown keys are
// errors, which name the file and the package.
func ReadLockfile(name string, data []byte) ([]LockedPackage, error) {
	list, err := readLockfile(name, data)
	if err != nil {
		return nil, fmt.Errorf("read %w %s: %w", ErrLockfile, name, err)
	}
	return list, nil
}

func readLockfile(name string, data []byte) ([]LockedPackage, error) {
	if len(data) > maxLockfile {
		return nil, fmt.Errorf("more than %d bytes", maxLockfile)
	}
	if ext := strings.ToLower(path.Ext(name)); ext == ".yaml" || ext == ".yml" {
		var err error
		if data, err = yamlToJSON(data); err != nil {
			return nil, err
		}
	}
	var top struct {
		Packages json.RawMessage `json:"packages"`
	}
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, jsonError(data, err)
	}
	switch trimmed := bytes.TrimSpace(top.Packages); {
	case len(trimmed) == 0 || string(trimmed) == "null":
		return nil, errors.New(`key "packages" is missing`)
	case trimmed[0] == '[':
		return readPlanLock(name, data)
	}
	return readTableLock(name, data)
}

// yamlToJSON gives YAML the one path that JSON takes.
func yamlToJSON(data []byte) ([]byte, error) {
	var v map[string]any
	if err := yaml.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("parse YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	out, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("parse YAML: %w", err)
	}
	return out, nil
}

// jsonError adds the line to errors that know their place.
func jsonError(data []byte, err error) error {
	offset := int64(-1)
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &typ):
		offset = typ.Offset
	}
	if offset < 0 || offset > int64(len(data)) {
		return fmt.Errorf("parse JSON: %w", err)
	}
	return fmt.Errorf("line %d: parse JSON: %w", 1+bytes.Count(data[:offset], []byte("\n")), err)
}

func strictJSON(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return jsonError(data, err)
	}
	return nil
}

// planLock is the part of a Plan that locks; the rest of a plan is free to grow.
type planLock struct {
	Packages []PlannedPackage `json:"packages"`
}

func readPlanLock(name string, data []byte) ([]LockedPackage, error) {
	var p planLock
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, jsonError(data, err)
	}
	seen := map[string]bool{}
	var out []LockedPackage
	for i, k := range p.Packages {
		if k.Name == "" || k.EVR == "" || k.Arch == "" {
			return nil, fmt.Errorf("package %d (%q): name, evr and arch are needed", i, k.Name)
		}
		l, err := locked(name, k.Name, k.EVR, k.Arch, k.Checksum)
		if err != nil {
			return nil, err
		}
		if seen[l.String()] {
			return nil, fmt.Errorf("package %s is listed twice", l)
		}
		seen[l.String()] = true
		out = append(out, l)
	}
	return out, nil
}

// tableLock is rpm-ostree's form.
type tableLock struct {
	Packages map[string]tablePackage `json:"packages"`
	Metadata *struct {
		Generated *time.Time `json:"generated"`
		Repos     map[string]struct {
			Generated time.Time `json:"generated"`
		} `json:"rpmmd_repos"`
	} `json:"metadata"`
}

type tablePackage struct {
	EVR      string         `json:"evr"`
	EVRA     string         `json:"evra"`
	Digest   string         `json:"digest"`
	Metadata map[string]any `json:"metadata"`
}

func readTableLock(name string, data []byte) ([]LockedPackage, error) {
	var t tableLock
	if err := strictJSON(data, &t); err != nil {
		return nil, err
	}
	var out []LockedPackage
	for _, pkg := range slices.Sorted(maps.Keys(t.Packages)) {
		p := t.Packages[pkg]
		evr, arch := p.EVR, ""
		switch {
		case (p.EVR == "") == (p.EVRA == ""):
			return nil, fmt.Errorf(`package %s: needs one of the keys "evra" and "evr"`, pkg)
		case p.EVRA != "":
			i := strings.LastIndexByte(p.EVRA, '.')
			if i < 0 || !strings.Contains(p.EVRA[:i], "-") || strings.Contains(p.EVRA[i:], "-") {
				return nil, fmt.Errorf("package %s: evra %q is not VERSION-RELEASE.ARCH", pkg, p.EVRA)
			}
			evr, arch = p.EVRA[:i], p.EVRA[i+1:]
		}
		l, err := locked(name, pkg, evr, arch, p.Digest)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

func locked(file, name, evr, arch, checksum string) (LockedPackage, error) {
	l := LockedPackage{Name: name, Arch: arch, Checksum: checksum, File: file}
	if name == "" {
		return l, errors.New("a package without name")
	}
	if !strings.Contains(evr, "-") || strings.ContainsAny(name+evr+arch, " \t\n/") {
		return l, fmt.Errorf("package %s: %q is not [EPOCH:]VERSION-RELEASE", name, evr)
	}
	var err error
	if l.EVR, err = rpm.ParseEVR(evr); err != nil {
		return l, fmt.Errorf("package %s: %w", name, err)
	}
	if l.EVR.Version == "" || l.EVR.Release == "" {
		return l, fmt.Errorf("package %s: %q is not [EPOCH:]VERSION-RELEASE", name, evr)
	}
	if algo, hex, ok := strings.Cut(checksum, ":"); checksum != "" && (!ok || algo == "" || hex == "") {
		return l, fmt.Errorf("package %s: digest %q is not ALGORITHM:HEX", name, checksum)
	}
	return l, nil
}

// MergeLocks joins the contents of lockfiles: a name that a later one has
// overrides all that earlier ones say of it, as in rpm-ostree.
func MergeLocks(files ...[]LockedPackage) []LockedPackage {
	var out []LockedPackage
	for _, file := range files {
		names := map[string]bool{}
		for _, l := range file {
			names[l.Name] = true
		}
		out = slices.DeleteFunc(out, func(l LockedPackage) bool { return names[l.Name] })
		out = append(out, file...)
	}
	return out
}

// lockFilter decides which packages a Lock leaves, and remembers which of its
// entries were found.
type lockFilter struct {
	lock    *Lock
	byName  map[string][]int
	only    map[string]bool // repositories whose packages must be locked
	found   []bool
	rebuilt []string // the same build with another checksum, where that is all there is
}

func newLockFilter(lock *Lock, lockedOnly []string) *lockFilter {
	f := &lockFilter{lock: lock, byName: map[string][]int{}, only: map[string]bool{}}
	for _, id := range lockedOnly {
		f.only[id] = true
	}
	if lock == nil {
		return f
	}
	f.found, f.rebuilt = make([]bool, len(lock.Packages)), make([]string, len(lock.Packages))
	for i, l := range lock.Packages {
		f.byName[l.Name] = append(f.byName[l.Name], i)
	}
	return f
}

// eligible tells whether the lock leaves a package of a repository.
func (f *lockFilter) eligible(repo string, p *rpmmd.Package) bool {
	if f.lock == nil {
		return !f.only[repo]
	}
	entries, named := f.byName[p.NEVRA.Name]
	if !named {
		return !f.lock.Strict && !f.only[repo]
	}
	for _, i := range entries {
		l := f.lock.Packages[i]
		if l.Arch != "" && l.Arch != p.NEVRA.Arch || rpm.Compare(l.EVR, p.NEVRA.EVR) != 0 {
			continue
		}
		if sum := p.Checksum.String(); !sameChecksum(l.Checksum, sum) {
			f.rebuilt[i] = fmt.Sprintf("repository %s has it with %s instead of %s", repo, sum, l.Checksum)
			continue
		}
		f.found[i] = true
		return true
	}
	return false
}

// sameChecksum compares what can be compared.
func sameChecksum(locked, have string) bool {
	algo, _, _ := strings.Cut(locked, ":")
	other, _, _ := strings.Cut(have, ":")
	return locked == "" || algo != other || locked == have
}

// explain adds to an unsolvable request what the lock has to do with it: the
// locked packages it speaks of that no repository has.
func (f *lockFilter) explain(err error) error {
	if err == nil || f.lock == nil {
		return err
	}
	text := err.Error()
	var notes []string
	for i, l := range f.lock.Packages {
		if f.found[i] || !strings.Contains(text, l.Name) {
			continue
		}
		why := f.rebuilt[i]
		if why == "" {
			why = "no repository has it"
		}
		notes = append(notes, fmt.Sprintf("%s is locked by %s, but %s", l, l.File, why))
	}
	if f.lock.Strict {
		notes = append(notes, "only packages of the lockfiles are eligible (strict)")
	}
	if len(notes) == 0 {
		return err
	}
	return fmt.Errorf("%w\n%w: %s", err, ErrLockfile, strings.Join(notes, "\n"))
}

// lockedOnly are the repositories that only feed locked packages.
func lockedOnly(m *treefile.Manifest) []string {
	var out []string
	for _, id := range m.LockfileRepos {
		if !slices.Contains(m.Repos, id) {
			out = append(out, id)
		}
	}
	return out
}

// keep drops the packages that eligible refuses.
func (u *universe) keep(eligible func(repo string, p *rpmmd.Package) bool) {
	all := u.pkgs
	u.pkgs, u.index = nil, map[*rpmmd.Package]int{}
	for _, e := range all {
		if !eligible(e.meta.Repo.ID, e.pkg) {
			continue
		}
		u.index[e.pkg] = len(u.pkgs)
		u.pkgs = append(u.pkgs, e)
	}
}

// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// Remotes is where remotes are configured: the repository's config file, files
// NAME.conf in a folder for the system's repository, and the config of parent
// repositories, which is read only.
type Remotes struct {
	Repo *ostree.Repo
	// Dir is /etc/ostree/remotes.d for the system's repository, else nil. With it
	// Add writes a file of its own there unless core.add-remotes-config-dir=false.
	Dir *fsx.Dir
}

const confSuffix = ".conf"

// AddOptions say what Add does when the name is taken. Set holds further keys
// and values to write as they are.
type AddOptions struct {
	IfNotExists bool // keep the remote that is there
	Force       bool // replace it
	Set         [][2]string
}

// LoadRemote is Remotes.Load of a repository without a configuration folder.
func LoadRemote(repo *ostree.Repo, name string) (Remote, error) {
	return Remotes{Repo: repo}.Load(name)
}

// AddRemote is Remotes.Add of a repository without a configuration folder.
func AddRemote(repo *ostree.Repo, r Remote, o AddOptions) error {
	return Remotes{Repo: repo}.Add(r, o)
}

func groupOf(name string) string { return `remote "` + name + `"` }

// nameOf is the reverse of groupOf.
func nameOf(group string) (string, bool) {
	name, ok := strings.CutPrefix(group, `remote "`)
	name, end := strings.CutSuffix(name, `"`)
	return name, ok && end && validName(name)
}

// validName tells whether a remote may have the name: one component of a ref.
func validName(name string) bool {
	return !strings.Contains(name, "/") && ostree.CheckRef(name) == nil
}

// Load reads a remote as it is on disk now. What the remote leaves open, a remote
// of the same name in the parent repository may say. Errors: ErrNoRemote, or a
// value that cannot be read.
func (s Remotes) Load(name string) (Remote, error) {
	r, err := s.load(name)
	if err != nil {
		return Remote{}, fmt.Errorf("load remote %s: %w", clip(name), err)
	}
	return r, nil
}

func (s Remotes) load(name string) (Remote, error) {
	if !validName(name) {
		return Remote{}, ErrNoRemote
	}
	var chain []*keyfile.File
	for repo := s.Repo; repo != nil; repo = repo.Parent() {
		cfg, _, err := s.level(repo).find(name)
		if errors.Is(err, ErrNoRemote) {
			continue
		}
		if err != nil {
			return Remote{}, err
		}
		chain = append(chain, cfg)
	}
	if len(chain) == 0 {
		return Remote{}, ErrNoRemote
	}
	return parseRemote(chain, name)
}

// level is one repository of the chain; only the first one has the folder.
func (s Remotes) level(repo *ostree.Repo) Remotes {
	if repo == s.Repo {
		return s
	}
	return Remotes{Repo: repo}
}

// find gives the configuration that holds a remote and the name of its file in
// the folder, "" for the repository's own.
func (s Remotes) find(name string) (*keyfile.File, string, error) {
	group := groupOf(name)
	cfg, err := readConfig(s.Repo)
	if err != nil {
		return nil, "", err
	}
	var found *keyfile.File
	where := ""
	if cfg.HasGroup(group) {
		found = cfg
	}
	err = s.dropIns(func(file string, cfg *keyfile.File) error {
		if !cfg.HasGroup(group) {
			return nil
		}
		if found != nil {
			return fmt.Errorf("%w: configured more than once, again in %s", ostree.ErrInvalid, file)
		}
		found, where = cfg, file
		return nil
	})
	if err == nil && found == nil {
		err = ErrNoRemote
	}
	return found, where, err
}

// dropIns calls fn for every readable file of the folder.
func (s Remotes) dropIns(fn func(file string, cfg *keyfile.File) error) error {
	if s.Dir == nil {
		return nil
	}
	entries, err := s.Dir.ReadDir(".")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name, confSuffix) {
			continue
		}
		data, err := s.Dir.ReadFile(e.Name, keyfile.MaxSize)
		if err != nil {
			return err
		}
		cfg, err := keyfile.Parse(data)
		if err != nil {
			return fmt.Errorf("parse %s: %w", e.Name, err)
		}
		if err := fn(e.Name, cfg); err != nil {
			return err
		}
	}
	return nil
}

// readConfig reads the file again: another process may have changed it since
// the repository was opened.
func readConfig(repo *ostree.Repo) (*keyfile.File, error) {
	data, err := repo.Dir().ReadFile("config", keyfile.MaxSize)
	if err != nil {
		return nil, err
	}
	cfg, err := keyfile.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("parse config: %w", err)
	}
	return cfg, nil
}

// List names the configured remotes, those of parent repositories included, in
// byte order.
func (s Remotes) List() ([]string, error) {
	var names []string
	add := func(cfg *keyfile.File) {
		for _, g := range cfg.Groups() {
			if name, ok := nameOf(g); ok {
				names = append(names, name)
			}
		}
	}
	for repo := s.Repo; repo != nil; repo = repo.Parent() {
		cfg, err := readConfig(repo)
		if err != nil {
			return nil, fmt.Errorf("list remotes: %w", err)
		}
		add(cfg)
		err = s.level(repo).dropIns(func(_ string, cfg *keyfile.File) error { add(cfg); return nil })
		if err != nil {
			return nil, fmt.Errorf("list remotes: %w", err)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Add writes a remote, atomically, in the form that "ostree remote add" gives it.
// Whether a pull from it can work is not its business. Errors: ErrRemoteExists.
func (s Remotes) Add(r Remote, o AddOptions) error {
	if err := s.add(r, o); err != nil {
		return fmt.Errorf("add remote %s: %w", clip(r.Name), err)
	}
	return nil
}

func (s Remotes) add(r Remote, o AddOptions) error {
	if err := r.checkNew(); err != nil {
		return err
	}
	_, where, err := s.find(r.Name)
	switch {
	case err == nil && o.IfNotExists:
		return nil
	case err == nil && !o.Force:
		return ErrRemoteExists
	case err == nil && where != "":
		return s.writeDropIn(where, r, o.Set)
	case err != nil && !errors.Is(err, ErrNoRemote):
		return err
	}
	cfg, cerr := readConfig(s.Repo)
	if cerr != nil {
		return cerr
	}
	if err != nil && s.Dir != nil {
		own, err := cfg.BoolOr("core", "add-remotes-config-dir", true)
		if err != nil {
			return err
		}
		if own {
			return s.writeDropIn(r.Name+confSuffix, r, o.Set)
		}
	}
	cfg.RemoveGroup(groupOf(r.Name))
	if err := writeRemote(cfg, groupOf(r.Name), r, o.Set); err != nil {
		return err
	}
	return s.Repo.SetConfig(cfg)
}

func (s Remotes) writeDropIn(file string, r Remote, set [][2]string) error {
	cfg := keyfile.New()
	if data, err := s.Dir.ReadFile(file, keyfile.MaxSize); err == nil {
		if cfg, err = keyfile.Parse(data); err != nil {
			return fmt.Errorf("parse %s: %w", file, err)
		}
	}
	cfg.RemoveGroup(groupOf(r.Name))
	if err := writeRemote(cfg, groupOf(r.Name), r, set); err != nil {
		return err
	}
	return s.Dir.WriteFileAtomic(file, cfg.Bytes(), 0o644)
}

// Delete removes a remote, atomically, and its trusted keys. Its refs stay.
// Errors: ErrNoRemote.
func (s Remotes) Delete(name string) error {
	if err := s.delete(name); err != nil {
		return fmt.Errorf("delete remote %s: %w", clip(name), err)
	}
	return nil
}

func (s Remotes) delete(name string) error {
	if !validName(name) {
		return ErrNoRemote
	}
	cfg, where, err := s.find(name)
	if err != nil {
		return err
	}
	cfg.RemoveGroup(groupOf(name))
	switch {
	case where == "":
		err = s.Repo.SetConfig(cfg)
	case len(cfg.Groups()) == 0:
		err = s.Dir.Remove(where)
	default:
		err = s.Dir.WriteFileAtomic(where, cfg.Bytes(), 0o644)
	}
	if err != nil {
		return err
	}
	// After the configuration: keys without a remote do no harm, a remote
	// without its keys would not work.
	keys := name + ".trustedkeys.gpg"
	if ok, err := s.Repo.Dir().Exists(keys); err != nil || !ok {
		return err
	}
	return s.Repo.Dir().Remove(keys)
}

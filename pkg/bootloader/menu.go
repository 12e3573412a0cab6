// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// maxEntries bounds how many entry files one generation may hold.
const maxEntries = 1024

// LoaderDir returns the directory of generation V below /boot.
func LoaderDir(version int) string { return "loader." + strconv.Itoa(version) }

// EntryName names the file of the i-th (from 0) of n ostree entries. The number
// falls with the index, since boot loaders sort file names downwards. With a
// stateroot that stands in the name, too, as libostree wrote it before 2024.5.
func EntryName(i, n int, stateroot string) string {
	if stateroot != "" {
		return fmt.Sprintf("ostree-%d-%s.conf", n-i, stateroot)
	}
	return fmt.Sprintf("ostree-%d.conf", n-i)
}

// WriteMenu writes the entries of a generation anew. It refuses to touch the
// generation in use, and syncs nothing of the new one: it counts for nobody until
// the caller has synced and flipped.
func WriteMenu(boot *fsx.Dir, sw Switch, m Menu) error {
	active, err := sw.Active(boot)
	if err != nil {
		return err
	}
	if active == m.Version {
		return fmt.Errorf("write %s: it is the generation in use", LoaderDir(m.Version))
	}
	if file, ok := sw.(FileSwitch); ok {
		return file.writeMenu(boot, active, m)
	}
	dir := LoaderDir(m.Version)
	if err := boot.RemoveAll(dir); err != nil {
		return err
	}
	if err := boot.MkdirAll(path.Join(dir, "entries"), 0o755); err != nil {
		return err
	}
	for _, e := range m.Entries {
		if err := writeEntry(boot, path.Join(dir, "entries"), e.Name, e); err != nil {
			return err
		}
	}
	return nil
}

func writeEntry(boot *fsx.Dir, dir, name string, e Entry) error {
	data, err := e.Format()
	if err != nil {
		return fmt.Errorf("format boot entry %s: %w", e.Name, err)
	}
	if e.Name != path.Base(e.Name) || !strings.HasSuffix(e.Name, ".conf") {
		return fmt.Errorf("write boot entry %q: bad file name", e.Name)
	}
	return boot.WriteFile(path.Join(dir, name), data, 0o644)
}

// ReadMenu reads the entries of generation V. Entries that libostree or this project
// wrote (ostree-*.conf) come in boot order; all others, by name, in foreign.
// A file that is no valid entry is reported in bad, by name, and left out.
func ReadMenu(boot *fsx.Dir, sw Switch, version int) (entries, foreign []Entry, bad map[string]error, err error) {
	dir, mine := path.Join(LoaderDir(version), "entries"), linkedName
	if _, shared := sw.(FileSwitch); shared {
		dir, mine = entriesDir, sharedName
	}
	list, err := boot.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil, nil
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if len(list) > maxEntries {
		return nil, nil, nil, fmt.Errorf("read %s: more than %d boot entries", dir, maxEntries)
	}
	bad = map[string]error{}
	for _, f := range list {
		if !strings.HasSuffix(f.Name, ".conf") || strings.HasPrefix(f.Name, ".") {
			continue
		}
		own, v := mine(f.Name)
		if own && v >= 0 && v != version {
			continue
		}
		e, err := readEntry(boot, dir, f.Name)
		switch {
		case err != nil:
			bad[f.Name] = err
		case own:
			entries = append(entries, e)
		default:
			foreign = append(foreign, e)
		}
	}
	sort.SliceStable(entries, func(i, j int) bool { return before(entries[i], entries[j]) })
	return slices.CompactFunc(entries, sameEntry), foreign, bad, nil
}

// linkedName tells entries of deployments from others where each generation has a
// folder of its own.
func linkedName(name string) (own bool, version int) { return strings.HasPrefix(name, "ostree-"), -1 }

func readEntry(boot *fsx.Dir, dir, name string) (Entry, error) {
	data, err := boot.ReadFile(path.Join(dir, name), bls.MaxSize)
	if err != nil {
		return Entry{}, err
	}
	e, err := bls.Parse(data)
	if err != nil {
		return Entry{}, fmt.Errorf("parse boot entry %s/%s: %w", dir, name, err)
	}
	return Entry{Name: name, Entry: e}, nil
}

// before orders by version number, highest first; a version that is no number
// comes last.
func before(a, b Entry) bool {
	av, aerr := strconv.ParseUint(a.Version, 10, 32)
	bv, berr := strconv.ParseUint(b.Version, 10, 32)
	if (aerr == nil) != (berr == nil) {
		return aerr == nil
	}
	if aerr != nil || av == bv {
		return a.Name > b.Name
	}
	return av > bv
}

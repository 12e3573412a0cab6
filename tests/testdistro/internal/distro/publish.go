// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RepoID is the id in the .repo files.
const RepoID = "testdistro"

// keyName is the file that holds the public key.
const keyName = "RPM-GPG-KEY-testdistro"

// fixedTime is the time of published files, for reproducible metadata.
var fixedTime = time.Unix(ownEpoch, 0)

// ManifestPackage is one package of one state.
type ManifestPackage struct {
	Name    string `json:"name"`
	EVR     string `json:"evr"`
	Arch    string `json:"arch"`
	Size    int64  `json:"size"`
	File    string `json:"file"` // below the state's folder
	Source  string `json:"source"`
	Kernel  string `json:"kernel,omitempty"`
	Changed bool   `json:"changed,omitempty"` // another EVR than in the state before
}

// ManifestState describes one repository.
type ManifestState struct {
	Name     string            `json:"name"`
	Count    int               `json:"count"`
	Bytes    int64             `json:"bytes"`
	Added    []string          `json:"added,omitempty"`
	Removed  []string          `json:"removed,omitempty"`
	Updated  []string          `json:"updated,omitempty"`
	Packages []ManifestPackage `json:"packages"`
}

// Manifest is DIR/manifest.json.
type Manifest struct {
	Base   string          `json:"base"`
	Key    string          `json:"key"`
	States []ManifestState `json:"states"`
}

// published pairs a package with what its changelog says.
type published struct {
	ManifestPackage
	meta meta
}

func publish(ctx context.Context, o Options, f *forge, plan *Plan, lists [][]job) error {
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return err
	}
	keyFile := filepath.Join(o.Out, keyName)
	if err := f.key.export(ctx, keyFile); err != nil {
		return err
	}
	m := Manifest{Base: plan.Codename, Key: f.key.fingerprint}
	var before []published
	for i, st := range plan.States {
		start := time.Now()
		pkgs, err := writePackages(ctx, f, filepath.Join(o.Out, st.Name()), lists[i])
		if err != nil {
			return fmt.Errorf("write %s: %w", st.Name(), err)
		}
		if err := verifyState(ctx, f.cache, filepath.Join(o.Out, st.Name()), pkgs); err != nil {
			return fmt.Errorf("verify %s: %w", st.Name(), err)
		}
		if err := verifyTreefile(o.Treefile, pkgs); err != nil {
			return fmt.Errorf("verify %s: %w", st.Name(), err)
		}
		if err := verifyOrder(ctx, before, pkgs); err != nil {
			return fmt.Errorf("verify %s: %w", st.Name(), err)
		}
		ms := compare(st.Name(), before, pkgs)
		if err := writeRepo(ctx, o, f.key, st, pkgs, before); err != nil {
			return fmt.Errorf("write %s: %w", st.Name(), err)
		}
		o.Log("%s: %d packages, %d MiB, %d updated, %d added, %d removed (%.1f s)", st.Name(), ms.Count,
			ms.Bytes>>20, len(ms.Updated), len(ms.Added), len(ms.Removed), time.Since(start).Seconds())
		m.States = append(m.States, ms)
		before = pkgs
	}
	data, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.Out, "manifest.json"), append(data, '\n'), 0o644)
}

// writePackages fills DIR/Packages from the cache and removes what is not of
// this state.
func writePackages(ctx context.Context, f *forge, dir string, jobs []job) ([]published, error) {
	folder := filepath.Join(dir, "Packages")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	var files []string
	metas := map[string]meta{}
	for _, j := range jobs {
		m, src, err := f.load(j.key)
		if err != nil {
			return nil, err
		}
		if _, twice := metas[m.File]; twice {
			return nil, fmt.Errorf("two packages are called %s", m.File)
		}
		metas[m.File] = m
		if err := linkOrCopy(src, filepath.Join(folder, m.File)); err != nil {
			return nil, err
		}
		// primary.xml holds the files' times.
		if err := os.Chtimes(filepath.Join(folder, m.File), fixedTime, fixedTime); err != nil {
			return nil, err
		}
		files = append(files, filepath.Join(folder, m.File))
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, ok := metas[e.Name()]; !ok {
			if err := os.Remove(filepath.Join(folder, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return queryPackages(ctx, files, metas)
}

func queryPackages(ctx context.Context, files []string, metas map[string]meta) ([]published, error) {
	args := append([]string{"-qp", "--nosignature", "--qf",
		"%{NAME}|%|EPOCH?{%{EPOCH}:}:{}||%{VERSION}-%{RELEASE}|%{ARCH}|%{SOURCERPM}\n"}, files...)
	out, err := exec.CommandContext(ctx, "rpm", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("query packages: %w", err)
	}
	var pkgs []published
	i := 0
	for line := range strings.Lines(string(out)) {
		t := strings.Split(strings.TrimSpace(line), "|")
		if len(t) != 5 || i >= len(files) {
			return nil, fmt.Errorf("query packages: unexpected line %q", line)
		}
		st, err := os.Stat(files[i])
		if err != nil {
			return nil, err
		}
		base := filepath.Base(files[i])
		m := metas[base]
		pkgs = append(pkgs, published{meta: m, ManifestPackage: ManifestPackage{
			Name: t[0], EVR: t[1] + t[2], Arch: t[3], Source: t[4], Size: st.Size(), File: "Packages/" + base, Kernel: m.KVER,
		}})
		i++
	}
	slices.SortFunc(pkgs, func(a, b published) int { return strings.Compare(a.Name, b.Name) })
	return pkgs, nil
}

func compare(name string, before, now []published) ManifestState {
	ms := ManifestState{Name: name, Count: len(now)}
	old := map[string]string{}
	for _, p := range before {
		old[p.Name] = p.EVR
	}
	for _, p := range now {
		evr, had := old[p.Name]
		delete(old, p.Name)
		mp := p.ManifestPackage
		switch {
		case len(before) == 0:
		case !had:
			ms.Added = append(ms.Added, p.Name)
		case evr != p.EVR:
			mp.Changed = true
			ms.Updated = append(ms.Updated, p.Name)
		}
		ms.Bytes += p.Size
		ms.Packages = append(ms.Packages, mp)
	}
	for _, p := range before {
		if _, gone := old[p.Name]; gone {
			ms.Removed = append(ms.Removed, p.Name)
		}
	}
	return ms
}

// linkOrCopy shares the bytes with the cache where both are on one file system.
func linkOrCopy(src, dst string) error {
	if a, err := os.Stat(src); err == nil {
		if b, err := os.Stat(dst); err == nil && os.SameFile(a, b) {
			return nil
		}
	}
	if err := os.Remove(dst); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Link(src, dst); err == nil {
		return nil
	}
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// writeRepo makes the metadata of one state in a folder beside the old one and
// swaps them.
func writeRepo(ctx context.Context, o Options, key signingKey, st State, pkgs, before []published) error {
	dir, err := filepath.Abs(filepath.Join(o.Out, st.Name()))
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, ".repodata-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	compsFile := filepath.Join(tmp, "comps.xml")
	if err := os.WriteFile(compsFile, comps(pkgs), 0o644); err != nil {
		return err
	}
	revision := strconv.Itoa(ownEpoch + st.Number)
	cmd := exec.CommandContext(ctx, "createrepo_c", "--quiet", "--outputdir", tmp, "--groupfile", compsFile,
		"--no-database", "--revision", revision, "--set-timestamp-to-revision", "--workers", "2",
		"--general-compress-type", "gz", "--distro", "testdistro "+strconv.Itoa(st.Number), dir)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+revision)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("createrepo_c: %w: %s", err, tail(out, 800))
	}
	data := filepath.Join(tmp, "repodata")
	if len(before) > 0 {
		if err := addUpdateinfo(ctx, tmp, data, st, pkgs, before, revision); err != nil {
			return err
		}
	}
	if err := key.signFile(ctx, filepath.Join(data, "repomd.xml")); err != nil {
		return err
	}
	final := filepath.Join(dir, "repodata")
	if err := os.RemoveAll(final); err != nil {
		return err
	}
	if err := os.Rename(data, final); err != nil {
		return err
	}
	return writeCompose(dir, filepath.Join(filepath.Dir(dir), keyName), o)
}

func addUpdateinfo(ctx context.Context, tmp, data string, st State, pkgs, before []published, revision string) error {
	file := filepath.Join(tmp, "updateinfo.xml")
	if err := os.WriteFile(file, updateinfo(st.Number, pkgs, before), 0o644); err != nil {
		return err
	}
	if err := os.Chtimes(file, fixedTime, fixedTime); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "modifyrepo_c", "--mdtype=updateinfo", file, data)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+revision)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("modifyrepo_c: %w: %s", err, tail(out, 800))
	}
	// modifyrepo_c dates its record with the clock.
	repomd := filepath.Join(data, "repomd.xml")
	text, err := os.ReadFile(repomd)
	if err != nil {
		return err
	}
	text = timestampTag.ReplaceAll(text, []byte("<timestamp>"+revision+"</timestamp>"))
	return os.WriteFile(repomd, text, 0o644)
}

var timestampTag = regexp.MustCompile(`<timestamp>[0-9]+</timestamp>`)

// writeCompose leaves a treefile and its .repo file, ready to be composed, and
// the same .repo file where package managers expect one.
func writeCompose(dir, keyFile string, o Options) error {
	repo := strings.NewReplacer("@BASEURL@", fileURL(dir), "@GPGKEY@", fileURL(keyFile)).Replace(o.RepoTemplate)
	compose := filepath.Join(dir, "compose")
	if err := os.MkdirAll(compose, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		filepath.Join(dir, "testdistro.repo"):     repo,
		filepath.Join(compose, "testdistro.repo"): repo,
		filepath.Join(compose, "treefile.toml"):   o.Treefile,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func fileURL(p string) string { return (&url.URL{Scheme: "file", Path: p}).String() }

// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// Names in the folder of extensions. Source: rpm-ostree's "compose extensions".
const (
	extensionsIndex = "extensions.json"
	extensionsState = ".rpm-ostree-state-chksum"
	maxIndex        = 16 << 20
)

// Write downloads the packages into dst, verified, and describes them in
// extensions.json. Packages that an earlier run put there and that are no longer needed
// go. changed is false where the folder was as wanted.
func (p *ExtensionsPlan) Write(ctx context.Context, src Sources, dst *fsx.Dir) (changed bool, err error) {
	src.fill()
	state, err := p.state()
	if err != nil {
		return false, err
	}
	same, err := p.written(dst, state)
	if same || err != nil {
		return false, err
	}
	old, err := previousFiles(dst)
	if err != nil {
		return false, err
	}
	plan := &Plan{Arch: p.Arch, Repos: p.repos}
	for _, k := range p.Packages {
		plan.Packages = append(plan.Packages, k.PlannedPackage)
	}
	files, err := fetchPackages(ctx, plan, src, nil)
	if err != nil {
		return false, err
	}
	for i, k := range p.Packages {
		if err := copyPackage(dst, k.File, files[i]); err != nil {
			return false, fmt.Errorf("write extension %s: %w", k.File, err)
		}
		delete(old, k.File)
	}
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return false, err
	}
	if err := dst.WriteFileAtomic(extensionsIndex, append(data, '\n'), 0o644); err != nil {
		return false, err
	}
	for name := range old {
		if err := dst.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("remove former extension: %w", err)
		}
	}
	// Last: a run that was interrupted is done again.
	return true, dst.WriteFileAtomic(extensionsState, []byte(state), 0o644)
}

// state covers all that Write writes.
func (p *ExtensionsPlan) state() (string, error) {
	h := sha256.New()
	for _, k := range p.Packages {
		field(h, []byte(k.NEVRA()+" "+k.Checksum+" "+string(k.Kind)))
	}
	data, err := json.Marshal(p.Extensions)
	if err != nil {
		return "", fmt.Errorf("encode extensions: %w", err)
	}
	field(h, data)
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (p *ExtensionsPlan) written(dst *fsx.Dir, state string) (bool, error) {
	data, err := dst.ReadFile(extensionsState, maxIndex)
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(data) != state {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, k := range p.Packages {
		st, err := dst.Lstat(k.File)
		if errors.Is(err, fs.ErrNotExist) || err == nil && (!st.IsRegular() || st.Size != k.Size) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// previousFiles are those of an earlier run, by its index. What else is in the folder
// belongs to others.
func previousFiles(dst *fsx.Dir) (map[string]bool, error) {
	out := map[string]bool{}
	data, err := dst.ReadFile(extensionsIndex, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	var index struct {
		Packages []struct {
			File string `json:"file"`
		} `json:"rpms"`
	}
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of an earlier run (remove it to begin anew): %w", extensionsIndex, err)
	}
	for _, k := range index.Packages {
		if k.File == path.Base(k.File) && strings.HasSuffix(k.File, ".rpm") {
			out[k.File] = true
		}
	}
	return out, nil
}

func copyPackage(dst *fsx.Dir, name string, pkg localPackage) (err error) {
	in, err := pkg.file.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := dst.CreateAtomic(name, 0o644)
	if err != nil {
		return err
	}
	defer out.Cancel()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Commit()
}

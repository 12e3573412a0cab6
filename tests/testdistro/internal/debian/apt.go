// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNoIndex says that apt has no package lists, or only some of those needed.
var ErrNoIndex = errors.New("apt has no package lists for a Debian main and security suite: run `apt-get update`, and see that both are configured")

const aptHelper = "/usr/lib/apt/apt-helper"

// Archive is what apt is configured to offer, split by how it is used.
type Archive struct {
	Release  []*Package // the point release
	Security []*Package // the security suite and stable updates
	Codename string
	Mirror   string // address of the point release's archive
}

// LoadArchive reads the package lists that `apt-get update` stored.
func LoadArchive(ctx context.Context) (*Archive, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format",
		"$(CODENAME)|$(LABEL)|$(COMPONENT)|$(ARCHITECTURE)|$(FILENAME)|$(REPO_URI)", "Identifier: Packages").Output()
	if err != nil {
		return nil, fmt.Errorf("list apt index files: %w", err)
	}
	a := &Archive{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 6 || f[2] != "main" || (f[3] != "amd64" && f[3] != "all") {
			continue
		}
		suite := Suite{Codename: f[0], Security: f[1] == "Debian-Security"}
		list, err := readIndexFile(ctx, f[4], suite)
		if err != nil {
			return nil, err
		}
		switch {
		case suite.Security || strings.Contains(suite.Codename, "-"):
			a.Security = append(a.Security, list...)
		case f[1] == "Debian":
			a.Release = append(a.Release, list...)
			a.Codename, a.Mirror = suite.Codename, f[5]
		}
	}
	if len(a.Release) == 0 || len(a.Security) == 0 {
		return nil, ErrNoIndex
	}
	return a, nil
}

func readIndexFile(ctx context.Context, path string, suite Suite) ([]*Package, error) {
	cmd := exec.CommandContext(ctx, aptHelper, "cat-file", path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	list, perr := ReadPackages(pipe, suite)
	if perr != nil {
		_, _ = io.Copy(io.Discard, pipe)
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("read %s: %w: %s", path, err, stderr.String())
	}
	if perr != nil {
		return nil, fmt.Errorf("read %s: %w", path, perr)
	}
	return list, nil
}

// DebPath names the cached file of p.
func DebPath(dir string, p *Package) string {
	return filepath.Join(dir, p.SHA256+".deb")
}

// downloadBatch packages go into one apt-get call: few enough that progress
// shows, many enough that connections are reused.
const downloadBatch = 40

// Download brings the missing packages into dir through apt and verifies each
// against the index. It reports how many packages and bytes came new.
func Download(ctx context.Context, dir string, list []*Package, report func(done, total int)) (int, int64, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, 0, err
	}
	var missing []*Package
	for _, p := range list {
		if st, err := os.Stat(DebPath(dir, p)); err != nil || st.Size() != p.Size {
			missing = append(missing, p)
		}
	}
	done, size := 0, int64(0)
	bySuite := map[string][]*Package{}
	for _, p := range missing {
		bySuite[p.Suite.Config] = append(bySuite[p.Suite.Config], p)
	}
	var batches [][]*Package
	for _, list := range bySuite {
		batches = slices.AppendSeq(batches, slices.Chunk(list, downloadBatch))
	}
	for _, batch := range batches {
		if err := downloadSome(ctx, dir, batch); err != nil {
			return done, size, err
		}
		done += len(batch)
		for _, p := range batch {
			size += p.Size
		}
		report(done, len(missing))
	}
	return done, size, nil
}

// downloadSome takes packages of one apt configuration.
func downloadSome(ctx context.Context, dir string, batch []*Package) error {
	tmp, err := os.MkdirTemp(dir, "incoming-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	args := []string{"download", "-qq", "-o", "APT::Sandbox::User=root"}
	want := map[string]*Package{}
	for _, p := range batch {
		args = append(args, p.Name+":"+p.Arch+"="+p.Version)
		want[p.SHA256] = p
	}
	for i, a := range args {
		args[i] = strings.Replace(a, ":all=", "=", 1)
	}
	cmd := aptGet(ctx, batch[0].Suite.Config, args...)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("download %d packages: %w: %s", len(batch), err, strings.TrimSpace(string(out)))
	}
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(tmp, e.Name())
		sum, err := FileSHA256(path)
		if err != nil {
			return err
		}
		p := want[sum]
		if p == nil {
			return fmt.Errorf("download %s: its SHA-256 %s is not in the index", e.Name(), sum)
		}
		if err := os.Rename(path, DebPath(dir, p)); err != nil {
			return err
		}
		delete(want, sum)
	}
	for _, p := range want {
		return fmt.Errorf("download %s %s: apt fetched no such file", p.Name, p.Version)
	}
	return nil
}

// FileSHA256 returns the hex SHA-256 of a file.
func FileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// maxAccounts bounds an account file.
const maxAccounts = 8 << 20

// Accounts are the contents of account files, in the formats of passwd(5),
// group(5), shadow(5) and gshadow(5). Their entries keep their ids in a tree
// that starts with them.
type Accounts struct{ Passwd, Group, Shadow, GShadow string }

// LoadAccounts reads the accounts of a commit, both those in usr/etc and those
// that were split off to usr/lib. A commit without any gives empty Accounts.
func LoadAccounts(ctx context.Context, repo *ostree.Repo, commit ostree.Checksum) (Accounts, error) {
	var a Accounts
	for _, f := range []struct {
		text  *string
		paths []string
	}{
		{&a.Passwd, []string{"/usr/etc/passwd", "/usr/lib/passwd"}},
		{&a.Group, []string{"/usr/etc/group", "/usr/lib/group"}},
		{&a.Shadow, []string{"/usr/etc/shadow"}},
		{&a.GShadow, []string{"/usr/etc/gshadow"}},
	} {
		for _, p := range f.paths {
			if err := ctx.Err(); err != nil {
				return Accounts{}, err
			}
			text, err := readCommitted(repo, commit, p)
			if err != nil {
				return Accounts{}, fmt.Errorf("read %s of commit %s: %w", p, commit, err)
			}
			*f.text = MergeAccounts(*f.text, text)
		}
	}
	return a, nil
}

func readCommitted(repo *ostree.Repo, commit ostree.Checksum, p string) (string, error) {
	n, err := repo.Lookup(commit, p)
	if errors.Is(err, ostree.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if n.IsDir {
		return "", errors.New("is a directory")
	}
	_, size, r, err := repo.OpenFile(n.File)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if size > maxAccounts {
		return "", fsx.ErrTooLarge
	}
	b, err := io.ReadAll(io.LimitReader(r, maxAccounts))
	return string(b), err
}

// MergeAccounts appends to first the entries of second whose names it lacks.
// Lines without a name are dropped.
func MergeAccounts(first, second string) string {
	var b strings.Builder
	seen := map[string]bool{}
	for _, text := range []string{first, second} {
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n")
			name, _, ok := strings.Cut(line, ":")
			if !ok || name == "" || seen[name] {
				continue
			}
			seen[name] = true
			b.WriteString(line)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// inject puts the accounts in front of what packages shipped.
func (a Accounts) inject(root *fsx.Dir) error {
	for _, f := range []struct {
		name, text string
		perm       fs.FileMode
	}{{"passwd", a.Passwd, 0o644}, {"group", a.Group, 0o644}, {"shadow", a.Shadow, 0o600}, {"gshadow", a.GShadow, 0o600}} {
		if f.text == "" {
			continue
		}
		name := "usr/etc/" + f.name
		old, err := root.ReadFile(name, maxAccounts)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		st, err := root.Lstat(name)
		if err == nil {
			f.perm = fs.FileMode(st.Mode & 0o777)
		}
		// A new file takes the name: the old one is the cache's.
		if err := root.WriteFileAtomic(name, []byte(MergeAccounts(f.text, string(old))), f.perm); err != nil {
			return err
		}
	}
	return nil
}

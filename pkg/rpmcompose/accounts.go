// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"fmt"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/postprocess"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// seedAccounts are the accounts that a tree starts with, so that they keep their
// ids: those of the files of check-passwd and check-groups where these have type
// file, else those of the previous commit. Source: rpm-ostree's treefile
// documentation, preserve-passwd.
func (r *run) seedAccounts() (assemble.Accounts, error) {
	m := r.plan.manifest
	switch {
	case !m.PreservePasswd:
		return assemble.Accounts{}, nil
	case m.CheckPasswd.Type != treefile.CheckFile:
		return r.accounts, nil
	}
	var a assemble.Accounts
	var err error
	if a.Passwd, err = externalText(m, treefile.RolePasswd, m.CheckPasswd.Filename); err != nil {
		return a, err
	}
	if a.Group, err = externalText(m, treefile.RoleGroup, m.CheckGroups.Filename); err != nil {
		return a, err
	}
	// Nobody can log in with these until an administrator sets a password.
	a.Shadow = shadowOf(a.Passwd, ":*::0:99999:7:::\n")
	a.GShadow = shadowOf(a.Group, ":::\n")
	return a, nil
}

func externalText(m *treefile.Manifest, role treefile.Role, name string) (string, error) {
	e, ok := m.External(role, name)
	if !ok {
		return "", fmt.Errorf("read %s: the treefile was loaded without it", name)
	}
	b, err := m.ReadExternal(e)
	return string(b), err
}

func shadowOf(accounts, rest string) string {
	var b strings.Builder
	for line := range strings.Lines(accounts) {
		if name, _, ok := strings.Cut(line, ":"); ok && name != "" {
			b.WriteString(name + rest)
		}
	}
	return b.String()
}

// checkListed compares the tree's accounts with those that the treefile lists, or
// with the previous commit's as far as accounts are gone (changed ids of those are
// found before, see checkAccounts).
func (r *run) checkListed(root *fsx.Dir) error {
	m := r.plan.manifest
	now, err := assemble.TreeAccounts(root)
	if err != nil {
		return fmt.Errorf("read accounts of the tree: %w", err)
	}
	checks := []postprocess.AccountCheck{
		{Key: "check-passwd", Users: true, Check: m.CheckPasswd, Ignore: m.IgnoreRemovedUsers, Now: now.Passwd},
		{Key: "check-groups", Check: m.CheckGroups, Ignore: m.IgnoreRemovedGroups, Now: now.Group},
	}
	for i, before := range []string{r.accounts.Passwd, r.accounts.Group} {
		c := &checks[i]
		c.Where, c.Want = m.Where(c.Key, -1).String(), before
		if c.Check.Type == treefile.CheckFile {
			if c.Want, err = externalText(m, treefile.Role(c.Key), c.Check.Filename); err != nil {
				return err
			}
		}
	}
	return postprocess.CheckAccounts(root, checks)
}

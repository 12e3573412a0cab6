// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// ErrDrift matches every *DriftError.
var ErrDrift = errors.New("ids of accounts changed")

// DriftError lists accounts whose ids are not those of the tree before. Files of
// /var keep their numbers across an update, so they would change hands.
type DriftError struct{ Changes []string }

// Error lists the changes, one a line.
func (e *DriftError) Error() string {
	return ErrDrift.Error() + ", files in /var would change hands:\n  " + strings.Join(e.Changes, "\n  ")
}

// Is makes errors.Is(err, ErrDrift) true.
func (e *DriftError) Is(target error) bool { return target == ErrDrift }

// TreeAccounts reads the accounts of a tree on disk, as LoadAccounts does from a
// commit.
func TreeAccounts(root *fsx.Dir) (Accounts, error) {
	var a Accounts
	for _, f := range []struct {
		text  *string
		paths []string
	}{{&a.Passwd, []string{"usr/etc/passwd", "usr/lib/passwd"}}, {&a.Group, []string{"usr/etc/group", "usr/lib/group"}},
		{&a.Shadow, []string{"usr/etc/shadow"}}, {&a.GShadow, []string{"usr/etc/gshadow"}}} {
		for _, p := range f.paths {
			b, err := root.ReadFileInRoot(p, maxAccounts)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return Accounts{}, err
			}
			*f.text = MergeAccounts(*f.text, string(b))
		}
	}
	return a, nil
}

// CheckDrift fails with a *DriftError where a user or group of both has another
// id now, or where a number now means an account of another name. An account
// that is gone is no drift.
func CheckDrift(before, now Accounts) error {
	var changes []string
	for _, f := range []struct {
		kind, before, now string
		columns           []string // names of the fields from the third on
	}{
		{"user", before.Passwd, now.Passwd, []string{"uid", "gid"}},
		{"group", before.Group, now.Group, []string{"gid"}},
	} {
		changes = append(changes, drift(f.kind, parseIDs(f.before, len(f.columns)), parseIDs(f.now, len(f.columns)), f.columns)...)
	}
	if len(changes) == 0 {
		return nil
	}
	return &DriftError{changes}
}

type ids struct {
	name   string
	values []string
}

func parseIDs(text string, n int) []ids {
	var out []ids
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) >= 2+n {
			out = append(out, ids{f[0], f[2 : 2+n]})
		}
	}
	return out
}

func drift(kind string, before, now []ids, columns []string) []string {
	var out []string
	have := map[string]ids{}
	for _, a := range now {
		have[a.name] = a
	}
	was := map[string][]string{} // names by the first number
	for _, a := range before {
		was[a.values[0]] = append(was[a.values[0]], a.name)
		b, ok := have[a.name]
		for i, column := range columns {
			if ok && a.values[i] != b.values[i] {
				out = append(out, fmt.Sprintf("%s %s: %s was %s and is %s", kind, a.name, column, a.values[i], b.values[i]))
			}
		}
	}
	for _, a := range now {
		names := was[a.values[0]]
		if len(names) == 0 || slices.Contains(names, a.name) {
			continue
		}
		// Reported above already where the account had another number.
		if !slices.ContainsFunc(before, func(b ids) bool { return b.name == a.name }) {
			out = append(out, fmt.Sprintf("%s %s: its %s %s was that of %s", kind, a.name, columns[0], a.values[0], strings.Join(names, ", ")))
		}
	}
	return out
}

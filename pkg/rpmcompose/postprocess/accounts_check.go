// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

// AccountCheck is one of the treefile keys check-passwd and check-groups with
// what it compares.
type AccountCheck struct {
	Key   string // for messages, as Where
	Where string
	Users bool // or groups
	Check treefile.Check
	// Ignore are accounts that may be gone; "*" stands for all.
	Ignore []string
	// Want is the text of the account file to compare with, for the types
	// "previous" and "file"; Now is the tree's.
	Want, Now string
}

// CheckAccounts fails where a listed account has other ids in the tree, or is
// gone though a file of the tree belongs to it and Ignore does not name it. For
// the type "previous" only the latter is looked at: assemble.CheckDrift finds
// changed ids. The error wraps assemble.ErrDrift. Source: rpm-ostree's treefile
// documentation, check-passwd, and its behaviour towards accounts without files.
func CheckAccounts(root *fsx.Dir, checks []AccountCheck) error {
	var problems []string
	for _, c := range checks {
		want := c.Check.Entries
		switch c.Check.Type {
		case treefile.CheckNone:
			continue
		case treefile.CheckPrevious, treefile.CheckFile:
			want = accountIDs(c.Want, c.Users)
		}
		now := accountIDs(c.Now, c.Users)
		if c.Check.Type != treefile.CheckPrevious {
			problems = append(problems, c.changed(want, now)...)
		}
		lost, err := c.lost(root, want, now)
		if err != nil {
			return err
		}
		problems = append(problems, lost...)
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w:\n  %s", assemble.ErrDrift, strings.Join(problems, "\n  "))
}

func (c AccountCheck) kind() string {
	if c.Users {
		return "user"
	}
	return "group"
}

func (c AccountCheck) text(i treefile.IDs) string {
	if c.Users {
		return fmt.Sprintf("uid %d, gid %d", i.UID, i.GID)
	}
	return fmt.Sprintf("gid %d", i.GID)
}

func (c AccountCheck) changed(want, now map[string]treefile.IDs) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if have, ok := now[name]; ok && have != want[name] {
			out = append(out, fmt.Sprintf("%s %s has %s instead of %s (%s: %s)", c.kind(), name, c.text(have), c.text(want[name]), c.Where, c.Key))
		}
	}
	return out
}

// lost lists the accounts that are gone though a file belongs to them.
func (c AccountCheck) lost(root *fsx.Dir, want, now map[string]treefile.IDs) ([]string, error) {
	gone := map[uint32]string{}
	for name, ids := range want {
		if _, ok := now[name]; !ok && !slices.Contains(c.Ignore, name) && !slices.Contains(c.Ignore, "*") {
			gone[ids.UID] = name
		}
	}
	if len(gone) == 0 {
		return nil, nil
	}
	paths := map[string]string{}
	err := walk(root, ".", func(_ *fsx.Dir, _, full string, st fsx.Stat) error {
		id := st.GID
		if c.Users {
			id = st.UID
		}
		if name, ok := gone[id]; ok && paths[name] == "" {
			paths[name] = full
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		out = append(out, fmt.Sprintf("%s %s (%s) is gone, but /%s belongs to it (%s: %s)", c.kind(), name, c.text(want[name]), paths[name], c.Where, c.Key))
	}
	return out, nil
}

// accountIDs reads passwd(5) or group(5), of which the first entry of a name
// counts; of a group both ids are its own.
func accountIDs(text string, users bool) map[string]treefile.IDs {
	out := map[string]treefile.IDs{}
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) < 4 || f[0] == "" {
			continue
		}
		second := f[2]
		if users {
			second = f[3]
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(second, 10, 32)
		if _, ok := out[f[0]]; ok || err1 != nil || err2 != nil {
			continue
		}
		out[f[0]] = treefile.IDs{UID: uint32(uid), GID: uint32(gid)}
	}
	return out
}

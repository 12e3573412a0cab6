// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// maxConf bounds a configuration or account file.
const maxConf = 8 << 20

// sysusersLine is one line of sysusers.d(5).
type sysusersLine struct {
	typ, name, id, gecos, home, shell string
	source                            string // for messages
}

// Accounts of an automatic id are spread over this range by a hash of their name
// and not counted down: the ids of one package's users then do not depend on
// which other packages are in the tree.
const (
	autoFirst = 400
	autoLast  = 998
)

// Sysusers makes the accounts that sysusers.d(5) files of the tree declare, as
// systemd-sysusers --root would, with one difference: automatic ids depend on
// the name alone unless they are taken. Existing accounts keep their ids. Files
// are replaced, never written in place.
func Sysusers(root *fsx.Dir) error {
	lines, err := readSysusers(root)
	if err != nil {
		return fmt.Errorf("read sysusers.d: %w", err)
	}
	db, err := loadAccounts(root)
	if err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	for _, l := range lines {
		if err := db.apply(root, l); err != nil {
			return fmt.Errorf("%s: %s: %w", l.source, l.name, err)
		}
	}
	if err := db.store(root); err != nil {
		return fmt.Errorf("write accounts: %w", err)
	}
	return nil
}

// readSysusers lists all lines: declared ids first so that automatic ones keep
// out of their way, then groups before users before members.
func readSysusers(root *fsx.Dir) ([]sysusersLine, error) {
	files, err := confFiles(root, "sysusers.d")
	if err != nil {
		return nil, err
	}
	var out []sysusersLine
	for _, f := range files {
		for n, raw := range strings.Split(f.text, "\n") {
			fields, err := splitConf(raw)
			if err != nil {
				return nil, fmt.Errorf("%s line %d: %w", f.name, n+1, err)
			}
			if len(fields) == 0 {
				continue
			}
			for len(fields) < 6 {
				fields = append(fields, "-")
			}
			for i := range fields {
				fields[i] = strings.ReplaceAll(fields[i], "%%", "%")
			}
			l := sysusersLine{typ: strings.TrimRight(fields[0], "!"), name: fields[1], id: dash(fields[2]), gecos: dash(fields[3]),
				home: dash(fields[4]), shell: dash(fields[5]), source: fmt.Sprintf("%s line %d", f.name, n+1)}
			if err := l.check(); err != nil {
				return nil, fmt.Errorf("%s: %w", l.source, err)
			}
			out = append(out, l)
		}
	}
	slices.SortStableFunc(out, func(a, b sysusersLine) int { return cmp.Compare(a.rank(), b.rank()) })
	return out, nil
}

func (l sysusersLine) rank() int {
	order := map[string]int{"r": 0, "g": 1, "u": 3, "m": 5}[l.typ]
	if l.id == "" && (l.typ == "g" || l.typ == "u") {
		order++
	}
	return order
}

func (l sysusersLine) check() error {
	switch l.typ {
	case "g", "u":
		if !validAccount(l.name) {
			return fmt.Errorf("account name %q", l.name)
		}
	case "m":
		if !validAccount(l.name) || !validAccount(l.id) {
			return fmt.Errorf("account name %q or %q", l.name, l.id)
		}
	case "r":
	default:
		return fmt.Errorf("unknown type %q", l.typ)
	}
	if strings.ContainsAny(l.gecos+l.home+l.shell, ":\n") {
		return errors.New("colon in a field")
	}
	return nil
}

func dash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

func validAccount(s string) bool {
	if s == "" || len(s) > 256 || s[0] == '-' {
		return false
	}
	for _, c := range s {
		if c <= ' ' || c == ':' || c == ',' || c == '/' || c > '~' {
			return false
		}
	}
	return true
}

type confFile struct{ name, text string }

// confFiles reads NAME/*.conf of usr/lib and usr/etc in order of file names; a
// file in etc, or a link to /dev/null there, hides one of the same name in usr.
func confFiles(root *fsx.Dir, name string) ([]confFile, error) {
	found := map[string]string{}
	for _, dir := range []string{"usr/lib/" + name, "usr/etc/" + name} {
		entries, err := root.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name, ".conf") {
				found[e.Name] = path.Join(dir, e.Name)
			}
		}
	}
	names := make([]string, 0, len(found))
	for n := range found {
		names = append(names, n)
	}
	slices.Sort(names)
	var out []confFile
	for _, n := range names {
		if target, err := root.Readlink(found[n]); err == nil && path.Clean(target) == "/dev/null" {
			continue
		}
		text, err := root.ReadFileInRoot(found[n], maxConf)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, confFile{"/" + found[n], string(text)})
	}
	return out, nil
}

// splitConf splits a line into fields: blanks separate, quotes and backslashes
// protect, # at the start is a comment.
func splitConf(line string) ([]string, error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return nil, nil
	}
	var out []string
	var cur strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && i+1 < len(line):
			n := 1
			if line[i+1] == 'x' && i+3 < len(line) {
				if v, err := strconv.ParseUint(line[i+2:i+4], 16, 8); err == nil {
					cur.WriteByte(byte(v))
					n = 3
				}
			} else {
				cur.WriteByte(line[i+1])
			}
			in = true
			i += n
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, in = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if in {
				out = append(out, cur.String())
				cur.Reset()
				in = false
			}
		default:
			cur.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, errors.New("quote is not closed")
	}
	if in {
		out = append(out, cur.String())
	}
	return out, nil
}

// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
)

// table is an account file: lines of colon-separated fields, in order.
type table struct {
	name    string
	perm    fs.FileMode
	lines   [][]string
	index   map[string]int
	present bool
	changed bool
}

type accountDB struct{ passwd, group, shadow, gshadow *table }

func loadAccounts(root *fsx.Dir) (*accountDB, error) {
	db := &accountDB{
		passwd: &table{name: "passwd", perm: 0o644}, group: &table{name: "group", perm: 0o644},
		shadow: &table{name: "shadow", perm: 0o600}, gshadow: &table{name: "gshadow", perm: 0o600},
	}
	for _, t := range db.tables() {
		if err := t.load(root); err != nil {
			return nil, err
		}
	}
	return db, nil
}

func (db *accountDB) tables() []*table { return []*table{db.passwd, db.group, db.shadow, db.gshadow} }

func (t *table) load(root *fsx.Dir) error {
	t.index = map[string]int{}
	b, err := root.ReadFileInRoot("usr/etc/"+t.name, maxConf)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	t.present = true
	for line := range strings.Lines(string(b)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(fields) > 1 {
			t.index[fields[0]] = len(t.lines)
		}
		t.lines = append(t.lines, fields)
	}
	return nil
}

func (t *table) find(name string) []string {
	if i, ok := t.index[name]; ok {
		return t.lines[i]
	}
	return nil
}

func (t *table) add(fields ...string) {
	if _, ok := t.index[fields[0]]; ok {
		return
	}
	t.index[fields[0]] = len(t.lines)
	t.lines = append(t.lines, fields)
	t.changed = true
}

// id gives the numeric field at column i of an entry.
func (t *table) id(name string, i int) (uint32, bool) {
	f := t.find(name)
	if len(f) <= i {
		return 0, false
	}
	n, err := strconv.ParseUint(f[i], 10, 32)
	return uint32(n), err == nil
}

// taken tells whether a number stands in column 2 of any entry.
func (t *table) taken(id uint32) bool {
	want := strconv.FormatUint(uint64(id), 10)
	return slices.ContainsFunc(t.lines, func(f []string) bool { return len(f) > 2 && f[2] == want })
}

func (t *table) store(root *fsx.Dir) error {
	if !t.changed {
		return nil
	}
	var b strings.Builder
	for _, f := range t.lines {
		b.WriteString(strings.Join(f, ":"))
		b.WriteByte('\n')
	}
	name := "usr/etc/" + t.name
	if st, err := root.Lstat(name); err == nil && st.IsRegular() {
		t.perm = fs.FileMode(st.Mode & 0o777)
	}
	return root.WriteFileAtomic(name, []byte(b.String()), t.perm)
}

func (db *accountDB) store(root *fsx.Dir) error {
	for _, t := range db.tables() {
		if err := t.store(root); err != nil {
			return err
		}
	}
	return nil
}

func (db *accountDB) apply(root *fsx.Dir, l sysusersLine) error {
	switch l.typ {
	case "g":
		id, fixed, err := db.wanted(root, l.id, true)
		if err != nil {
			return err
		}
		_, err = db.addGroup(l.name, id, fixed)
		return err
	case "u":
		return db.applyUser(root, l)
	case "m":
		return db.addMember(l.name, l.id)
	}
	return nil
}

// wanted reads an id field: nothing, a number, or a path whose owner counts.
func (db *accountDB) wanted(root *fsx.Dir, id string, group bool) (uint32, bool, error) {
	if id == "" || id == "-" {
		return 0, false, nil
	}
	if strings.HasPrefix(id, "/") {
		st, err := root.Lstat(strings.TrimPrefix(id, "/"))
		if errors.Is(err, fs.ErrNotExist) {
			return 0, false, nil
		}
		if group {
			return st.GID, err == nil, err
		}
		return st.UID, err == nil, err
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil || n == 0xffff || n == 0xffffffff {
		return 0, false, fmt.Errorf("id %q", id)
	}
	return uint32(n), true, nil
}

func (db *accountDB) applyUser(root *fsx.Dir, l sysusersLine) error {
	if db.passwd.find(l.name) != nil {
		return nil
	}
	uidText, groupText, _ := strings.Cut(l.id, ":")
	uid, fixed, err := db.wanted(root, uidText, false)
	if err != nil {
		return err
	}
	gid, err := db.primaryGroup(l.name, groupText, uid, fixed)
	if err != nil {
		return err
	}
	if fixed && db.passwd.taken(uid) {
		fixed = false // as systemd does: the number is taken, the account still wanted
	}
	if !fixed {
		if uid, err = db.freeID(l.name, gid, groupText == "", db.passwd.taken); err != nil {
			return err
		}
	}
	home, shell := l.home, l.shell
	if home == "" {
		home = "/"
	}
	if shell == "" {
		shell = "/usr/sbin/nologin"
		if uid == 0 {
			shell = "/bin/sh"
		}
	}
	db.passwd.add(l.name, "x", utoa(uid), utoa(gid), l.gecos, home, shell)
	db.shadow.add(l.name, "!*", "", "", "", "", "", "", "")
	return nil
}

// primaryGroup finds or makes the group of a user.
func (db *accountDB) primaryGroup(user, text string, uid uint32, fixed bool) (uint32, error) {
	if text == "" {
		return db.addGroup(user, uid, fixed)
	}
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		if db.group.taken(uint32(n)) {
			return uint32(n), nil
		}
		return db.addGroup(user, uint32(n), true)
	}
	if gid, ok := db.group.id(text, 2); ok {
		return gid, nil
	}
	return 0, fmt.Errorf("group %q does not exist", text)
}

func (db *accountDB) addGroup(name string, gid uint32, fixed bool) (uint32, error) {
	if have, ok := db.group.id(name, 2); ok {
		return have, nil
	}
	if fixed && db.group.taken(gid) {
		fixed = false
	}
	if !fixed {
		prefer, ok := db.passwd.id(name, 2)
		var err error
		if gid, err = db.freeID(name, prefer, ok, func(id uint32) bool { return db.group.taken(id) || db.passwd.taken(id) && id != prefer }); err != nil {
			return 0, err
		}
	}
	db.group.add(name, "x", utoa(gid), "")
	db.gshadow.add(name, "!*", "", "")
	return gid, nil
}

// freeID prefers a given id, then the one that the name hashes to, then the next
// ones below.
func (db *accountDB) freeID(name string, prefer uint32, use bool, taken func(uint32) bool) (uint32, error) {
	if use && prefer != 0 && !taken(prefer) {
		return prefer, nil
	}
	const span = autoLast - autoFirst + 1
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	start := h.Sum32() % span
	for i := uint32(0); i < span; i++ {
		id := autoFirst + (start+span-i)%span
		if !taken(id) {
			return id, nil
		}
	}
	return 0, errors.New("no system id is free")
}

func (db *accountDB) addMember(user, group string) error {
	if db.passwd.find(user) == nil {
		if err := db.applyUser(nil, sysusersLine{name: user}); err != nil {
			return err
		}
	}
	if _, err := db.addGroup(group, 0, false); err != nil {
		return err
	}
	for _, t := range []*table{db.group, db.gshadow} {
		f := t.find(group)
		if len(f) < 4 {
			continue
		}
		members := strings.FieldsFunc(f[3], func(r rune) bool { return r == ',' })
		if !slices.Contains(members, user) {
			f[3] = strings.Join(append(members, user), ",")
			t.changed = true
		}
	}
	return nil
}

func utoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// IDs looks user and group names up in the tree's account files.
type IDs struct{ db *accountDB }

// LoadIDs reads the account files of a tree.
func LoadIDs(root *fsx.Dir) (*IDs, error) {
	db, err := loadAccounts(root)
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	return &IDs{db}, nil
}

// User gives a user's id. A name of digits stands for itself.
func (i *IDs) User(name string) (uint32, bool) { return lookup(i.db.passwd, name) }

// Group gives a group's id. A name of digits stands for itself.
func (i *IDs) Group(name string) (uint32, bool) { return lookup(i.db.group, name) }

func lookup(t *table, name string) (uint32, bool) {
	if name == "root" || name == "" {
		return 0, true
	}
	if id, ok := t.id(name, 2); ok {
		return id, true
	}
	n, err := strconv.ParseUint(name, 10, 32)
	return uint32(n), err == nil
}

// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"errors"
	"path"
	"strconv"
	"strings"
	"syscall"

	lua "github.com/yuin/gopher-lua"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// posixFuncs is the part of rpm's posix table that acts on files.
func (r *luaRun) posixFuncs() map[string]lua.LGFunction {
	funcs := map[string]lua.LGFunction{
		"stat": r.posixStat, "access": r.posixAccess, "mkdir": r.posixMkdir, "rmdir": r.posixRmdir, "unlink": r.posixUnlink,
		"symlink": r.posixSymlink, "link": r.posixLink, "readlink": r.posixReadlink, "dir": r.posixDir, "files": r.posixFiles,
		"exec": r.posixExec, "wait": r.posixWait, childFunc: r.posixChild,
		"chmod": r.posixChmod, "chown": r.posixChown, "utime": func(l *lua.LState) int { return status(l, "", nil) },
		"getcwd":  func(l *lua.LState) int { l.Push(lua.LString("/")); return 1 },
		"umask":   func(l *lua.LState) int { l.Push(lua.LString("rwxr-xr-x")); return 1 },
		"getenv":  func(l *lua.LState) int { l.Push(lua.LNil); return 1 },
		"setenv":  func(l *lua.LState) int { return status(l, "", nil) },
		"getuser": r.posixUser, "errno": func(l *lua.LState) int { l.Push(lua.LString("")); l.Push(lua.LNumber(0)); return 2 },
		"uname": func(l *lua.LState) int { l.Push(lua.LString("Linux")); return 1 },
		"sleep": func(l *lua.LState) int { l.Push(lua.LNumber(0)); return 1 },
	}
	for _, name := range []string{"fork", "kill", "chdir", "mkfifo", "redirect2null", "ctermid", "ttyname", "setuid", "setgid"} {
		funcs[name] = func(l *lua.LState) int {
			l.RaiseError("posix.%s is not supported in a composed tree; rpm.execute runs a program", name)
			return 0
		}
	}
	return funcs
}

func errnoOf(err error) int {
	var e syscall.Errno
	if errors.As(err, &e) {
		return int(e)
	}
	return int(syscall.EIO)
}

func errnoText(err error) string {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e.Error()
	}
	return err.Error()
}

func (r *luaRun) stat(p string) (fsx.Stat, error) {
	var st fsx.Stat
	err := r.with(p, func(d *fsx.Dir, name string) (err error) {
		st, err = d.Lstat(name)
		return err
	})
	return st, err
}

// posixStat gives a table, or with a second argument one field of it.
func (r *luaRun) posixStat(l *lua.LState) int {
	p := l.CheckString(1)
	st, err := r.stat(p)
	if err != nil {
		return failure(l, p, err)
	}
	kind := map[uint32]string{syscall.S_IFREG: "regular", syscall.S_IFDIR: "directory", syscall.S_IFLNK: "link", syscall.S_IFCHR: "character device",
		syscall.S_IFBLK: "block device", syscall.S_IFIFO: "fifo", syscall.S_IFSOCK: "socket"}[st.Mode&rpm.ModeTypeMask]
	t := l.NewTable()
	t.RawSetString("mode", lua.LString(modeString(st.Mode)))
	t.RawSetString("_mode", lua.LNumber(st.Mode&0o7777))
	t.RawSetString("ino", lua.LNumber(st.Ino))
	t.RawSetString("dev", lua.LNumber(st.Dev))
	t.RawSetString("nlink", lua.LNumber(st.Nlink))
	t.RawSetString("uid", lua.LNumber(st.UID))
	t.RawSetString("gid", lua.LNumber(st.GID))
	t.RawSetString("size", lua.LNumber(st.Size))
	t.RawSetString("mtime", lua.LNumber(st.Mtime.Unix()))
	t.RawSetString("atime", lua.LNumber(st.Mtime.Unix()))
	t.RawSetString("ctime", lua.LNumber(st.Mtime.Unix()))
	t.RawSetString("type", lua.LString(kind))
	if field := l.OptString(2, ""); field != "" {
		l.Push(t.RawGetString(field))
		return 1
	}
	l.Push(t)
	return 1
}

func modeString(mode uint32) string {
	b := []byte("rwxrwxrwx")
	for i := range b {
		if mode&(1<<(8-i)) == 0 {
			b[i] = '-'
		}
	}
	return string(b)
}

// posixAccess follows links, as access(2) does.
func (r *luaRun) posixAccess(l *lua.LState) int {
	p, want := l.CheckString(1), l.OptString(2, "f")
	f, err := r.root.OpenInRoot(path.Clean("/"+p), openPath, 0)
	if err != nil {
		return failure(l, p, err)
	}
	defer f.Close()
	st, err := fsx.FStat(f)
	if err == nil && strings.Contains(want, "x") && !st.IsDir() && st.Mode&0o111 == 0 {
		err = syscall.EACCES
	}
	return status(l, p, err)
}

func (r *luaRun) posixMkdir(l *lua.LState) int {
	p := l.CheckString(1)
	return status(l, p, r.with(p, func(d *fsx.Dir, name string) error { return d.Mkdir(name, 0o755) }))
}

func (r *luaRun) posixRmdir(l *lua.LState) int {
	p := l.CheckString(1)
	return status(l, p, r.with(p, func(d *fsx.Dir, name string) error {
		st, err := d.Lstat(name)
		if err == nil && !st.IsDir() {
			err = syscall.ENOTDIR
		}
		if err != nil {
			return err
		}
		return d.Remove(name)
	}))
}

func (r *luaRun) unlink(p string) error {
	return r.with(p, func(d *fsx.Dir, name string) error {
		st, err := d.Lstat(name)
		if err == nil && st.IsDir() {
			err = syscall.EISDIR
		}
		if err != nil {
			return err
		}
		return d.Remove(name)
	})
}

func (r *luaRun) posixUnlink(l *lua.LState) int {
	p := l.CheckString(1)
	return status(l, p, r.unlink(p))
}

func (r *luaRun) posixSymlink(l *lua.LState) int {
	target, p := l.CheckString(1), l.CheckString(2)
	return status(l, p, r.with(p, func(d *fsx.Dir, name string) error { return d.Symlink(target, name) }))
}

func (r *luaRun) posixLink(l *lua.LState) int {
	old, p := l.CheckString(1), l.CheckString(2)
	return status(l, p, r.with(old, func(od *fsx.Dir, oname string) error {
		return r.with(p, func(d *fsx.Dir, name string) error { return od.Link(oname, d, name) })
	}))
}

func (r *luaRun) posixReadlink(l *lua.LState) int {
	p := l.CheckString(1)
	var target string
	err := r.with(p, func(d *fsx.Dir, name string) (err error) {
		target, err = d.Readlink(name)
		return err
	})
	if err != nil {
		return failure(l, p, err)
	}
	l.Push(lua.LString(target))
	return 1
}

func (r *luaRun) list(p string) ([]string, error) {
	d, err := r.root.OpenDirInRoot("." + path.Clean("/"+p))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(".")
	if err != nil {
		return nil, err
	}
	names := []string{".", ".."}
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names, nil
}

func (r *luaRun) posixDir(l *lua.LState) int {
	p := l.OptString(1, "/")
	names, err := r.list(p)
	if err != nil {
		return failure(l, p, err)
	}
	t := l.NewTable()
	for _, n := range names {
		t.Append(lua.LString(n))
	}
	l.Push(t)
	return 1
}

func (r *luaRun) posixFiles(l *lua.LState) int {
	p := l.OptString(1, "/")
	names, err := r.list(p)
	if err != nil {
		return failure(l, p, err)
	}
	l.Push(l.NewFunction(func(l *lua.LState) int {
		if len(names) == 0 {
			l.Push(lua.LNil)
			return 1
		}
		l.Push(lua.LString(names[0]))
		names = names[1:]
		return 1
	}))
	return 1
}

func (r *luaRun) posixChmod(l *lua.LState) int {
	p := l.CheckString(1)
	return status(l, p, r.with(p, func(d *fsx.Dir, name string) error {
		st, err := d.Lstat(name)
		if err != nil {
			return err
		}
		mode, err := parseMode(l.Get(2), st.Mode&0o7777)
		if err != nil {
			return err
		}
		return d.Chmod(name, mode)
	}))
}

// parseMode reads a number, octal digits, "rwxr-xr-x" or "u+rwx,go-w".
func parseMode(v lua.LValue, old uint32) (uint32, error) {
	if n, ok := v.(lua.LNumber); ok {
		return uint32(n) & 0o7777, nil
	}
	s := v.String()
	if n, err := strconv.ParseUint(s, 8, 12); err == nil {
		return uint32(n), nil
	}
	if len(s) == 9 && strings.Trim(s, "rwxst-") == "" {
		var m uint32
		for i, c := range s {
			if c != '-' {
				m |= 1 << (8 - i)
			}
		}
		return m, nil
	}
	for clause := range strings.SplitSeq(s, ",") {
		at := strings.IndexAny(clause, "+-=")
		if at < 0 {
			return 0, syscall.EINVAL
		}
		var who, bits uint32
		for _, c := range clause[:at] {
			who |= map[rune]uint32{'u': 0o700, 'g': 0o070, 'o': 0o007, 'a': 0o777}[c]
		}
		if at == 0 {
			who = 0o777
		}
		for _, c := range clause[at+1:] {
			bits |= map[rune]uint32{'r': 0o444, 'w': 0o222, 'x': 0o111}[c]
		}
		switch clause[at] {
		case '+':
			old |= who & bits
		case '-':
			old &^= who & bits
		case '=':
			old = old&^who | who&bits
		}
	}
	return old, nil
}

func (r *luaRun) posixChown(l *lua.LState) int {
	p := l.CheckString(1)
	ids, err := LoadIDs(r.root)
	if err != nil {
		return failure(l, p, err)
	}
	uid, ok := ids.User(l.Get(2).String())
	gid, ok2 := ids.Group(l.Get(3).String())
	if !ok || !ok2 {
		return failure(l, p, syscall.EINVAL)
	}
	return status(l, p, r.with(p, func(d *fsx.Dir, name string) error { return d.Lchown(name, int(uid), int(gid)) }))
}

func (r *luaRun) posixUser(l *lua.LState) int {
	l.Push(lua.LString("root"))
	return 1
}

// osFuncs is Lua's os table for the tree.
func (r *luaRun) osFuncs() map[string]lua.LGFunction {
	epoch := r.Epoch
	return map[string]lua.LGFunction{
		"remove": func(l *lua.LState) int {
			p := l.CheckString(1)
			err := r.with(p, func(d *fsx.Dir, name string) error { return d.Remove(name) })
			return truth(l, p, err)
		},
		"rename": func(l *lua.LState) int {
			old, p := l.CheckString(1), l.CheckString(2)
			return truth(l, old, r.rename(old, p))
		},
		"execute": func(l *lua.LState) int {
			if l.GetTop() == 0 {
				l.Push(lua.LTrue)
				return 1
			}
			return r.execute(l, []string{"/bin/sh", "-c", l.CheckString(1)})
		},
		"exit": func(l *lua.LState) int {
			code := 0
			switch v := l.Get(1).(type) {
			case lua.LNumber:
				code = int(v)
			case lua.LBool:
				if !bool(v) {
					code = 1
				}
			}
			ud := l.NewUserData()
			ud.Value = &luaExit{code}
			l.Error(ud, 0)
			return 0
		},
		"getenv":    func(l *lua.LState) int { l.Push(lua.LNil); return 1 },
		"time":      func(l *lua.LState) int { l.Push(lua.LNumber(epoch)); return 1 },
		"clock":     func(l *lua.LState) int { l.Push(lua.LNumber(0)); return 1 },
		"date":      func(l *lua.LState) int { l.Push(lua.LString(strconv.FormatInt(epoch, 10))); return 1 },
		"setlocale": func(l *lua.LState) int { l.Push(lua.LString("C")); return 1 },
		"tmpname":   func(l *lua.LState) int { l.Push(lua.LString("/var/tmp/lua-" + strconv.Itoa(len(r.files)))); return 1 },
	}
}

// rename of a directory of the lower tree gives EXDEV, as overlayfs answers it;
// mv(1) in a shell script copes with it by copying, a Lua script has to as well.
func (r *luaRun) rename(old, p string) error {
	return r.with(old, func(od *fsx.Dir, oname string) error {
		return r.with(p, func(d *fsx.Dir, name string) error { return od.Rename(oname, d, name) })
	})
}

// truth pushes what Lua's own os functions return.
func truth(l *lua.LState, p string, err error) int {
	if err != nil {
		return failure(l, p, err)
	}
	l.Push(lua.LTrue)
	return 1
}

// execute runs a program in the sandbox and pushes what os.execute of Lua 5.4
// returns. A limit that was hit, or a damaged tree, ends the script.
func (r *luaRun) execute(l *lua.LState, argv []string) int {
	out, err := r.program(argv)
	_, _ = r.out.Write([]byte(out.Text))
	var failed *Error
	switch {
	case err == nil:
		l.Push(lua.LTrue)
		l.Push(lua.LString("exit"))
		l.Push(lua.LNumber(0))
		return 3
	case errors.As(err, &failed) && failed.Code > 0:
		l.Push(lua.LNil)
		l.Push(lua.LString("exit"))
		l.Push(lua.LNumber(failed.Code))
		return 3
	}
	l.RaiseError("%s", err.Error())
	return 0
}

// rpmFuncs is rpm's own table.
func (r *luaRun) rpmFuncs() map[string]lua.LGFunction {
	run := func(l *lua.LState) int {
		var argv []string
		for i := 1; i <= l.GetTop(); i++ {
			argv = append(argv, l.CheckString(i))
		}
		r.execute(l, argv)
		// rpm.execute gives the exit status alone.
		l.Push(l.Get(-1))
		return 1
	}
	return map[string]lua.LGFunction{
		"execute": run,
		"spawn": func(l *lua.LState) int {
			var argv []string
			l.CheckTable(1).ForEach(func(_, v lua.LValue) { argv = append(argv, v.String()) })
			return r.execute(l, argv)
		},
		"expand": func(l *lua.LState) int { l.Push(lua.LString(r.expand(l.CheckString(1)))); return 1 },
		"define": func(l *lua.LState) int { return 0 },
		"isdefined": func(l *lua.LState) int {
			name := "%{" + l.CheckString(1) + "}"
			l.Push(lua.LBool(r.expand(name) != name))
			return 1
		},
		"vercmp": func(l *lua.LState) int { return r.vercmp(l) },
		"glob":   r.glob,
		"next_file": func(l *lua.LState) int {
			if len(r.Stdin) == 0 {
				l.Push(lua.LNil)
				return 1
			}
			l.Push(lua.LString(r.Stdin[0]))
			r.Stdin = r.Stdin[1:]
			return 1
		},
		"debug":         func(l *lua.LState) int { return 0 },
		"interactive":   func(l *lua.LState) int { return 0 },
		"redirect2null": func(l *lua.LState) int { return 0 },
	}
}

func (r *luaRun) vercmp(l *lua.LState) int {
	a, err := rpm.ParseEVR(l.CheckString(1))
	if err != nil {
		l.RaiseError("%s", err.Error())
	}
	b, err := rpm.ParseEVR(l.CheckString(2))
	if err != nil {
		l.RaiseError("%s", err.Error())
	}
	l.Push(lua.LNumber(rpm.Compare(a, b)))
	return 1
}

// glob matches one pattern level by level inside the tree.
func (r *luaRun) glob(l *lua.LState) int {
	pattern := l.CheckString(1)
	matches := []string{"/"}
	for part := range strings.SplitSeq(strings.Trim(path.Clean("/"+pattern), "/"), "/") {
		var next []string
		for _, dir := range matches {
			names, err := r.list(dir)
			if err != nil {
				continue
			}
			for _, n := range names[2:] {
				if ok, err := path.Match(part, n); err == nil && ok && (n[0] != '.' || part[0] == '.') {
					next = append(next, path.Join(dir, n))
				}
			}
		}
		matches = next
	}
	t := l.NewTable()
	for _, m := range matches {
		t.Append(lua.LString(m))
	}
	if t.Len() == 0 && strings.Contains(l.OptString(2, ""), "c") {
		t.Append(lua.LString(pattern))
	}
	l.Push(t)
	return 1
}

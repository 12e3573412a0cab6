// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/hostctl/hostctl/internal/sys"
)

const openPath = sys.O_PATH

const luaFileType = "FILE*"

// luaFile is an open file of the tree, or the script's output (f is nil).
type luaFile struct {
	f   *os.File
	r   *bufio.Reader
	out io.Writer
}

func (r *luaRun) closeFiles() {
	for _, f := range r.files {
		if f.f != nil {
			f.f.Close()
		}
	}
}

// openIO makes the io table: files of the tree, and standard output and error,
// which both are the script's output.
func (r *luaRun) openIO(l *lua.LState) {
	meta := l.NewTypeMetatable(luaFileType)
	methods := l.SetFuncs(l.NewTable(), map[string]lua.LGFunction{
		"read": fileRead, "write": fileWrite, "lines": fileLines, "close": fileClose, "seek": fileSeek,
		"flush": func(l *lua.LState) int { return 0 }, "setvbuf": func(l *lua.LState) int { return 0 },
	})
	l.SetField(meta, "__index", methods)
	out := wrapFile(l, &luaFile{out: r.out, r: bufio.NewReader(strings.NewReader(""))})
	t := l.SetFuncs(l.NewTable(), map[string]lua.LGFunction{
		"open": func(l *lua.LState) int {
			p := l.CheckString(1)
			f, err := r.openFile(p, l.OptString(2, "r"))
			if err != nil {
				return failure(l, p, err)
			}
			l.Push(wrapFile(l, f))
			return 1
		},
		"lines": func(l *lua.LState) int {
			p := l.CheckString(1)
			f, err := r.openFile(p, "r")
			if err != nil {
				l.RaiseError("%s: %s", p, errnoText(err))
			}
			return pushLines(l, f)
		},
		"write": func(l *lua.LState) int { return writeAll(l, r.out, 1) },
		"close": func(l *lua.LState) int { return fileClose(l) },
		"popen": func(l *lua.LState) int {
			l.RaiseError("io.popen is not supported in a composed tree; rpm.execute runs a program")
			return 0
		},
	})
	l.SetField(t, "stdout", out)
	l.SetField(t, "stderr", out)
	l.SetField(t, "stdin", wrapFile(l, &luaFile{out: io.Discard, r: bufio.NewReader(strings.NewReader(strings.Join(r.Stdin, "\n")))}))
	l.SetGlobal("io", t)
}

func wrapFile(l *lua.LState, f *luaFile) *lua.LUserData {
	ud := l.NewUserData()
	ud.Value = f
	l.SetMetatable(ud, l.GetTypeMetatable(luaFileType))
	return ud
}

func (r *luaRun) openFile(p, mode string) (*luaFile, error) {
	flags := map[string]int{"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREATE | os.O_TRUNC, "a": os.O_WRONLY | os.O_CREATE | os.O_APPEND,
		"r+": os.O_RDWR, "w+": os.O_RDWR | os.O_CREATE | os.O_TRUNC, "a+": os.O_RDWR | os.O_CREATE | os.O_APPEND}
	flag, ok := flags[strings.ReplaceAll(mode, "b", "")]
	if !ok {
		return nil, errors.New("invalid mode " + mode)
	}
	f, err := r.root.OpenInRoot(path.Clean("/"+p), flag, 0o644)
	if err != nil {
		return nil, err
	}
	file := &luaFile{f: f, r: bufio.NewReader(f), out: f}
	r.files = append(r.files, file)
	return file, nil
}

func checkFile(l *lua.LState) *luaFile {
	if f, ok := l.CheckUserData(1).Value.(*luaFile); ok {
		return f
	}
	l.ArgError(1, "file expected")
	return nil
}

func fileRead(l *lua.LState) int {
	f := checkFile(l)
	if l.GetTop() < 2 {
		l.Push(lua.LString("l"))
	}
	top := l.GetTop()
	for i := 2; i <= top; i++ {
		v := readFormat(l, f, l.Get(i))
		l.Push(v)
		if v == lua.LNil {
			return i - 1
		}
	}
	return top - 1
}

func readFormat(l *lua.LState, f *luaFile, format lua.LValue) lua.LValue {
	if n, ok := format.(lua.LNumber); ok {
		if n < 0 || n > maxLuaString {
			l.RaiseError("read of %d bytes", int64(n))
		}
		buf := make([]byte, int(n))
		got, err := io.ReadFull(f.r, buf)
		if got == 0 && err != nil {
			return lua.LNil
		}
		return lua.LString(buf[:got])
	}
	switch strings.TrimPrefix(format.String(), "*") {
	case "a":
		b, err := io.ReadAll(io.LimitReader(f.r, maxLuaString))
		if err != nil {
			return lua.LNil
		}
		return lua.LString(b)
	case "l", "L":
		line, err := f.r.ReadString('\n')
		if err != nil && line == "" {
			return lua.LNil
		}
		if !strings.HasSuffix(format.String(), "L") {
			line = strings.TrimSuffix(line, "\n")
		}
		return lua.LString(line)
	}
	l.RaiseError("read format %q is not supported", format.String())
	return lua.LNil
}

func fileWrite(l *lua.LState) int {
	f := checkFile(l)
	if f.out == nil {
		l.RaiseError("file is closed")
	}
	return writeAll(l, f.out, 2)
}

func writeAll(l *lua.LState, w io.Writer, first int) int {
	for i := first; i <= l.GetTop(); i++ {
		if _, err := io.WriteString(w, l.CheckString(i)); err != nil {
			return failure(l, "write", err)
		}
	}
	l.Push(lua.LTrue)
	return 1
}

func fileLines(l *lua.LState) int { return pushLines(l, checkFile(l)) }

func pushLines(l *lua.LState, f *luaFile) int {
	l.Push(l.NewFunction(func(l *lua.LState) int {
		l.Push(readFormat(l, f, lua.LString("l")))
		return 1
	}))
	return 1
}

func fileClose(l *lua.LState) int {
	if l.GetTop() == 0 {
		return 0
	}
	f := checkFile(l)
	if f.f == nil {
		return truth(l, "", nil)
	}
	err := f.f.Close()
	f.f, f.out, f.r = nil, nil, bufio.NewReader(strings.NewReader(""))
	return truth(l, "", err)
}

func fileSeek(l *lua.LState) int {
	f := checkFile(l)
	whence, ok := map[string]int{"set": io.SeekStart, "cur": io.SeekCurrent, "end": io.SeekEnd}[l.OptString(2, "cur")]
	if !ok || f.f == nil {
		l.RaiseError("cannot seek")
	}
	off := l.OptInt64(3, 0)
	if whence == io.SeekCurrent {
		off -= int64(f.r.Buffered())
	}
	pos, err := f.f.Seek(off, whence)
	if err != nil {
		return failure(l, "seek", err)
	}
	f.r.Reset(f.f)
	l.Push(lua.LNumber(pos))
	return 1
}

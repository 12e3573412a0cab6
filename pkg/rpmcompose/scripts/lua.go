// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// The interpreter is Lua 5.1 where rpm embeds 5.4, with the base, table, string
// and math libraries and own io, os, posix and rpm tables. Those reach files of
// the tree only: every path is resolved with the sandbox's overlay as the root,
// and programs run in the sandbox. What cannot be had (fork, sockets, popen) is
// an error that says so.

// maxLuaString bounds strings that string.rep makes.
const maxLuaString = 64 << 20

// luaRun is one Lua script under way.
type luaRun struct {
	in    *installer
	ctx   context.Context
	root  *fsx.Dir
	out   *tail
	stdin []string // paths of a file trigger
	name  string
	files []*luaFile
}

// lua runs a Lua scriptlet.
func (in *installer) lua(ctx context.Context, st *Step, body string) (Output, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, in.s.o.Timeout, ErrTimeout)
	defer cancel()
	run := &luaRun{in: in, ctx: ctx, root: in.s.Root(), stdin: st.Stdin, name: st.Name(),
		out: newTail(in.s.o.MaxOutput, in.log, st.Name())}
	start := time.Now()
	err := run.exec(st, body)
	run.out.flush()
	res := Output{Text: run.out.String(), Truncated: run.out.dropped, Duration: time.Since(start)}
	if err == nil {
		err = in.s.intact()
	}
	if err == nil {
		return res, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
		if errors.Is(cause, ErrTimeout) {
			err = fmt.Errorf("%w after %s", ErrTimeout, in.s.o.Timeout)
		}
	}
	var failed *Error
	if errors.As(err, &failed) {
		return res, failed
	}
	return res, &Error{Command: st.Name(), Code: -1, Output: res.Text, Err: err}
}

// luaExit is how os.exit leaves a script.
type luaExit struct{ code int }

func (e *luaExit) Error() string { return "exit status " + strconv.Itoa(e.code) }

func (r *luaRun) exec(st *Step, body string) (err error) {
	l := lua.NewState(lua.Options{SkipOpenLibs: true, CallStackSize: 200, RegistrySize: 1024, RegistryMaxSize: 1 << 20, MinimizeStackMemory: true})
	defer l.Close()
	defer r.closeFiles()
	l.SetContext(r.ctx)
	if err := r.open(l, st.Args); err != nil {
		return err
	}
	fn, err := l.Load(strings.NewReader(body), st.Name())
	if err != nil {
		return fmt.Errorf("compile Lua 5.1 (newer syntax is not understood): %w", err)
	}
	l.Push(fn)
	err = l.PCall(0, 0, nil)
	var api *lua.ApiError
	if errors.As(err, &api) {
		if ud, ok := api.Object.(*lua.LUserData); ok {
			if e, ok := ud.Value.(*luaExit); ok {
				if e.code == 0 {
					return nil
				}
				return &Error{Command: r.name, Code: e.code, Output: r.out.String(), Err: e}
			}
		}
		return errors.New(api.Object.String())
	}
	return err
}

func (r *luaRun) open(l *lua.LState, args []string) error {
	for _, lib := range []struct {
		name string
		open lua.LGFunction
	}{{lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}, {lua.StringLibName, lua.OpenString}, {lua.MathLibName, lua.OpenMath}} {
		l.Push(l.NewFunction(lib.open))
		l.Push(lua.LString(lib.name))
		if err := l.PCall(1, 0, nil); err != nil {
			return fmt.Errorf("open Lua library %s: %w", lib.name, err)
		}
	}
	// These read files of the host.
	for _, name := range []string{"dofile", "loadfile", "require", "module"} {
		l.SetGlobal(name, lua.LNil)
	}
	l.SetGlobal("print", l.NewFunction(r.print))
	if str, ok := l.GetGlobal("string").(*lua.LTable); ok {
		l.SetField(str, "rep", l.NewFunction(stringRep))
	}
	if math, ok := l.GetGlobal("math").(*lua.LTable); ok {
		// A tree must not depend on chance.
		l.SetField(math, "randomseed", l.NewFunction(func(*lua.LState) int { return 0 }))
	}
	r.openIO(l)
	l.SetGlobal("os", l.SetFuncs(l.NewTable(), r.osFuncs()))
	l.SetGlobal("posix", l.SetFuncs(l.NewTable(), r.posixFuncs()))
	rpmTable := l.SetFuncs(l.NewTable(), r.rpmFuncs())
	l.SetGlobal("rpm", rpmTable)
	l.SetGlobal("macros", r.macroTable(l))
	arg := l.NewTable()
	arg.Append(lua.LString(rpm.LuaInterp))
	for _, a := range args {
		n, err := strconv.Atoi(a)
		if err != nil {
			arg.Append(lua.LString(a))
			continue
		}
		arg.Append(lua.LNumber(n))
	}
	l.SetGlobal("arg", arg)
	return nil
}

func (r *luaRun) print(l *lua.LState) int {
	for i := 1; i <= l.GetTop(); i++ {
		if i > 1 {
			_, _ = r.out.Write([]byte("\t"))
		}
		_, _ = r.out.Write([]byte(l.ToStringMeta(l.Get(i)).String()))
	}
	_, _ = r.out.Write([]byte("\n"))
	return 0
}

func stringRep(l *lua.LState) int {
	s, n, sep := l.CheckString(1), l.CheckInt(2), l.OptString(3, "")
	if n <= 0 {
		l.Push(lua.LString(""))
		return 1
	}
	if n > maxLuaString/max(1, len(s)+len(sep)) {
		l.RaiseError("resulting string too large")
	}
	l.Push(lua.LString(strings.Repeat(s+sep, n-1) + s))
	return 1
}

func (r *luaRun) macroTable(l *lua.LState) *lua.LTable {
	t, meta := l.NewTable(), l.NewTable()
	l.SetField(meta, "__index", l.NewFunction(func(l *lua.LState) int {
		name := l.CheckString(2)
		v := r.in.expand("%{" + name + "}")
		if v == "%{"+name+"}" {
			l.Push(lua.LNil)
			return 1
		}
		l.Push(lua.LString(v))
		return 1
	}))
	t.Metatable = meta
	return t
}

// at gives the directory that holds a path of the tree, and the last component.
// Links on the way resolve inside the tree. The caller closes the directory.
func (r *luaRun) at(p string) (*fsx.Dir, string, error) {
	p = path.Clean("/" + p)
	if p == "/" {
		d, err := r.root.OpenDirInRoot(".")
		return d, ".", err
	}
	d, err := r.root.OpenDirInRoot("." + path.Dir(p))
	return d, path.Base(p), err
}

// with calls fn for the directory and name of a path.
func (r *luaRun) with(p string, fn func(d *fsx.Dir, name string) error) error {
	d, name, err := r.at(p)
	if err != nil {
		return err
	}
	defer d.Close()
	return fn(d, name)
}

// status pushes what rpm's posix functions return: 0, or nil with a message and
// an error number.
func status(l *lua.LState, p string, err error) int {
	if err == nil {
		l.Push(lua.LNumber(0))
		return 1
	}
	return failure(l, p, err)
}

func failure(l *lua.LState, p string, err error) int {
	l.Push(lua.LNil)
	l.Push(lua.LString(p + ": " + errnoText(err)))
	l.Push(lua.LNumber(errnoOf(err)))
	return 3
}

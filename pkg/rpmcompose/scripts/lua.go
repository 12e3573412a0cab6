// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"context"
	"errors"
	"fmt"
	"io"
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
// and programs run in the sandbox. What cannot be had (a fork that does not run a
// program, popen) is an error that says so.

// maxLuaString bounds strings that string.rep makes.
const maxLuaString = 64 << 20

// luaJob is a Lua script with all that it may know.
type luaJob struct {
	Name   string
	Body   string
	Args   []string
	Stdin  []string // paths of a file trigger
	Macros map[string]string
	Epoch  int64 // what the clock says, in seconds
}

// luaRun is one Lua script under way.
type luaRun struct {
	luaJob
	ctx     context.Context
	root    *fsx.Dir
	out     io.Writer
	program func(argv []string) (Output, error)
	files   []*luaFile
	// forked: the branch of a child runs; childCode is how the last one ended.
	forked    bool
	childCode int
}

// lua runs a Lua scriptlet.
func (in *installer) lua(ctx context.Context, st *Step, body string) (Output, error) {
	outer := ctx
	ctx, cancel := context.WithTimeoutCause(outer, in.s.o.Timeout, ErrTimeout)
	defer cancel()
	out := newTail(in.s.o.MaxOutput, in.log, st.Name())
	run := &luaRun{ctx: ctx, root: in.s.Root(), out: out,
		luaJob:  luaJob{Name: st.Name(), Body: body, Args: st.Args, Stdin: st.Stdin, Macros: in.o.Macros, Epoch: in.s.o.SourceDateEpoch},
		program: func(argv []string) (Output, error) { return in.s.Run(ctx, Command{Name: st.Name(), Args: argv}) }}
	start := time.Now()
	var err error
	if len(in.s.o.LuaHelper) > 0 {
		err = in.s.luaHelper(run)
	} else {
		err = run.exec()
	}
	out.flush()
	res := Output{Text: out.String(), Truncated: out.dropped, Duration: time.Since(start)}
	if damaged := in.s.intact(); damaged != nil && outer.Err() == nil {
		return res, &Error{Command: st.Name(), Code: -1, Output: res.Text, Err: damaged}
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
	code := -1
	var exit *luaExit
	if errors.As(err, &exit) {
		code = exit.code
	}
	return res, &Error{Command: st.Name(), Code: code, Output: res.Text, Err: err}
}

// luaExit is how os.exit leaves a script.
type luaExit struct{ code int }

func (e *luaExit) Error() string { return "exit status " + strconv.Itoa(e.code) }

// exec runs the script. An os.exit that is no success is a *luaExit.
func (r *luaRun) exec() (err error) {
	l := lua.NewState(lua.Options{SkipOpenLibs: true, CallStackSize: 200, RegistrySize: 1024, RegistryMaxSize: 1 << 20, MinimizeStackMemory: true})
	defer l.Close()
	defer r.closeFiles()
	l.SetContext(r.ctx)
	if err := r.open(l, r.Args); err != nil {
		return err
	}
	fn, err := compileLua(l, r.Name, r.Body)
	if err != nil {
		return err
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
				return e
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

func (r *luaRun) expand(s string) string { return expandMacros(s, r.Macros) }

func (r *luaRun) macroTable(l *lua.LState) *lua.LTable {
	t, meta := l.NewTable(), l.NewTable()
	l.SetField(meta, "__index", l.NewFunction(func(l *lua.LState) int {
		name := l.CheckString(2)
		v := r.expand("%{" + name + "}")
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

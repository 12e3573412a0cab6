// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"errors"
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// Scripts fork to run a program, from before rpm.execute existed and in one form:
//
//	local pid = posix.fork()
//	if pid == 0 then posix.exec(…) elseif pid > 0 then posix.wait(pid) end
//
// The interpreter cannot fork. The branch of the child becomes a function that is
// called first, which posix.exec ends after the program ran; then the parent goes
// on. A fork in another form is an error when it is reached.

// childFunc is the name in the posix table of what runs the branch of a child.
const childFunc = "__child"

// childPid is the number that the parent sees; there is only one child at a time.
const childPid = "2"

// compileLua compiles a script, its forks rewritten.
func compileLua(l *lua.LState, name, body string) (*lua.LFunction, error) {
	chunk, err := parse.Parse(strings.NewReader(body), name)
	if err == nil {
		var proto *lua.FunctionProto
		if proto, err = lua.Compile(rewriteForks(chunk, true), name); err == nil {
			return l.NewFunctionFromProto(proto), nil
		}
	}
	return nil, fmt.Errorf("compile Lua 5.1 (newer syntax is not understood): %w", err)
}

// rewriteForks changes a list of statements and all within; vararg says that they
// stand in a function with a variable number of arguments.
func rewriteForks(stmts []ast.Stmt, vararg bool) []ast.Stmt {
	var out []ast.Stmt
	for i, s := range stmts {
		rewriteWithin(s, vararg)
		out = append(out, s)
		if i+1 == len(stmts) {
			break
		}
		name, set := forkTarget(s)
		branch, ok := stmts[i+1].(*ast.IfStmt)
		if !ok || name == "" || !isZero(branch.Condition, name) {
			continue
		}
		set(&ast.NumberExpr{Value: childPid})
		out = append(out, callChild(branch, rewriteForks(branch.Then, vararg), vararg))
	}
	return out
}

func rewriteWithin(s ast.Stmt, vararg bool) {
	switch s := s.(type) {
	case *ast.DoBlockStmt:
		s.Stmts = rewriteForks(s.Stmts, vararg)
	case *ast.WhileStmt:
		s.Stmts = rewriteForks(s.Stmts, vararg)
	case *ast.RepeatStmt:
		s.Stmts = rewriteForks(s.Stmts, vararg)
	case *ast.NumberForStmt:
		s.Stmts = rewriteForks(s.Stmts, vararg)
	case *ast.GenericForStmt:
		s.Stmts = rewriteForks(s.Stmts, vararg)
	case *ast.IfStmt:
		s.Then, s.Else = rewriteForks(s.Then, vararg), rewriteForks(s.Else, vararg)
	case *ast.FuncDefStmt:
		rewriteFunctions(s.Func)
	case *ast.LocalAssignStmt:
		rewriteFunctions(s.Exprs...)
	case *ast.AssignStmt:
		rewriteFunctions(s.Rhs...)
	}
}

func rewriteFunctions(list ...ast.Expr) {
	for _, e := range list {
		if f, ok := e.(*ast.FunctionExpr); ok {
			f.Stmts = rewriteForks(f.Stmts, f.ParList.HasVargs)
		}
	}
}

// forkTarget gives the variable to which a statement assigns posix.fork(), and how
// to assign something else.
func forkTarget(s ast.Stmt) (name string, set func(ast.Expr)) {
	switch s := s.(type) {
	case *ast.LocalAssignStmt:
		if len(s.Names) == 1 && len(s.Exprs) == 1 && isFork(s.Exprs[0]) {
			return s.Names[0], func(e ast.Expr) { s.Exprs[0] = e }
		}
	case *ast.AssignStmt:
		if len(s.Lhs) != 1 || len(s.Rhs) != 1 || !isFork(s.Rhs[0]) {
			return "", nil
		}
		if id, ok := s.Lhs[0].(*ast.IdentExpr); ok {
			return id.Value, func(e ast.Expr) { s.Rhs[0] = e }
		}
	}
	return "", nil
}

func isFork(e ast.Expr) bool {
	call, ok := e.(*ast.FuncCallExpr)
	if !ok || call.Method != "" || len(call.Args) != 0 {
		return false
	}
	get, ok := call.Func.(*ast.AttrGetExpr)
	if !ok {
		return false
	}
	table, ok := get.Object.(*ast.IdentExpr)
	key, ok2 := get.Key.(*ast.StringExpr)
	return ok && ok2 && table.Value == "posix" && key.Value == "fork"
}

func isZero(e ast.Expr, name string) bool {
	op, ok := e.(*ast.RelationalOpExpr)
	if !ok || op.Operator != "==" {
		return false
	}
	id, ok := op.Lhs.(*ast.IdentExpr)
	n, ok2 := op.Rhs.(*ast.NumberExpr)
	return ok && ok2 && id.Value == name && n.Value == "0"
}

// callChild is posix.__child(function(...) BRANCH end, ...).
func callChild(branch *ast.IfStmt, stmts []ast.Stmt, vararg bool) ast.Stmt {
	f := &ast.FunctionExpr{ParList: &ast.ParList{HasVargs: true, Names: []string{}}, Stmts: stmts}
	f.SetLine(branch.Line())
	f.SetLastLine(branch.LastLine())
	call := &ast.FuncCallExpr{Func: &ast.AttrGetExpr{Object: &ast.IdentExpr{Value: "posix"}, Key: &ast.StringExpr{Value: childFunc}}, Args: []ast.Expr{f}}
	if vararg {
		call.Args = append(call.Args, &ast.Comma3Expr{})
	}
	call.SetLine(branch.Line())
	s := &ast.FuncCallStmt{Expr: call}
	s.SetLine(branch.Line())
	return s
}

// luaReplaced is how posix.exec leaves the branch of a child.
type luaReplaced struct{ code int }

// posixChild runs the branch of a child. Errors end the child only.
func (r *luaRun) posixChild(l *lua.LState) int {
	r.forked, r.childCode = true, 0
	args := l.GetTop() - 1
	err := l.PCall(args, 0, nil)
	r.forked = false
	if r.ctx.Err() != nil {
		l.RaiseError("%s", r.ctx.Err().Error())
	}
	if err == nil {
		l.RaiseError("the child of posix.fork goes on without posix.exec, which is not supported in a composed tree")
	}
	r.childCode = 255
	var api *lua.ApiError
	if errors.As(err, &api) {
		if ud, ok := api.Object.(*lua.LUserData); ok {
			switch v := ud.Value.(type) {
			case *luaReplaced:
				r.childCode = v.code
				return 0
			case *luaExit:
				r.childCode = v.code
				return 0
			}
		}
	}
	_, _ = fmt.Fprintf(r.out, "child: %v\n", err)
	return 0
}

// posixExec runs a program in the place of a child.
func (r *luaRun) posixExec(l *lua.LState) int {
	if !r.forked {
		l.RaiseError("posix.exec is not supported in a composed tree but in the child of posix.fork; rpm.execute runs a program")
	}
	var argv []string
	for i := 1; i <= l.GetTop(); i++ {
		argv = append(argv, l.CheckString(i))
	}
	r.execute(l, argv)
	ud := l.NewUserData()
	ud.Value = &luaReplaced{int(lua.LVAsNumber(l.Get(-1)))}
	l.Error(ud, 0)
	return 0
}

// posixWait gives what rpm's posix.wait gives for the one child, which has ended.
func (r *luaRun) posixWait(l *lua.LState) int {
	l.Push(l.Get(1))
	l.Push(lua.LString("exited"))
	l.Push(lua.LNumber(r.childCode))
	return 3
}

// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const hostile = "x\x1b[31m\r\x07\u202e\u009b2J\U000e0041\n  fake\xff"

func TestPrint(t *testing.T) {
	t.Parallel()
	var out, errw strings.Builder
	a := &App{Out: &out, Err: &errw}
	a.Line("%s: ü %d%%", hostile, 7)
	a.Text("+\ta\tb\x1b[m\r\n-c\n no end")
	a.Warn("%s", hostile)
	const shown = `x\x1b[31m\r\a\u202e\u009b2J\U000e0041\n  fake\xff`
	if want := shown + ": ü 7%\n+\ta\tb\\x1b[m\\r\n-c\n no end\n"; out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}
	if want := "warning: " + shown + "\n"; errw.String() != want {
		t.Errorf("got %q, want %q", &errw, want)
	}
	out.Reset()
	in := map[string]string{"<a>": "\x1b\u009b2J\u202e\U000e0041 ü\x7f"}
	if err := a.PrintJSON(in); err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"<a>\": \"\\u001b\\u009b2J\\u202e\\udb40\\udc41 ü\\u007f\"\n}\n"; out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}
	var back map[string]string
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil || back["<a>"] != in["<a>"] {
		t.Errorf("%q, %v", back, err)
	}
}

type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

// An answer that could not be printed is no success.
func TestPrintFails(t *testing.T) {
	t.Parallel()
	for name, verb := range map[string]func(*App) error{
		"line": func(a *App) error { a.Line("x"); return nil },
		"text": func(a *App) error { a.Text("x"); return nil },
		"json": func(a *App) error { return a.PrintJSON(1) },
	} {
		var errw strings.Builder
		a := &App{Out: full{}, Err: &errw}
		cmd := &cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error { return verb(a) }}
		if code := a.Run(context.Background(), cmd, nil, nil); code == 0 || !strings.Contains(errw.String(), errFull.Error()) {
			t.Errorf("%s: %d %q", name, code, &errw)
		}
	}
}

// rawPrints lists the calls of a file that write to Out or Err of an App themselves.
func rawPrints(t *testing.T, name string, src any) []string {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		fn, ok := call.Fun.(*ast.SelectorExpr)
		to, ok2 := call.Args[0].(*ast.SelectorExpr)
		if ok && ok2 && (strings.HasPrefix(fn.Sel.Name, "Fprint") || fn.Sel.Name == "NewEncoder") && (to.Sel.Name == "Out" || to.Sel.Name == "Err") {
			out = append(out, fmt.Sprint(set.Position(call.Pos())))
		}
		return true
	})
	return out
}

// Verbs print by Line, Text, Warn and PrintJSON.
func TestVerbsPrintByOneRule(t *testing.T) {
	t.Parallel()
	if got := rawPrints(t, "x.go", "package x\nfunc f() { fmt.Fprintln(a.Out, 1); json.NewEncoder(a.App.Out); a.Line(a.Out) }"); len(got) != 2 {
		t.Errorf("found %q", got)
	}
	for _, pattern := range []string{"*.go", "../../hostctl/*.go", "../../compose-server/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < 3 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") || f == "print.go" {
				continue
			}
			for _, at := range rawPrints(t, f, nil) {
				t.Errorf("%s: prints what may hold control characters; use Line, Text, Warn or PrintJSON", at)
			}
		}
	}
}

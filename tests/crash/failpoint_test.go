// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// fails runs a program that must exit with status 1.
func fails(t *testing.T, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	if out, err := cmd.CombinedOutput(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("%s: %v, want status 1\n%s", strings.Join(argv, " "), err, out)
	}
}

// Killed at each failpoint that it passes, the first and the last time, every work
// leaves the repository whole and can be done again. Together the works pass every
// failpoint in the source of the repository: a new one needs a work that passes it.
func TestFailpoints(t *testing.T) {
	bin := program(t)
	var mu sync.Mutex
	met, done := map[string]int{}, 0
	t.Run("works", func(t *testing.T) {
		for _, w := range works() {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				points := killEverywhere(t, bin, w)
				mu.Lock()
				defer mu.Unlock()
				done++
				for name, n := range points {
					met[name] += n
				}
			})
		}
	})
	if t.Failed() || done < len(works()) {
		return // only some of them ran
	}
	for _, name := range sourcePoints(t, "../../pkg/ostree") {
		if met[name] == 0 {
			t.Errorf("no work passes the failpoint %s", name)
		}
	}
}

// killEverywhere gives how often the work passes each point.
func killEverywhere(t *testing.T, bin string, w work) map[string]int {
	dir := filepath.Join(t.TempDir(), "work")
	testutil.Must(t, os.Mkdir(dir, 0o755))
	s := w.setUp(t, bin, dir)
	testutil.Run(t, "cp", "-a", dir, dir+".saved")
	restore := func() {
		testutil.Must(t, os.RemoveAll(dir))
		testutil.Run(t, "cp", "-a", dir+".saved", dir)
	}
	root := filepath.Join(dir, "repo")
	out, err := s.run("*=trace")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := s.finished(t, root); err != nil {
		t.Fatal(err)
	}
	points := tracedPoints(out)
	for _, name := range slices.Sorted(maps.Keys(points)) {
		for _, skip := range slices.Compact([]int{0, points[name] - 1}) {
			restore()
			out, err := s.run(fmt.Sprintf("%s=skip:%d:kill", name, skip))
			if err == nil && skip == 0 {
				t.Errorf("%s was not met\n%s", name, out)
			}
			if err := s.survived(t, root); err != nil {
				t.Errorf("killed at %s, after %d times: %v", name, skip, err)
			}
		}
	}
	return points
}

// run runs the operation with failpoints.
func (s scenario) run(points string) ([]byte, error) {
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Env = append(os.Environ(), "HOSTCTL_FAILPOINTS="+points)
	return cmd.CombinedOutput()
}

// survived tells what is wrong with a repository in which the operation was killed.
func (s scenario) survived(t *testing.T, root string) error {
	if err := problem(t.Context(), root, s.allowed, s.damaged, s.partial); err != nil {
		return err
	}
	if !s.again {
		return nil
	}
	if out, err := s.run(""); err != nil {
		return fmt.Errorf("again: %w\n%s", err, out)
	}
	if err := s.finished(t, root); err != nil {
		return fmt.Errorf("again: %w", err)
	}
	return nil
}

func tracedPoints(out []byte) map[string]int {
	points := map[string]int{}
	for line := range bytes.Lines(out) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "failpoint "); ok {
			points[name]++
		}
	}
	return points
}

// sourcePoints lists the failpoints that the source below a folder names: the
// argument of failpoint.Hit or, where that is a variable, the texts in the same
// function that look like one.
func sourcePoints(t *testing.T, root string) []string {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				pointsOf(fn.Body, found)
			}
		}
		return nil
	})
	testutil.Must(t, err)
	if len(found) < 20 {
		t.Errorf("only %d failpoints found", len(found))
	}
	return slices.Sorted(maps.Keys(found))
}

func pointsOf(body *ast.BlockStmt, found map[string]bool) {
	variable := false
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		fn, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || fn.Sel.Name != "Hit" {
			return true
		}
		if pkg, ok := fn.X.(*ast.Ident); !ok || pkg.Name != "failpoint" {
			return true
		}
		name, ok := literal(call.Args[0])
		if ok {
			found[name] = true
		}
		variable = variable || !ok
		return true
	})
	if !variable {
		return
	}
	ast.Inspect(body, func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok {
			if name, ok := literal(e); ok && strings.HasPrefix(name, "ostree.") {
				found[name] = true
			}
		}
		return true
	})
}

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

// SPDX-License-Identifier: Apache-2.0

// Package tests holds the checks that concern the project as a whole.
package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hostctl/hostctl"

// levels orders the rooms; a package may import lower levels and its own.
// A missing room is an error, so that a new package is placed on purpose.
var levels = map[string]int{
	"internal/deflate": 0, "internal/sys": 0, "internal/failpoint": 0, "internal/progress": 0, "internal/version": 0, "internal/osrelease": 0,
	"internal/fsx": 1, "internal/openpgpx": 1, "internal/testutil": 1,
	"pkg/ostree/gvariant":  2,
	"pkg/ostree/keyfile":   2,
	"pkg/ostree/sign":      2,
	"pkg/bootloader/bls":   2,
	"pkg/rpmcompose/rpm":   2,
	"pkg/rpmcompose/solve": 2, "pkg/rpmcompose/treefile": 2, "pkg/rpmcompose/selinux": 2, "pkg/bootloader/uki": 2,
	"pkg/ostree": 3, "pkg/ostree/gpg": 3, "pkg/bootloader": 3, "pkg/etcmerge": 3,
	"pkg/rpmcompose/rpmmd": 3, "pkg/rpmcompose/fetch": 3,
	"pkg/ostree/delta": 4, "pkg/ostree/pull": 4, "pkg/ostree/container": 4, "pkg/engine": 4, "pkg/deploy": 4, "pkg/deploy/prepareroot": 4,
	"pkg/rpmcompose/importer": 4, "pkg/rpmcompose/assemble": 4, "pkg/rpmcompose/scripts": 4,
	"pkg/rpmcompose/postprocess": 4, "pkg/rpmcompose/importer/rpmtest": 4, "pkg/rpmcompose/rpmdb": 4, "pkg/rpmcompose/pkglist": 4,
	"pkg/rpmcompose": 5, "pkg/rpmcompose/treediff": 5, "pkg/rpmcompose/sbom": 5, "pkg/deploy/upgrade": 5, "internal/diskimage": 5, "internal/fleet": 5,
	"internal/hostd": 6, "internal/composed": 6, "internal/ui": 6,
	"cmd/internal/cli": 7, "cmd/hostctl": 7, "cmd/hostctl/internal/ostreecli": 7, "cmd/hostctl/prepare-root": 7, "cmd/compose-server": 7,
}

// purePackages read only what they are given.
var purePackages = []string{
	"pkg/ostree/gvariant", "pkg/ostree/keyfile", "pkg/ostree/sign", "pkg/bootloader/bls", "pkg/bootloader/uki",
	"pkg/rpmcompose/treefile", "pkg/rpmcompose/rpm", "pkg/rpmcompose/solve", "pkg/rpmcompose/selinux",
}

// forbidden lists imports that a room may not make directly, beyond the levels.
var forbidden = []struct {
	room, not, why string
	reach          bool // the import counts even through other packages of the module
}{
	{room: "pkg/ostree", not: module + "/pkg/bootloader", why: "ostree imports no other pkg", reach: true},
	{room: "pkg/ostree", not: module + "/pkg/deploy", why: "ostree imports no other pkg", reach: true},
	{room: "pkg/ostree", not: module + "/pkg/rpmcompose", why: "ostree imports no other pkg", reach: true},
	{room: "pkg/ostree", not: module + "/pkg/etcmerge", why: "ostree imports no other pkg", reach: true},
	{room: "pkg/bootloader", not: module + "/pkg/deploy", why: "the bootloader knows no deployments", reach: true},
	{room: "pkg/etcmerge", not: module + "/pkg/", why: "etcmerge imports no pkg", reach: true},
	{room: "pkg/engine", not: module + "/pkg/deploy", why: "the engine knows no host", reach: true},
	{room: "pkg/engine", not: module + "/pkg/rpmcompose", why: "the engine knows no composer", reach: true},
	{room: "pkg/deploy", not: "net/http", why: "deploying needs no network", reach: true},
	{room: "pkg/deploy/prepareroot", not: "net/http", why: "the initramfs has no network", reach: true},
}

// only names packages whose import is a privilege of one room.
var only = map[string]func(room string) bool{
	"golang.org/x/sys/unix":  func(room string) bool { return room == "internal/sys" },
	"github.com/spf13/cobra": func(room string) bool { return strings.HasPrefix(room, "cmd/") },
}

// testHelpers begins the tests of other rooms: only tests import it, and it
// imports little, so that the tests of any room can.
const testHelpers = module + "/internal/testutil"

type listed struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	pkgs := map[string]listed{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs[p.ImportPath] = p
	}
	return pkgs
}

func TestImportRules(t *testing.T) {
	t.Parallel()
	pkgs := listPackages(t)
	for _, msg := range violations(pkgs) {
		t.Error(msg)
	}
}

func violations(pkgs map[string]listed) []string {
	var out []string
	for _, path := range slices.Sorted(maps.Keys(pkgs)) {
		room := strings.TrimPrefix(path, module+"/")
		// Imports has none that only test files make.
		if slices.Contains(pkgs[path].Imports, testHelpers) {
			out = append(out, room+" imports "+testHelpers+" outside of its tests")
		}
		if strings.HasPrefix(room, "tests") {
			continue
		}
		level, ok := levels[room]
		if !ok {
			out = append(out, room+": not placed in any level of tests/arch_test.go")
			continue
		}
		for _, imp := range pkgs[path].Imports {
			if l, ok := levels[strings.TrimPrefix(imp, module+"/")]; ok && strings.HasPrefix(imp, module+"/") && l > level {
				out = append(out, fmt.Sprintf("%s (level %d) imports %s (level %d)", room, level, imp, l))
			}
			if allowed, ok := only[imp]; ok && !allowed(room) {
				out = append(out, room+" imports "+imp)
			}
			if path == testHelpers && strings.Contains(imp, ".") && imp != module+"/internal/fsx" {
				out = append(out, room+" imports "+imp)
			}
			if slices.Contains(purePackages, room) && (imp == "os" || imp == "os/exec" || imp == "net" || strings.HasPrefix(imp, "net/")) {
				out = append(out, room+" is pure but imports "+imp)
			}
		}
		for _, f := range forbidden {
			if f.room != room {
				continue
			}
			if c := chain(pkgs, path, f.not, f.reach, map[string]bool{}); c != nil {
				out = append(out, fmt.Sprintf("%s: %s", f.why, strings.Join(c, " -> ")))
			}
		}
	}
	return out
}

// chain finds an import path from one package to an import with the given
// prefix, through packages of the module only. A room's own subtree is no
// offence.
func chain(pkgs map[string]listed, from, to string, reach bool, seen map[string]bool) []string {
	seen[from] = true
	for _, imp := range pkgs[from].Imports {
		if imp == to || (strings.HasPrefix(imp, to) && strings.HasPrefix(to, module)) {
			if !strings.HasPrefix(imp, from+"/") {
				return []string{from, imp}
			}
		}
	}
	if !reach {
		return nil
	}
	for _, imp := range pkgs[from].Imports {
		if !strings.HasPrefix(imp, module) || seen[imp] {
			continue
		}
		if c := chain(pkgs, imp, to, true, seen); c != nil {
			return append([]string{from}, c...)
		}
	}
	return nil
}

func TestImportRulesCatchViolations(t *testing.T) {
	t.Parallel()
	bad := map[string]listed{
		module + "/pkg/etcmerge":     {Imports: []string{module + "/pkg/deploy"}},
		module + "/pkg/deploy":       {Imports: []string{module + "/pkg/bootloader"}},
		module + "/pkg/bootloader":   {Imports: []string{"net/http", "golang.org/x/sys/unix"}},
		module + "/pkg/rpmcompose/x": {},
		module + "/pkg/ostree/sign":  {Imports: []string{"os"}},
		module + "/tests/crash":      {Imports: []string{testHelpers}},
		testHelpers:                  {Imports: []string{"os", module + "/internal/fsx", module + "/internal/sys"}},
	}
	got := strings.Join(violations(bad), "\n")
	for _, want := range []string{
		"pkg/etcmerge (level 3) imports", "etcmerge imports no pkg", "deploying needs no network: " + module + "/pkg/deploy -> ",
		"pkg/bootloader imports golang.org/x/sys/unix", "pkg/rpmcompose/x: not placed", "pkg/ostree/sign is pure but imports os",
		"tests/crash imports " + testHelpers + " outside of its tests", "internal/testutil imports " + module + "/internal/sys",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing %q in:\n%s", want, got)
		}
	}
}

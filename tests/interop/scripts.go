// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type leftOut struct{ name, why string }

// notForUs names the scripts that do not exercise the program's verbs.
var notForUs = map[string]string{
	"test-switchroot.sh":   "tests ostree-prepare-root",
	"test-rofiles-fuse.sh": "tests rofiles-fuse, a C program",
}

// findScripts lists the suite's tests: those to run, and the others with the
// reason. The table of reasons names every test that is not run.
func findScripts(suite, only string) (scripts []string, left []leftOut, err error) {
	entries, err := os.ReadDir(suite)
	if err != nil {
		return nil, nil, fmt.Errorf("list the suite (package ostree-tests): %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, "test-") || !matches(name, only) {
			continue
		}
		if why := reason(name); why != "" {
			left = append(left, leftOut{name, why})
			continue
		}
		scripts = append(scripts, name)
	}
	if len(scripts) == 0 {
		return nil, nil, fmt.Errorf("no script in %s matches %q", suite, only)
	}
	slices.Sort(scripts)
	return scripts, left, nil
}

func matches(name, only string) bool {
	ok, err := filepath.Match(only, name)
	return only == "" || err == nil && ok || strings.Contains(name, only)
}

func reason(name string) string {
	switch {
	case notForUs[name] != "":
		return notForUs[name]
	case strings.HasSuffix(name, ".js"):
		return "calls libostree from gjs"
	case !strings.Contains(name, "."):
		return "a compiled C test"
	}
	return ""
}

// printLeftOut names what is not run, together where the reason is the same.
func printLeftOut(left []leftOut) {
	names := map[string][]string{}
	for _, l := range left {
		names[l.why] = append(names[l.why], l.name)
	}
	for _, why := range slices.Sorted(maps.Keys(names)) {
		fmt.Printf("\nLeft out, %s: %s\n", why, strings.Join(names[why], " "))
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// program runs compose-server in the test's process.
func program(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func treeDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		testutil.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

func TestTreefileCheck(t *testing.T) {
	t.Parallel()
	dir := treeDir(t, map[string]string{"good.yaml": "ref: a\npackages: [b c]\n", "bad.toml": "ref = \"a\"\ninclude = \"inc.yaml\"\n", "inc.yaml": "packges: [a]\n", "worse.yaml": "ref: a//b\nselinux: 3\ninclude: inc.yaml\n"})
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.toml")
	code, out, _ := program(t, "treefile", "check", good)
	if want := good + ": sound; ref a, 2 packages asked for, 1 files\n"; code != 0 || out != want {
		t.Errorf("%d %q, want %q", code, out, want)
	}
	code, out, errs := program(t, "treefile", "check", good, bad)
	if want := filepath.Join(dir, "inc.yaml") + ":1: packges: unknown key (did you mean \"packages\"?)\n"; code != 1 || !strings.HasSuffix(out, want) || !strings.Contains(errs, "1 of 2") {
		t.Errorf("%d %q %q, want %q", code, out, errs, want)
	}
	code, out, _ = program(t, "treefile", "check", "--json", bad)
	var reports []checkReport
	testutil.Must(t, json.Unmarshal([]byte(out), &reports))
	if f := reports[0].Findings; code != 1 || len(f) != 1 || f[0].File != "inc.yaml" || f[0].Line != 1 || f[0].Key != "packges" || f[0].Hint != `did you mean "packages"?` {
		t.Errorf("%d %+v", code, reports)
	}
	worse := filepath.Join(dir, "worse.yaml")
	code, out, _ = program(t, "treefile", "check", worse)
	if lines := strings.Split(out, "\n"); code != 1 || len(lines) != 4 || !strings.HasPrefix(lines[0], filepath.Join(dir, "inc.yaml")+":1: packges: ") ||
		!strings.HasPrefix(lines[1], worse+":1: ref: ") || !strings.HasPrefix(lines[2], worse+":2: selinux: ") {
		t.Errorf("%d %s", code, out)
	}
	if code, _, _ := program(t, "treefile", "check"); code != 2 {
		t.Errorf("without a name: %d", code)
	}
}

func TestTreefileShowAndConvert(t *testing.T) {
	t.Parallel()
	dir := treeDir(t, map[string]string{
		"t.yaml":   "# Ours.\ninclude: inc.toml\nref: x/${basearch} # branch\npackages:\n  - b\n",
		"inc.toml": "packages = [\n  \"a\",\n]\nrecommends = false\n",
	})
	name := filepath.Join(dir, "t.yaml")
	code, out, _ := program(t, "treefile", "show", "--arch", "aarch64", name)
	want := "ref = \"x/aarch64\" # t.yaml:3\nbasearch = \"aarch64\" # default\npackages = [\n  \"a\", # inc.toml:2\n  \"b\", # t.yaml:5\n]\nrecommends = false # inc.toml:4\n"
	if code != 0 || out != want {
		t.Errorf("%d\n%s\nwant\n%s", code, out, want)
	}
	code, out, _ = program(t, "treefile", "show", "--json", "--defaults", name)
	var shown struct {
		Files  []string
		Values []struct {
			Key    string
			Value  any
			Origin struct {
				File string
				Line int
			}
		}
	}
	testutil.Must(t, json.Unmarshal([]byte(out), &shown))
	found := map[string]string{}
	for _, v := range shown.Values {
		found[v.Key] = v.Origin.File
	}
	if where, ok := found["documentation"]; code != 0 || len(shown.Files) != 2 || found["packages[0]"] != "inc.toml" || !ok || where != "" {
		t.Errorf("%d %+v", code, shown)
	}
	code, out, _ = program(t, "treefile", "convert", name)
	if want := "# Ours.\ninclude = \"inc.toml\"\nref = \"x/${basearch}\" # branch\npackages = [\"b\"]\n"; code != 0 || out != want {
		t.Errorf("%d\n%s\nwant\n%s", code, out, want)
	}
	flat := filepath.Join(dir, "flat.json")
	if code, _, errs := program(t, "treefile", "convert", "--flatten", "-o", flat, name); code != 0 {
		t.Fatal(errs)
	}
	if code, _, errs := program(t, "treefile", "convert", "--flatten", "-o", flat, name); code != 1 || !strings.Contains(errs, "use --force") {
		t.Errorf("over an old file: %d %s", code, errs)
	}
	if code, out, _ := program(t, "treefile", "show", flat); code != 0 || !strings.Contains(out, "recommends = false # flat.json:") {
		t.Errorf("%d %s", code, out)
	}
}

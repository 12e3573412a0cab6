// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

//go:embed specs/*.spec
var specFiles embed.FS

// rootHash is crypt(3) of "testdistro": the root password of a distribution
// that only tests install.
const rootHash = "$6$testdistro$t7jGm41qMm2qG491PSxwGgl53NDMC9nrqCrEHTA1/C1i/M2fOs2DoRpEdYZ/2Zx8KgnQwR6elwa2qxMzCLmcO/"

// specData is what the hand-written specs may use.
type specData struct {
	State     int
	Dirs      []string
	Essential []string
	Extras    []string
	Users     []string
	Groups    []string
	RootHash  string
}

// ownSpec is a rendered hand-written spec.
type ownSpec struct {
	Name string
	Text string
}

// ownSpecs renders every spec for a state, sorted by name.
func ownSpecs(d specData) ([]ownSpec, error) {
	names, err := fs.Glob(specFiles, "specs/*.spec")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	d.Dirs = words(standardDirs)
	d.RootHash = rootHash
	if d.Users, d.Groups, err = setupAccounts(); err != nil {
		return nil, err
	}
	var out []ownSpec
	for _, n := range names {
		text, err := renderSpec(n, d)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", n, err)
		}
		base := strings.TrimSuffix(strings.TrimPrefix(n, "specs/"), ".spec")
		out = append(out, ownSpec{Name: base, Text: text})
	}
	return out, nil
}

func renderSpec(name string, d specData) (string, error) {
	raw, err := specFiles.ReadFile(name)
	if err != nil {
		return "", err
	}
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"join": strings.Join}).Parse(string(raw))
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, d); err != nil {
		return "", err
	}
	return b.String(), nil
}

var accountLine = regexp.MustCompile(`(?m)^([a-z_][a-z0-9_-]*):x:\d+:(.*)$`)

// setupAccounts reads the users and groups that package setup brings from the
// here-documents of its spec: passwd lines have further colons.
func setupAccounts() (users, groups []string, err error) {
	raw, err := specFiles.ReadFile("specs/setup.spec")
	if err != nil {
		return nil, nil, err
	}
	for _, m := range accountLine.FindAllStringSubmatch(string(raw), -1) {
		if strings.Contains(m[2], ":") {
			users = append(users, m[1])
		} else {
			groups = append(groups, m[1])
		}
	}
	return users, groups, nil
}

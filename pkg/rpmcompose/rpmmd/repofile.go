// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// ParseRepos reads a .repo file: one section per repository. Variables such as $basearch and ${releasever}
// are replaced from vars, and unknown ones stay. Keys that this package does not use are passed over, as
// other programs' keys stand in the same files. A repository that does not mention gpgcheck has it on.
//
// name stands in errors, which give the line and wrap [ErrSyntax].
func ParseRepos(name string, data []byte, vars map[string]string) ([]Repo, error) {
	sections, err := parseINI(name, data)
	if err != nil {
		return nil, err
	}
	var repos []Repo
	seen := map[string]bool{}
	for _, s := range sections {
		if s.name == "main" {
			continue // options of the package manager itself
		}
		if seen[s.name] {
			return nil, fmt.Errorf("read %s: line %d: repository %q stands twice: %w", name, s.line, s.name, ErrSyntax)
		}
		seen[s.name] = true
		r, err := s.repo(name, vars)
		if err != nil {
			return nil, err
		}
		repos = append(repos, r)
	}
	return repos, nil
}

type iniSection struct {
	name string
	line int
	keys []iniKey
}

type iniKey struct {
	name, value string
	line        int
}

func parseINI(file string, data []byte) ([]iniSection, error) {
	var sections []iniSection
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 1<<20)
	for line := 1; sc.Scan(); line++ {
		raw := strings.TrimRight(sc.Text(), " \t\r")
		text := strings.TrimLeft(raw, " \t")
		var cur *iniSection
		if n := len(sections); n > 0 {
			cur = &sections[n-1]
		}
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
		case text[0] == '[' && text == raw:
			id, ok := strings.CutSuffix(text[1:], "]")
			if !ok || id == "" {
				return nil, fmt.Errorf("read %s: line %d: section %q: %w", file, line, text, ErrSyntax)
			}
			sections = append(sections, iniSection{name: id, line: line})
		case cur == nil:
			return nil, fmt.Errorf("read %s: line %d: %q stands before the first section: %w", file, line, text, ErrSyntax)
		case text != raw && len(cur.keys) > 0: // an indented line continues a list
			cur.keys[len(cur.keys)-1].value += "\n" + text
		default:
			k, v, ok := strings.Cut(text, "=")
			if !ok {
				return nil, fmt.Errorf("read %s: line %d: %q has no value: %w", file, line, text, ErrSyntax)
			}
			cur.keys = append(cur.keys, iniKey{strings.TrimSpace(k), strings.TrimSpace(v), line})
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", file, ErrSyntax, err)
	}
	return sections, nil
}

func (s iniSection) repo(file string, vars map[string]string) (Repo, error) {
	if strings.ContainsAny(s.name, "/ \t\x00") || strings.HasPrefix(s.name, ".") {
		return Repo{}, fmt.Errorf("read %s: line %d: repository name %q: %w", file, s.line, s.name, ErrSyntax)
	}
	r := Repo{ID: s.name, Name: s.name, Enabled: true, GPGCheck: true, Priority: DefaultPriority, Cost: DefaultCost}
	for _, k := range s.keys {
		if err := r.set(k.name, Expand(k.value, vars)); err != nil {
			return Repo{}, fmt.Errorf("read %s: line %d: %s of repository %s: %w", file, k.line, k.name, s.name, err)
		}
	}
	return r, nil
}

func (r *Repo) set(key, value string) (err error) {
	switch key {
	case "name":
		r.Name = value
	case "baseurl":
		r.BaseURLs = splitList(value)
	case "mirrorlist":
		r.Mirrorlist = value
	case "metalink":
		r.Metalink = value
	case "gpgkey":
		r.GPGKeys = splitList(value)
	case "includepkgs", "includepkg":
		r.IncludePkgs = splitList(value)
	case "exclude", "excludepkgs":
		r.ExcludePkgs = splitList(value)
	case "enabled":
		r.Enabled, err = parseBool(value)
	case "gpgcheck", "pkg_gpgcheck":
		r.GPGCheck, err = parseBool(value)
	case "repo_gpgcheck":
		r.RepoGPGCheck, err = parseBool(value)
	case "skip_if_unavailable":
		r.SkipIfUnavailable, err = parseBool(value)
	case "module_hotfixes":
		r.ModuleHotfixes, err = parseBool(value)
	case "priority":
		r.Priority, err = parseInt(value)
	case "cost":
		r.Cost, err = parseInt(value)
	default:
		_, err = r.Transport.set(key, value)
	}
	return err
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "yes", "true", "on":
		return true, nil
	case "0", "no", "false", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither 1 nor 0: %w", s, ErrSyntax)
}

func parseInt(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number: %w", s, ErrSyntax)
	}
	return n, nil
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' || r == ',' })
}

// Expand replaces $name and ${name} from vars; unknown names stay as they are.
func Expand(s string, vars map[string]string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		name, size := variable(s)
		if v, ok := vars[name]; ok && size > 0 {
			b.WriteString(v)
		} else {
			size = max(size, 1)
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
}

// variable measures a reference at the start of s; size is 0 if there is none.
func variable(s string) (name string, size int) {
	if strings.HasPrefix(s, "${") {
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return "", 0
		}
		return s[2:end], end + 1
	}
	n := 1
	for n < len(s) && (s[n] == '_' || s[n] >= '0' && s[n] <= '9' || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z') {
		n++
	}
	if n == 1 {
		return "", 0
	}
	return s[1:n], n
}

// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"cmp"
	"debug/pe"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// booted is what a boot loader starts without being asked.
type booted struct {
	kernel  []byte
	initrds [][]byte
	options string
}

// firmware is a model of a boot loader.
type firmware func(v volume) (booted, error)

// load reads what an entry names; a boot loader that finds one missing stops.
func load(v volume, kernel string, initrds []string, options string) (booted, error) {
	b := booted{options: strings.TrimSpace(options)}
	var err error
	if kernel == "" {
		return b, errors.New("no kernel")
	}
	if b.kernel, err = v.file(kernel); err != nil {
		return b, err
	}
	for _, name := range initrds {
		data, err := v.file(name)
		if err != nil {
			return b, err
		}
		b.initrds = append(b.initrds, data)
	}
	return b, nil
}

// stub follows the stub of a unified kernel image, as what a boot loader starts,
// with Secure Boot off: it takes the boot loader's command line, and no initramfs but
// its own. The image is read by the standard library.
func stub(loader firmware) firmware {
	return func(v volume) (booted, error) {
		b, err := loader(v)
		if err != nil || !bytes.HasPrefix(b.kernel, []byte("MZ")) {
			return b, err
		}
		f, err := pe.NewFile(bytes.NewReader(b.kernel))
		if err != nil {
			return b, err
		}
		content := func(name string) ([]byte, error) {
			s := f.Section(name)
			if s == nil {
				return nil, fmt.Errorf("no section %s", name)
			}
			data, err := s.Data()
			return data[:min(len(data), int(s.VirtualSize))], err
		}
		kernel, err := content(".linux")
		if err != nil {
			return b, err
		}
		initrd, err := content(".initrd")
		if len(b.initrds) > 0 {
			err = errors.New("two initramfs")
		}
		return booted{kernel: kernel, initrds: [][]byte{initrd}, options: b.options}, err
	}
}

// sdEntry is an entry as systemd-boot reads it.
type sdEntry struct {
	id, sortKey, version, machine, linux, options string
	initrds                                       []string
	left                                          int // -1: not counted
}

// systemdBoot follows systemd-boot: the first entry in its order that matches
// default in loader.conf, else the first. Entries that were tried too often come
// last; those without a kernel do not come at all.
func systemdBoot(v volume) (booted, error) {
	var list []sdEntry
	for _, name := range v.list("loader/entries") {
		e, ok := sdRead(v, strings.ToLower(name))
		if ok {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, sdOrder)
	pattern := ""
	conf, _ := v.file("loader/loader.conf")
	for line := range strings.SplitSeq(string(conf), "\n") {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "default" {
			pattern = strings.ToLower(f[1])
		}
	}
	if len(list) == 0 {
		return booted{}, errors.New("no entries")
	}
	e := list[0]
	for _, c := range list {
		if ok, err := path.Match(pattern, c.id); ok && err == nil {
			e = c
			break
		}
	}
	return load(v, e.linux, e.initrds, e.options)
}

func sdRead(v volume, name string) (sdEntry, bool) {
	e := sdEntry{id: name, left: -1}
	if !strings.HasSuffix(name, ".conf") || strings.HasPrefix(name, "auto-") {
		return e, false
	}
	if _, count, ok := strings.Cut(strings.TrimSuffix(name, ".conf"), "+"); ok {
		left, _, _ := strings.Cut(count, "-")
		if n, err := strconv.Atoi(left); err == nil {
			e.left = n
		}
	}
	data, err := v.file("loader/entries/" + name)
	if err != nil {
		return e, false
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.TrimSpace(value)
		switch key {
		case "sort-key":
			e.sortKey = value
		case "version":
			e.version = value
		case "machine-id":
			e.machine = value
		case "linux":
			e.linux = value
		case "initrd":
			e.initrds = append(e.initrds, value)
		case "options":
			e.options += " " + value
		}
	}
	if e.linux == "" {
		return e, false
	}
	_, err = v.file(e.linux)
	return e, err == nil
}

func sdOrder(a, b sdEntry) int {
	bad := func(e sdEntry) int {
		if e.left == 0 {
			return 1
		}
		return 0
	}
	keyless := func(e sdEntry) int {
		if e.sortKey == "" {
			return 1
		}
		return 0
	}
	if c := cmp.Or(cmp.Compare(bad(a), bad(b)), cmp.Compare(keyless(a), keyless(b))); c != 0 {
		return c
	}
	if a.sortKey != "" {
		if c := cmp.Or(cmp.Compare(a.sortKey, b.sortKey), cmp.Compare(a.machine, b.machine), -versionOrder(a.version, b.version)); c != 0 {
			return c
		}
	}
	return -versionOrder(a.id, b.id)
}

// versionOrder compares names by their numbers and words.
func versionOrder(a, b string) int {
	x, y := versionParts(a), versionParts(b)
	for i := range min(len(x), len(y)) {
		m, aerr := strconv.Atoi(x[i])
		n, berr := strconv.Atoi(y[i])
		c := strings.Compare(x[i], y[i])
		switch {
		case aerr == nil && berr == nil:
			c = cmp.Compare(m, n)
		case aerr == nil:
			c = 1 // a number is newer than a word
		case berr == nil:
			c = -1
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

func versionParts(s string) []string {
	var out []string
	last := ' '
	kind := func(r rune) rune {
		switch {
		case r >= '0' && r <= '9':
			return '0'
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
			return 'a'
		case r == '.', r == '-':
			return r
		}
		return ' '
	}
	for _, r := range s {
		k := kind(r)
		if k != ' ' {
			if k == last && (k == '0' || k == 'a') {
				out[len(out)-1] += string(r)
			} else {
				out = append(out, string(r))
			}
		}
		last = k
	}
	return out
}

// blsReader stands for boot loaders that read the entries through the link: the
// highest version boots.
func blsReader(v volume) (booted, error) {
	var best sdEntry
	for _, name := range v.list("loader/entries") {
		if e, ok := sdRead(v, name); ok && (best.id == "" || versionOrder(e.version, best.version) > 0) {
			best = e
		}
	}
	if best.id == "" {
		return booted{}, errors.New("no entries")
	}
	return load(v, best.linux, best.initrds, best.options)
}

// grubBoot follows GRUB through the file that it opens to the first entry.
func grubBoot(v volume) (booted, error) { return grubScript(v, "grub2/grub.cfg", 0) }

func grubScript(v volume, name string, depth int) (booted, error) {
	data, err := v.file(name)
	if err != nil {
		return booted{}, err
	}
	if depth > 4 {
		return booted{}, fmt.Errorf("%s: too deep", name)
	}
	dir := ""
	if v.list("boot/ostree") != nil {
		dir = "/boot"
	}
	kernel, options := "", ""
	var initrds []string
	for line := range strings.SplitSeq(string(data), "\n") {
		words := grubWords(strings.ReplaceAll(line, "${bootdir}", dir))
		if len(words) < 2 {
			if len(words) == 1 && words[0] == "}" && kernel != "" {
				return load(v, kernel, initrds, options)
			}
			continue
		}
		switch words[0] {
		case "source", "configfile":
			return grubScript(v, words[1], depth+1)
		case "linux":
			kernel, options = words[1], strings.Join(words[2:], " ")
		case "initrd":
			initrds = words[1:]
		}
	}
	return booted{}, fmt.Errorf("%s: no whole entry", name)
}

// grubWords splits a line at spaces outside of single quotes.
func grubWords(line string) []string {
	var out []string
	var word strings.Builder
	quoted, any := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'':
			quoted, any = !quoted, true
		case c == '\\' && !quoted && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			any = true
		case (c == ' ' || c == '\t') && !quoted:
			if any {
				out = append(out, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteByte(c)
			any = true
		}
	}
	if any {
		out = append(out, word.String())
	}
	return out
}

// ubootBoot follows a U-Boot script that imports uEnv.txt.
func ubootBoot(v volume) (booted, error) {
	data, err := v.file("loader/uEnv.txt")
	if err != nil {
		return booted{}, err
	}
	vars := map[string]string{}
	for line := range strings.SplitSeq(string(data), "\n") {
		if name, value, ok := strings.Cut(line, "="); ok {
			vars[name] = value
		}
	}
	var initrds []string
	if name := vars["ramdisk_image"]; name != "" {
		initrds = []string{name}
	}
	return load(v, vars["kernel_image"], initrds, vars["bootargs"])
}

// ziplBoot follows s390x's firmware, which loads what zipl noted when it last ran.
func ziplBoot(v volume) (booted, error) {
	data, err := v.file("bootmap")
	if err != nil {
		return booted{}, err
	}
	lines := strings.Split(string(data), "\n")
	if len(lines) != 4 {
		return booted{}, errors.New("bootmap: torn")
	}
	return load(v, lines[0], strings.Fields(lines[1]), lines[2])
}

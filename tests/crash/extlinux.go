// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// extlinuxLabel is an entry of EXTLINUX's configuration.
type extlinuxLabel struct {
	name, kernel, options string
	initrds               []string
}

// extlinuxBoot follows EXTLINUX: the label that its auxiliary data vector asks for
// once, else the one that the last DEFAULT names, else the first of the menu.
func extlinuxBoot(v volume) (booted, error) {
	labels, want, err := extlinuxMenu(v, "syslinux/syslinux.cfg", 0)
	if err != nil {
		return booted{}, err
	}
	if len(labels) == 0 {
		return booted{}, fmt.Errorf("no labels")
	}
	at := labels[0]
	for _, name := range []string{want, extlinuxOnce(v)} {
		for _, l := range labels {
			if l.name == name && !strings.Contains(name, " ") {
				at = l
			}
		}
	}
	return load(v, at.kernel, at.initrds, at.options)
}

func extlinuxMenu(v volume, name string, depth int) (labels []extlinuxLabel, want string, err error) {
	data, err := v.file(name)
	if err != nil || depth > 4 {
		return nil, "", fmt.Errorf("%s: depth %d: %w", name, depth, err)
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == "LABEL" {
			labels = append(labels, extlinuxLabel{name: value})
		}
		switch last := len(labels) - 1; {
		case key == "INCLUDE":
			more, def, err := extlinuxMenu(v, value, depth+1)
			if err != nil {
				return nil, "", err
			}
			labels = append(labels, more...)
			if def != "" {
				want = def
			}
		case key == "DEFAULT":
			want = value
		case last < 0:
		case key == "KERNEL":
			labels[last].kernel = value
		case key == "INITRD":
			labels[last].initrds = strings.Split(value, ",")
		case key == "APPEND":
			labels[last].options = value
		}
	}
	return labels, want, nil
}

const (
	advFile   = "syslinux/ldlinux.sys"
	advSector = 512
	advHead   = 0x5a2d2fa5
	advSum    = 0xa3041767
	advTail   = 0xdd28bf64
)

// extlinuxOnce reads what the first good one of the last two sectors asks for.
func extlinuxOnce(v volume) string {
	data, err := v.file(advFile)
	if err != nil || len(data) < 2*advSector {
		return ""
	}
	data = data[len(data)-2*advSector:]
	for ; len(data) > 0; data = data[advSector:] {
		if s := data[:advSector]; advGood(s) {
			at, ok := advFind(s)
			if !ok {
				return ""
			}
			return string(s[at+2 : at+2+int(s[at+1])])
		}
	}
	return ""
}

func advGood(s []byte) bool {
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(s[i:]) }
	sum := uint32(0)
	for i := 4; i < advSector-4; i += 4 {
		sum += word(i)
	}
	return word(0) == advHead && word(advSector-4) == advTail && sum == advSum
}

// advFind gives the offset of the item that asks for a label once.
func advFind(s []byte) (int, bool) {
	for i := 8; i+2 <= advSector-4 && s[i] != 0; i += 2 + int(s[i+1]) {
		if s[i] == 1 {
			return i, i+2+int(s[i+1]) <= advSector-4
		}
	}
	return 0, false
}

// advSeal writes the marks and the checksum of a sector.
func advSeal(s []byte) {
	binary.LittleEndian.PutUint32(s, advHead)
	binary.LittleEndian.PutUint32(s[advSector-4:], advTail)
	sum := uint32(advSum)
	for i := 8; i < advSector-4; i += 4 {
		sum -= binary.LittleEndian.Uint32(s[i:])
	}
	binary.LittleEndian.PutUint32(s[4:], sum)
}

// extlinuxFile is an ldlinux.sys that asks for nothing.
func extlinuxFile() string {
	s := make([]byte, advSector)
	advSeal(s)
	return strings.Repeat("code", 256) + string(s) + string(s)
}

// extlinuxTakes does to an ldlinux.sys what the loader does before it starts what it
// was asked for once: it removes the item from both sectors.
func extlinuxTakes(file []byte) {
	at := len(file) - 2*advSector
	s := file[at : at+advSector]
	if i, ok := advFind(s); ok {
		rest := append([]byte(nil), s[i+2+int(s[i+1]):advSector-4]...)
		clear(s[i : advSector-4])
		copy(s[i:], rest)
	}
	advSeal(s)
	copy(file[at+advSector:], s)
}

// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
)

// maxMirrors bounds how many mirrors are tried.
const maxMirrors = 16

// mirrors gives the base addresses of a repository that names a metalink or a mirror list instead.
func (m *Metadata) mirrors(ctx context.Context) ([]string, error) {
	address := m.Repo.Metalink
	if address == "" {
		address = m.Repo.Mirrorlist
	}
	if address == "" {
		return nil, fmt.Errorf("neither baseurl nor metalink nor mirrorlist: %w", ErrSyntax)
	}
	data, err := m.get(ctx, address, maxRepomd)
	if err != nil {
		return nil, err
	}
	var list []string
	if bytes.Contains(data[:min(len(data), 1024)], []byte("<metalink")) {
		list, m.digests, err = parseMetalink(data)
	} else {
		list = parseMirrorlist(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", address, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("read %s: no usable mirror: %w", address, ErrSyntax)
	}
	return list[:min(len(list), maxMirrors)], nil
}

// parseMirrorlist takes one address per line; lines that are no address are comments or error texts.
func parseMirrorlist(data []byte) []string {
	var out []string
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if strings.HasPrefix(line, "#") {
			continue
		}
		if usable(line) {
			out = append(out, strings.TrimSuffix(line, "/"))
		}
	}
	return out
}

func usable(address string) bool {
	return strings.HasPrefix(address, "http://") || strings.HasPrefix(address, "https://") || strings.HasPrefix(address, "file:///")
}

type metalinkXML struct {
	Files []struct {
		Name       string    `xml:"name,attr"`
		Hashes     []hashXML `xml:"verification>hash"`
		Alternates []struct {
			Hashes []hashXML `xml:"verification>hash"`
		} `xml:"alternates>alternate"`
		URLs []urlXML `xml:"resources>url"`
	} `xml:"files>file"`
}

type urlXML struct {
	Preference string `xml:"preference,attr"`
	Text       string `xml:",chardata"`
}

type hashXML struct {
	Type string `xml:"type,attr"`
	Hex  string `xml:",chardata"`
}

// preference is 0 where it is no number: a slip in one mirror's line spoils no list.
func (u urlXML) preference() int {
	n, _ := strconv.Atoi(u.Preference)
	return n
}

// strongest gives the best digest of a file; MD5 is worth nothing.
func strongest(hashes []hashXML) (fetch.Checksum, bool) {
	for _, algo := range []string{"sha512", "sha256", "sha1"} {
		for _, h := range hashes {
			c := fetch.Checksum{Algo: algo, Hex: strings.ToLower(strings.TrimSpace(h.Hex))}
			if _, err := c.Hash(); err == nil && h.Type == algo {
				return c, true
			}
		}
	}
	return fetch.Checksum{}, false
}

// checkMetalink compares repomd.xml with the digests of the metalink, which names those of earlier versions,
// too, since mirrors lag behind.
func (m *Metadata) checkMetalink(repomd []byte) error {
	if len(m.digests) == 0 {
		return nil
	}
	for _, c := range m.digests {
		algo, err := c.Hash()
		if err != nil {
			return err
		}
		h := algo.New()
		h.Write(repomd)
		if hex.EncodeToString(h.Sum(nil)) == c.Hex {
			return nil
		}
	}
	return fmt.Errorf("repomd.xml is none of those that the metalink names: %w", fetch.ErrChecksum)
}

// parseMetalink takes the addresses and digests of repomd.xml, the preferred addresses first.
func parseMetalink(data []byte) (out []string, digests []fetch.Checksum, err error) {
	var x metalinkXML
	if err := xml.Unmarshal(data, &x); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	for _, f := range x.Files {
		if f.Name != "repomd.xml" {
			continue
		}
		if c, ok := strongest(f.Hashes); ok {
			digests = append(digests, c)
		}
		for _, a := range f.Alternates {
			if c, ok := strongest(a.Hashes); ok {
				digests = append(digests, c)
			}
		}
		urls := f.URLs
		slices.SortStableFunc(urls, func(a, b urlXML) int { return cmp.Compare(b.preference(), a.preference()) })
		for _, u := range urls {
			if base, ok := strings.CutSuffix(strings.TrimSpace(u.Text), "/repodata/repomd.xml"); ok && usable(base) {
				out = append(out, base)
			}
		}
	}
	return out, digests, nil
}

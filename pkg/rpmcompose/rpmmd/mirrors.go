// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
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
	data, err := fetch.Get(ctx, address, maxRepomd, m.fetchOptions())
	if err != nil {
		return nil, err
	}
	var list []string
	if bytes.Contains(data[:min(len(data), 1024)], []byte("<metalink")) {
		list, err = parseMetalink(data)
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
		Name string `xml:"name,attr"`
		URLs []struct {
			Text string `xml:",chardata"`
		} `xml:"resources>url"`
	} `xml:"files>file"`
}

// parseMetalink takes the addresses of repomd.xml, which the server sorts by preference.
func parseMetalink(data []byte) ([]string, error) {
	var x metalinkXML
	if err := xml.Unmarshal(data, &x); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	var out []string
	for _, f := range x.Files {
		if f.Name != "repomd.xml" {
			continue
		}
		for _, u := range f.URLs {
			if base, ok := strings.CutSuffix(strings.TrimSpace(u.Text), "/repodata/repomd.xml"); ok && usable(base) {
				out = append(out, base)
			}
		}
	}
	return out, nil
}

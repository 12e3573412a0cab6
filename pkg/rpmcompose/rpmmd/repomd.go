// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
)

// list is one entry of repomd.xml.
type list struct {
	location string
	checksum fetch.Checksum
	size     int64
	openSize int64
}

type repomdXML struct {
	XMLName  xml.Name `xml:"repomd"`
	Revision string   `xml:"revision"`
	Data     []struct {
		Type     string `xml:"type,attr"`
		Checksum struct {
			Type string `xml:"type,attr"`
			Hex  string `xml:",chardata"`
		} `xml:"checksum"`
		Location struct {
			Href string `xml:"href,attr"`
			Base string `xml:"http://www.w3.org/XML/1998/namespace base,attr"`
		} `xml:"location"`
		Size     int64 `xml:"size"`
		OpenSize int64 `xml:"open-size"`
	} `xml:"data"`
}

// parseRepomd reads repomd.xml: the names, sizes and checksums of the lists. A list that is named twice is
// an error, since programs would disagree about it.
func parseRepomd(data []byte) (revision string, lists map[string]list, err error) {
	var x repomdXML
	dec := xml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&x); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	lists = make(map[string]list, len(x.Data))
	for _, d := range x.Data {
		if d.Type == "" || d.Location.Href == "" {
			return "", nil, fmt.Errorf("list %q without type or location: %w", d.Type, ErrSyntax)
		}
		if _, twice := lists[d.Type]; twice {
			return "", nil, fmt.Errorf("list %q stands twice: %w", d.Type, ErrSyntax)
		}
		if d.Size < 0 || d.OpenSize < 0 {
			return "", nil, fmt.Errorf("list %q has a negative size: %w", d.Type, ErrSyntax)
		}
		l := list{location: d.Location.Href, size: d.Size, openSize: d.OpenSize}
		l.checksum = fetch.Checksum{Algo: d.Checksum.Type, Hex: strings.ToLower(strings.TrimSpace(d.Checksum.Hex))}
		if l.checksum.Algo == "sha" {
			l.checksum.Algo = "sha1"
		}
		lists[d.Type] = l
	}
	return strings.TrimSpace(x.Revision), lists, nil
}

// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strconv"
	"strings"
)

const (
	maxMetalink     = 1 << 20 // bytes of the XML file
	maxMetalinkDeep = 64      // nested elements
	maxMetalinkURLs = 256
)

var errMetalink = errors.New("metalink is not usable")

// metalink is what a metalink file (version 3.0) says about one file.
type metalink struct {
	size           int64
	sha256, sha512 string // hexadecimal, "" if not given
	urls           []*url.URL
}

// parseMetalink reads the entry of the named file. Elements that are not known
// are passed over with all they hold.
func parseMetalink(data []byte, file string) (metalink, error) {
	p := metalinkParser{dec: xml.NewDecoder(bytes.NewReader(data)), file: file}
	p.dec.CharsetReader = func(string, io.Reader) (io.Reader, error) { return nil, errMetalink }
	if err := p.run(); err != nil {
		return metalink{}, err
	}
	return p.link, p.link.check(p.found)
}

func (m metalink) check(found bool) error {
	switch {
	case !found:
		return sayf(errMetalink, "No <file> element found in metalink")
	case m.size <= 0:
		return sayf(errMetalink, "No <size> element found or it is zero")
	case m.sha256 == "" && m.sha512 == "":
		return sayf(errMetalink, "No <verification> element with known <hash type=> found")
	case m.sha256 != "" && !isHex(m.sha256, sha256.Size):
		return sayf(errMetalink, "Invalid hash digest for sha256")
	case m.sha512 != "" && !isHex(m.sha512, sha512.Size):
		return sayf(errMetalink, "Invalid hash digest for sha512")
	case len(m.urls) == 0:
		return sayf(errMetalink, "No <url method='http'> elements found")
	}
	return nil
}

func isHex(s string, size int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == size && strings.ToLower(s) == s
}

// verify compares a downloaded file with what the metalink says of it.
func (m metalink) verify(data []byte) error {
	if int64(len(data)) != m.size {
		return sayf(errMetalink, "Expected size is %d bytes but content is %d bytes", m.size, len(data))
	}
	want, got := m.sha512, ""
	if want != "" {
		sum := sha512.Sum512(data)
		got = hex.EncodeToString(sum[:])
	} else {
		sum := sha256.Sum256(data)
		want, got = m.sha256, hex.EncodeToString(sum[:])
	}
	if want != got {
		return sayf(errMetalink, "Expected checksum is %s but actual is %s", want, got)
	}
	return nil
}

// metalinkParser follows the path of open elements.
type metalinkParser struct {
	dec      *xml.Decoder
	file     string
	stack    []string
	ours     bool // inside the entry of the file
	found    bool
	hashType string
	protocol string
	text     strings.Builder
	link     metalink
}

func (p *metalinkParser) run() error {
	began := false
	for {
		tok, err := p.dec.Token()
		if errors.Is(err, io.EOF) && began {
			return nil
		}
		if err != nil && !began {
			return sayf(errMetalink, "Document must begin with an element")
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errMetalink, err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			began = true
			if err := p.start(t); err != nil {
				return err
			}
		case xml.EndElement:
			if err := p.end(); err != nil {
				return err
			}
		case xml.CharData:
			if !began && len(bytes.TrimSpace(t)) > 0 {
				return sayf(errMetalink, "Document must begin with an element")
			}
			p.text.Write(t)
		}
	}
}

func attr(t xml.StartElement, name string) string {
	for _, a := range t.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func (p *metalinkParser) start(t xml.StartElement) error {
	if len(p.stack) == maxMetalinkDeep {
		return fmt.Errorf("%w: elements nested deeper than %d", errMetalink, maxMetalinkDeep)
	}
	p.stack = append(p.stack, t.Name.Local)
	p.text.Reset()
	switch strings.Join(p.stack, "/") {
	case "metalink/files/file":
		p.ours = !p.found && attr(t, "name") == p.file
		p.found = p.found || p.ours
	case "metalink/files/file/verification/hash":
		p.hashType = attr(t, "type")
	case "metalink/files/file/resources/url":
		p.protocol = attr(t, "protocol")
	}
	return nil
}

func (p *metalinkParser) end() error {
	where, text := strings.Join(p.stack, "/"), strings.TrimSpace(p.text.String())
	p.stack = p.stack[:len(p.stack)-1]
	p.text.Reset()
	if !p.ours {
		return nil
	}
	switch where {
	case "metalink/files/file":
		p.ours = false
	case "metalink/files/file/size":
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 || n > maxSummary {
			return fmt.Errorf("%w: size %q", errMetalink, clip(text))
		}
		p.link.size = n
	case "metalink/files/file/verification/hash":
		switch p.hashType {
		case "sha256":
			p.link.sha256 = text
		case "sha512":
			p.link.sha512 = text
		}
	case "metalink/files/file/resources/url":
		p.url(text)
	}
	return nil
}

func (p *metalinkParser) url(text string) {
	if p.protocol != "http" && p.protocol != "https" || len(p.link.urls) == maxMetalinkURLs {
		return
	}
	if u, err := webURL(text); err == nil {
		p.link.urls = append(p.link.urls, u)
	}
}

// fromMetalink gets the summary that a metalink describes and the address of the
// repository that it came from.
func (h *httpSource) fromMetalink(ctx context.Context, where string) (base *url.URL, summary []byte, err error) {
	u, err := webURL(where)
	if err != nil {
		return nil, nil, err
	}
	f, err := h.getURL(ctx, u, request{max: maxMetalink})
	if err != nil {
		return nil, nil, fmt.Errorf("fetch metalink: %w", err)
	}
	m, err := parseMetalink(f.data, "summary")
	if err != nil {
		return nil, nil, err
	}
	for _, target := range m.urls {
		var got fetched
		got, err = h.getURL(ctx, target, request{max: maxSummary})
		if err == nil {
			err = m.verify(got.data)
		}
		if err == nil {
			base := *target
			base.Path, base.RawPath = path.Dir(target.Path), ""
			return &base, got.data, nil
		}
		h.log.Info("skip metalink target", "url", target.Redacted(), "error", err)
	}
	return nil, nil, err
}

// SPDX-License-Identifier: Apache-2.0

// Package sbom makes bills of materials of composed trees, in SPDX 2.3 and in
// CycloneDX 1.6. A document is a function of the commit: the same commit gives the
// same bytes.
package sbom

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/osrelease"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmdb"
)

// ErrFormat: there is no such format.
var ErrFormat = errors.New("unknown format of a bill of materials")

// Format is a document format.
type Format string

// The formats.
const (
	SPDX      Format = "spdx"
	CycloneDX Format = "cyclonedx"
)

// Formats lists the formats.
func Formats() []Format { return []Format{SPDX, CycloneDX} }

// Suffix is the usual end of the names of documents.
func (f Format) Suffix() string {
	if f == CycloneDX {
		return ".cdx.json"
	}
	return ".spdx.json"
}

// Inventory is what a commit holds.
type Inventory struct {
	Commit  ostree.Checksum
	Ref     string // the first that the commit is bound to; may be empty
	Version string
	Created time.Time // of the commit
	// Distribution is ID of os-release, and DistributionVersion VERSION_ID.
	Distribution, DistributionVersion string
	Packages                          []Package // sorted by name, version and architecture
}

// Package is one RPM of the tree.
type Package struct {
	rpm.NEVRA
	*rpm.Package
	// Needs are the packages that meet its requirements, as positions in the
	// inventory, sorted. Of several that meet one, all are listed.
	Needs []int
}

// Read takes the inventory of a commit from its package database. Without one the
// error wraps [rpmdb.ErrNoDatabase].
func Read(ctx context.Context, repo *ostree.Repo, sum ostree.Checksum) (*Inventory, error) {
	commit, err := repo.LoadCommit(sum)
	if err != nil {
		return nil, err
	}
	pkgs, err := rpmdb.ReadCommit(ctx, repo, sum)
	if err != nil {
		return nil, err
	}
	// Times of SPDX have four digits for the year.
	inv := &Inventory{Commit: sum, Created: time.Unix(int64(min(commit.Timestamp, maxTime)), 0).UTC()}
	inv.Version, _ = commit.Metadata.Str("version")
	if refs, _ := commit.Metadata.Strings("ostree.ref-binding"); len(refs) > 0 {
		inv.Ref = refs[0]
	}
	text, err := osRelease(repo, sum)
	if err != nil {
		return nil, fmt.Errorf("read os-release of commit %s: %w", sum, err)
	}
	inv.Distribution, inv.DistributionVersion = osrelease.Value(text, "ID"), osrelease.Value(text, "VERSION_ID")
	needs := requirements(pkgs)
	for i, p := range pkgs {
		inv.Packages = append(inv.Packages, Package{NEVRA: p.NEVRA(), Package: p, Needs: needs[i]})
	}
	return inv, nil
}

const (
	maxOSRelease = 64 << 10
	maxTime      = 253402300799 // 9999-12-31T23:59:59Z
)

// osRelease gives the text of os-release; "" where the tree has none, or no file
// by that name.
func osRelease(repo *ostree.Repo, sum ostree.Checksum) (string, error) {
	for _, name := range []string{"usr/lib/os-release", "usr/etc/os-release"} {
		info, content, err := repo.OpenPath(sum, name)
		if errors.Is(err, ostree.ErrNotFound) || errors.Is(err, ostree.ErrIsDir) || errors.Is(err, ostree.ErrLinkLoop) {
			continue
		}
		if err != nil {
			return "", err
		}
		if info.Size > maxOSRelease {
			return "", content.Close()
		}
		text, err := io.ReadAll(io.LimitReader(content, maxOSRelease))
		return string(text), errors.Join(err, content.Close())
	}
	return "", nil
}

// Document gives the document in a format, as indented JSON that ends in a line
// break.
func (inv *Inventory) Document(f Format) ([]byte, error) {
	var doc any
	switch f {
	case SPDX:
		doc = inv.spdx()
	case CycloneDX:
		doc = inv.cycloneDX()
	default:
		return nil, fmt.Errorf("%w: %q", ErrFormat, string(f))
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("write bill of materials: %w", err)
	}
	return b.Bytes(), nil
}

// name is what the document calls the tree.
func (inv *Inventory) name() string { return cmp.Or(oneLine(inv.Ref), "ostree-commit") }

// version is that of the commit, or its checksum.
func (inv *Inventory) version() string { return cmp.Or(oneLine(inv.Version), inv.Commit.String()) }

// purl is the package URL of a package. The namespace is the distribution, which
// scanners look vulnerabilities up by, else the vendor.
// Source: https://github.com/package-url/purl-spec
func (inv *Inventory) purl(p Package) string {
	var b strings.Builder
	b.WriteString("pkg:rpm/")
	if ns := strings.ToLower(oneLine(cmp.Or(inv.Distribution, p.Vendor()))); ns != "" {
		b.WriteString(purlEscape(ns) + "/")
	}
	b.WriteString(purlEscape(p.NEVRA.Name) + "@" + purlEscape(p.Version+"-"+p.Release))
	var qualifiers []string
	add := func(key, value string) {
		if value != "" {
			qualifiers = append(qualifiers, key+"="+purlEscape(value))
		}
	}
	add("arch", p.NEVRA.Arch)
	if inv.Distribution != "" && inv.DistributionVersion != "" {
		add("distro", oneLine(inv.Distribution+"-"+inv.DistributionVersion))
	}
	if p.Epoch != 0 {
		add("epoch", strconv.FormatUint(uint64(p.Epoch), 10))
	}
	if len(qualifiers) > 0 {
		b.WriteString("?" + strings.Join(qualifiers, "&"))
	}
	return b.String()
}

// purlEscape encodes all but letters, digits, ".", "-", "_" and "~".
func purlEscape(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// evr gives [EPOCH:]VERSION-RELEASE, without an epoch of 0.
func (p Package) evr() string {
	e := p.EVR
	e.HasEpoch = e.Epoch != 0
	return e.String()
}

// fileName is that of the package file.
func (p Package) fileName() string {
	n := p.NEVRA
	n.Epoch = 0
	return n.String() + ".rpm"
}

// headerDigest is the SHA-256 of the package's main header, which covers the digest
// of the payload; "" where the database has none of the right form.
func (p Package) headerDigest() string { return hexDigest(p.Header.String(rpm.TagSHA256Header)) }

// payloadDigest is the SHA-256 of the package's payload, compressed; "" where the
// database has none.
func (p Package) payloadDigest() string {
	const sha256 = 8 // Source: RFC 9580, section 9.5
	if algo, _ := p.Header.Uint(rpm.TagPayloadDigestAlgo); algo != sha256 {
		return ""
	}
	return hexDigest(p.Header.String(rpm.TagPayloadDigest))
}

func hexDigest(s string) string {
	s = strings.ToLower(s)
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return ""
	}
	return s
}

// website gives the address in a package, "" for what is none.
func (p Package) website() string {
	u, err := url.Parse(p.URL())
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "ftp"}, u.Scheme) {
		return ""
	}
	return u.String()
}

// oneLine makes text of a package fit for a field of one line.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	return strings.TrimSpace(s)
}

// unique gives every package a name of its own, made of its NEVRA by clean.
func unique(pkgs []Package, clean func(Package) string) []string {
	out := make([]string, len(pkgs))
	seen := map[string]bool{}
	for i, p := range pkgs {
		out[i] = clean(p)
		for n := 2; seen[out[i]]; n++ {
			out[i] = clean(p) + "-" + strconv.Itoa(n)
		}
		seen[out[i]] = true
	}
	return out
}

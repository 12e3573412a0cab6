// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

const noAssertion = "NOASSERTION"

// spdxDocument has the fields of an SPDX 2.3 document that are used here.
// Source: https://spdx.github.io/spdx-spec/v2.3/
type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	DataLicense   string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Licenses      []spdxLicense      `json:"hasExtractedLicensingInfos,omitempty"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created            string   `json:"created"`
	Creators           []string `json:"creators"`
	LicenseListVersion string   `json:"licenseListVersion"`
}

type spdxPackage struct {
	ID               string         `json:"SPDXID"`
	Name             string         `json:"name"`
	Version          string         `json:"versionInfo"`
	FileName         string         `json:"packageFileName,omitempty"`
	Supplier         string         `json:"supplier"`
	DownloadLocation string         `json:"downloadLocation"`
	FilesAnalyzed    bool           `json:"filesAnalyzed"`
	Homepage         string         `json:"homepage,omitempty"`
	SourceInfo       string         `json:"sourceInfo,omitempty"`
	LicenseConcluded string         `json:"licenseConcluded"`
	LicenseDeclared  string         `json:"licenseDeclared"`
	CopyrightText    string         `json:"copyrightText"`
	Summary          string         `json:"summary,omitempty"`
	Comment          string         `json:"comment,omitempty"`
	Checksums        []spdxChecksum `json:"checksums,omitempty"`
	ExternalRefs     []spdxRef      `json:"externalRefs,omitempty"`
	Purpose          string         `json:"primaryPackagePurpose,omitempty"`
	BuiltDate        string         `json:"builtDate,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxLicense struct {
	ID   string `json:"licenseId"`
	Name string `json:"name"`
	Text string `json:"extractedText"`
}

type spdxRelationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const (
	spdxDocumentID = "SPDXRef-DOCUMENT"
	spdxTreeID     = "SPDXRef-Tree"
)

func (inv *Inventory) spdx() spdxDocument {
	created := inv.Created.Format(time.RFC3339)
	doc := spdxDocument{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: spdxDocumentID, Name: inv.name() + " " + inv.version(),
		Namespace: "https://spdx.org/spdxdocs/ostree-commit-" + inv.Commit.String(),
		Creation:  spdxCreation{Created: created, Creators: []string{"Tool: compose-server"}, LicenseListVersion: licenseListVersion},
		Packages: []spdxPackage{{
			ID: spdxTreeID, Name: inv.name(), Version: inv.version(), Supplier: noAssertion, DownloadLocation: noAssertion,
			LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, CopyrightText: noAssertion, Purpose: "OPERATING_SYSTEM",
			Checksums: []spdxChecksum{{"SHA256", inv.Commit.String()}},
			Comment:   "The tree of an OSTree commit; the checksum is that of the commit object.",
		}},
		Relationships: []spdxRelationship{{spdxDocumentID, "DESCRIBES", spdxTreeID}},
	}
	ids := unique(inv.Packages, func(p Package) string { return "SPDXRef-Package-" + idString(p.NEVRA.String()) })
	licenses := spdxLicenses{names: newLicenseNames(), seen: map[string]bool{}}
	for i, p := range inv.Packages {
		doc.Packages = append(doc.Packages, inv.spdxPackage(p, ids[i], licenses.declared(p.License())))
		doc.Relationships = append(doc.Relationships, spdxRelationship{spdxTreeID, "CONTAINS", ids[i]})
	}
	for i, p := range inv.Packages {
		for _, n := range p.Needs {
			doc.Relationships = append(doc.Relationships, spdxRelationship{ids[i], "DEPENDS_ON", ids[n]})
		}
	}
	doc.Licenses = licenses.list
	return doc
}

func (inv *Inventory) spdxPackage(p Package, id, license string) spdxPackage {
	out := spdxPackage{
		ID: id, Name: oneLine(p.NEVRA.Name), Version: oneLine(p.evr()), FileName: oneLine(p.fileName()), Supplier: noAssertion, DownloadLocation: noAssertion,
		Homepage: p.website(), LicenseConcluded: noAssertion, LicenseDeclared: license, CopyrightText: noAssertion, Summary: oneLine(p.Summary()),
		ExternalRefs: []spdxRef{{"PACKAGE-MANAGER", "purl", inv.purl(p)}},
	}
	if v := oneLine(p.Vendor()); v != "" {
		out.Supplier = "Organization: " + v
	}
	if s := oneLine(p.SourceRPM()); s != "" {
		out.SourceInfo = "built from the source package " + s
	}
	if d := p.headerDigest(); d != "" {
		out.Checksums = append(out.Checksums, spdxChecksum{"SHA256", d})
		out.Comment = "The checksum is that of the package's main header, which covers the digest of the payload."
	}
	if t := p.BuildTime(); !t.IsZero() && t.Unix() >= 0 && t.Unix() <= maxTime {
		out.BuiltDate = t.Format(time.RFC3339)
	}
	return out
}

// madeRef begins the identifiers of licences that are no SPDX expressions.
const madeRef = "LicenseRef-RPM-"

// spdxLicenses collects the licences that a document must define itself.
type spdxLicenses struct {
	names licenseNames
	seen  map[string]bool
	list  []spdxLicense
}

// declared gives the licenseDeclared for the License tag of a package.
func (l *spdxLicenses) declared(text string) string {
	text = oneLine(text)
	if text == "" {
		return noAssertion
	}
	e, ok := l.names.parse(text)
	// Identifiers that are made here are not for packages to define.
	if !ok || slices.ContainsFunc(e.refs, func(r string) bool { return strings.HasPrefix(r, madeRef) }) {
		sum := sha256.Sum256([]byte(text))
		id := madeRef + hex.EncodeToString(sum[:8])
		l.define(id, text, text)
		return id
	}
	for _, ref := range e.refs {
		l.define(ref, ref, "Named by the License tag of an RPM package, without a text.")
	}
	return e.text
}

func (l *spdxLicenses) define(id, name, text string) {
	if !l.seen[id] {
		l.seen[id] = true
		l.list = append(l.list, spdxLicense{ID: id, Name: name, Text: text})
	}
}

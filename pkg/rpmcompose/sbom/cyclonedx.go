// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"fmt"
	"time"
)

// cdxDocument has the fields of a CycloneDX 1.6 document that are used here.
// Source: https://cyclonedx.org/docs/1.6/json/
type cdxDocument struct {
	Schema       string          `json:"$schema"`
	Format       string          `json:"bomFormat"`
	SpecVersion  string          `json:"specVersion"`
	SerialNumber string          `json:"serialNumber"`
	Version      int             `json:"version"`
	Metadata     cdxMetadata     `json:"metadata"`
	Components   []cdxComponent  `json:"components"`
	Dependencies []cdxDependency `json:"dependencies"`
}

type cdxMetadata struct {
	Timestamp string       `json:"timestamp"`
	Tools     cdxTools     `json:"tools"`
	Component cdxComponent `json:"component"`
}

type cdxTools struct {
	Components []cdxComponent `json:"components"`
}

type cdxComponent struct {
	Type        string         `json:"type"`
	Ref         string         `json:"bom-ref,omitempty"`
	Supplier    *cdxSupplier   `json:"supplier,omitempty"`
	Name        string         `json:"name"`
	Version     string         `json:"version,omitempty"`
	Description string         `json:"description,omitempty"`
	Hashes      []cdxHash      `json:"hashes,omitempty"`
	Licenses    []cdxLicensing `json:"licenses,omitempty"`
	Purl        string         `json:"purl,omitempty"`
	References  []cdxReference `json:"externalReferences,omitempty"`
	Properties  []cdxProperty  `json:"properties,omitempty"`
}

type cdxSupplier struct {
	Name string `json:"name"`
}

type cdxHash struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

// cdxLicensing has either an expression or a licence.
type cdxLicensing struct {
	License    *cdxLicense `json:"license,omitempty"`
	Expression string      `json:"expression,omitempty"`
	// Acknowledgement of an expression; a licence has its own.
	Acknowledgement string `json:"acknowledgement,omitempty"`
}

type cdxLicense struct {
	ID              string `json:"id,omitempty"`
	Name            string `json:"name,omitempty"`
	Acknowledgement string `json:"acknowledgement,omitempty"`
}

type cdxReference struct {
	URL  string `json:"url"`
	Type string `json:"type"`
}

type cdxProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type cdxDependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

func (inv *Inventory) cycloneDX() cdxDocument {
	tree := "ostree-commit:" + inv.Commit.String()
	doc := cdxDocument{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", SerialNumber: inv.serialNumber(), Version: 1,
		Metadata: cdxMetadata{
			Timestamp: inv.Created.Format(time.RFC3339),
			Tools:     cdxTools{[]cdxComponent{{Type: "application", Name: "compose-server"}}},
			Component: cdxComponent{Type: "operating-system", Ref: tree, Name: inv.name(), Version: inv.version(),
				Hashes: []cdxHash{{"SHA-256", inv.Commit.String()}}, Properties: properties("ostree:commit", inv.Commit.String(), "ostree:ref", oneLine(inv.Ref))},
		},
		Components: []cdxComponent{},
	}
	refs := unique(inv.Packages, inv.purl)
	names := newLicenseNames()
	all := cdxDependency{Ref: tree, DependsOn: refs}
	doc.Dependencies = append(doc.Dependencies, all)
	for i, p := range inv.Packages {
		doc.Components = append(doc.Components, inv.component(p, refs[i], names))
		d := cdxDependency{Ref: refs[i]}
		for _, n := range p.Needs {
			d.DependsOn = append(d.DependsOn, refs[n])
		}
		doc.Dependencies = append(doc.Dependencies, d)
	}
	return doc
}

func (inv *Inventory) component(p Package, ref string, names licenseNames) cdxComponent {
	out := cdxComponent{
		Type: "library", Ref: ref, Name: oneLine(p.NEVRA.Name), Version: oneLine(p.evr()), Description: oneLine(p.Summary()),
		Licenses: cdxLicenses(names, oneLine(p.License())), Purl: inv.purl(p),
		Properties: properties("rpm:source", oneLine(p.SourceRPM()), "rpm:payload-sha256", p.payloadDigest()),
	}
	if v := oneLine(p.Vendor()); v != "" {
		out.Supplier = &cdxSupplier{v}
	}
	if d := p.headerDigest(); d != "" {
		out.Hashes = []cdxHash{{"SHA-256", d}}
	}
	if u := p.website(); u != "" {
		out.References = []cdxReference{{u, "website"}}
	}
	return out
}

func cdxLicenses(names licenseNames, text string) []cdxLicensing {
	const declared = "declared"
	if text == "" {
		return nil
	}
	e, ok := names.parse(text)
	switch {
	case !ok:
		return []cdxLicensing{{License: &cdxLicense{Name: text, Acknowledgement: declared}}}
	case e.single:
		return []cdxLicensing{{License: &cdxLicense{ID: e.text, Acknowledgement: declared}}}
	}
	return []cdxLicensing{{Expression: e.text, Acknowledgement: declared}}
}

// properties takes names and values in turn, and leaves out empty values.
func properties(pairs ...string) []cdxProperty {
	var out []cdxProperty
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, cdxProperty{"hostctl:" + pairs[i], pairs[i+1]})
		}
	}
	return out
}

// serialNumber is a UUID of the kind for one's own use, made of the first bytes of
// the commit's checksum. Source: RFC 9562, section 5.8.
func (inv *Inventory) serialNumber() string {
	u := inv.Commit
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

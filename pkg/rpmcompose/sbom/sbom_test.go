// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

func requires(names ...string) []rpm.Entry {
	return []rpm.Entry{rpm.StringsEntry(rpm.TagRequireName, names...)}
}

func inventory(pkgs ...*rpm.Package) *Inventory {
	inv := &Inventory{Commit: ostree.Checksum{1, 2, 3}, Ref: "a/b", Version: "7", Created: time.Unix(1700000000, 0).UTC(), Distribution: "Demo OS", DistributionVersion: "7"}
	needs := requirements(pkgs)
	for i, p := range pkgs {
		inv.Packages = append(inv.Packages, Package{NEVRA: p.NEVRA(), Package: p, Needs: needs[i]})
	}
	return inv
}

func TestLicenseExpressions(t *testing.T) {
	t.Parallel()
	names := newLicenseNames()
	for in, want := range map[string]string{
		"MIT": "MIT", "mit": "MIT", "MIT and  zlib": "MIT AND Zlib", "(GPL-2.0-only or MIT) AND BSD-2-Clause": "(GPL-2.0-only OR MIT) AND BSD-2-Clause",
		"GPL-2.0-or-later WITH Classpath-exception-2.0": "GPL-2.0-or-later WITH Classpath-exception-2.0", "GPL-2.0+": "GPL-2.0+", "Apache-2.0+": "Apache-2.0+",
		"LicenseRef-Fedora-Public-Domain OR MIT": "LicenseRef-Fedora-Public-Domain OR MIT", "((MIT))": "((MIT))",
		"GPLv2+": "", "MIT, BSD": "", "": "", "MIT AND": "", "AND MIT": "", "(MIT": "", "MIT)": "", "MIT BSD-2-Clause": "", "MIT WITH MIT": "", "MIT WITH": "",
		"Classpath-exception-2.0": "", "LicenseRef-": "", "LicenseRef-a/b": "", "DocumentRef-x:LicenseRef-y": "", "see copyright file": "", "MIT++": "", "()": "", "+": "",
	} {
		e, ok := names.parse(in)
		if ok != (want != "") || ok && e.text != want {
			t.Errorf("%q: %q %t, want %q", in, e.text, ok, want)
		}
	}
	if e, _ := names.parse("mit"); !e.single {
		t.Error("one licence")
	}
	if e, _ := names.parse("MIT OR LicenseRef-x"); e.single || !slices.Equal(e.refs, []string{"LicenseRef-x"}) {
		t.Errorf("%+v", e)
	}
	for _, deep := range []string{strings.Repeat("(", 1000) + "MIT" + strings.Repeat(")", 1000), strings.Repeat("MIT AND ", 1<<16) + "MIT"} {
		if _, ok := names.parse(deep); ok {
			t.Error("no bound")
		}
	}
}

func FuzzLicense(f *testing.F) {
	for _, s := range []string{"MIT AND (Zlib OR GPL-2.0+)", "GPL-2.0-only WITH LLVM-exception", "LicenseRef-x", "(("} {
		f.Add(s)
	}
	names := newLicenseNames()
	f.Fuzz(func(t *testing.T, s string) {
		e, ok := names.parse(s)
		if !ok {
			return
		}
		if again, ok := names.parse(e.text); !ok || again.text != e.text {
			t.Errorf("%q gives %q, which gives %q", s, e.text, again.text)
		}
	})
}

func TestRequirements(t *testing.T) {
	t.Parallel()
	flags := func(tag rpm.Tag, f ...uint32) rpm.Entry { return rpm.Uint32Entry(tag, f...) }
	provides := func(name, version string) []rpm.Entry {
		return []rpm.Entry{rpm.StringsEntry(rpm.TagProvideName, name), rpm.StringsEntry(rpm.TagProvideVersion, version), flags(rpm.TagProvideFlags, uint32(rpm.DepEqual))}
	}
	file := []rpm.Entry{rpm.StringsEntry(rpm.TagBasenames, "sh"), rpm.StringsEntry(rpm.TagDirnames, "/bin/"), flags(rpm.TagDirIndexes, 0), flags(rpm.TagFileSizes, 1),
		{Tag: rpm.TagFileModes, Type: rpm.TypeInt16, Count: 1, Data: []byte{0x81, 0xed}}}
	atLeast2 := []rpm.Entry{rpm.StringsEntry(rpm.TagRequireName, "lib"), rpm.StringsEntry(rpm.TagRequireVersion, "2"), flags(rpm.TagRequireFlags, uint32(rpm.DepEqual|rpm.DepGreater))}
	pkgs := []*rpm.Package{
		rpmtest.Installed(t, "lib1", provides("lib", "1")...),
		rpmtest.Installed(t, "lib2", provides("lib", "2")...),
		rpmtest.Installed(t, "shell", file...),
		rpmtest.Installed(t, "any", requires("lib", "rpmlib(X)", "nothing")...),
		rpmtest.Installed(t, "new", atLeast2...),
		rpmtest.Installed(t, "script", requires("/bin/sh", "/bin/sh", "/bin/none")...),
		rpmtest.Installed(t, "rich", requires("(/bin/sh if lib)", "(broken")...),
		rpmtest.Installed(t, "self", append(provides("own", "1"), requires("own")...)...),
	}
	want := [][]int{{}, {}, {}, {0, 1}, {1}, {2}, {2}, {}}
	if diff := cmp.Diff(want, requirements(pkgs)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPackageURLs(t *testing.T) {
	t.Parallel()
	inv := inventory(rpmtest.Installed(t, "lib+c++", rpm.Uint32Entry(rpm.TagEpoch, 3), rpmtest.Text(rpm.TagVendor, "V")), rpmtest.Installed(t, "x", rpm.Uint32Entry(rpm.TagEpoch, 0), rpmtest.Text(rpm.TagVendor, "The Vendor")))
	if got, want := inv.purl(inv.Packages[0]), "pkg:rpm/demo%20os/lib%2Bc%2B%2B@1-2?arch=noarch&distro=Demo%20OS-7&epoch=3"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	inv.Distribution = ""
	if got, want := inv.purl(inv.Packages[1]), "pkg:rpm/the%20vendor/x@1-2?arch=noarch"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// spdxView and cdxView are what the checks below need of a document, read back.
type spdxView struct {
	SPDXID, DocumentNamespace string
	Packages                  []struct {
		SPDXID, LicenseDeclared, Homepage string
		Checksums                         []struct{ ChecksumValue string }
		ExternalRefs                      []struct{ ReferenceLocator string }
	}
	HasExtractedLicensingInfos []struct{ LicenseID, ExtractedText string }
	Relationships              []struct{ SpdxElementID, RelationshipType, RelatedSpdxElement string }
}

// checkSPDX holds what the schema cannot say, too: identifiers are unique, and what is
// referred to is there.
func checkSPDX(t *testing.T, doc []byte) (v spdxView) {
	t.Helper()
	testutil.Must(t, json.Unmarshal(doc, &v))
	ids := map[string]bool{v.SPDXID: true}
	defined := map[string]bool{}
	for _, l := range v.HasExtractedLicensingInfos {
		if defined[l.LicenseID] || !regexp.MustCompile(`^LicenseRef-[a-zA-Z0-9.-]+$`).MatchString(l.LicenseID) || l.ExtractedText == "" {
			t.Errorf("licence %+v", l)
		}
		defined[l.LicenseID] = true
	}
	names := newLicenseNames()
	for _, p := range v.Packages {
		if ids[p.SPDXID] || !regexp.MustCompile(`^SPDXRef-[a-zA-Z0-9.-]+$`).MatchString(p.SPDXID) {
			t.Errorf("identifier %q", p.SPDXID)
		}
		ids[p.SPDXID] = true
		e, ok := names.parse(p.LicenseDeclared)
		if !ok && p.LicenseDeclared != noAssertion || slices.ContainsFunc(e.refs, func(r string) bool { return !defined[r] }) {
			t.Errorf("licence %q of %s", p.LicenseDeclared, p.SPDXID)
		}
		for _, r := range p.ExternalRefs {
			if !regexp.MustCompile(`^pkg:rpm/[!-~]+@[!-~]+$`).MatchString(r.ReferenceLocator) {
				t.Errorf("reference %q", r.ReferenceLocator)
			}
		}
		for _, c := range p.Checksums {
			if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(c.ChecksumValue) {
				t.Errorf("checksum %q", c.ChecksumValue)
			}
		}
	}
	for _, r := range v.Relationships {
		if !ids[r.SpdxElementID] || !ids[r.RelatedSpdxElement] {
			t.Errorf("relationship %+v", r)
		}
	}
	return v
}

func checkCycloneDX(t *testing.T, doc []byte) {
	t.Helper()
	type component struct {
		Ref      string `json:"bom-ref"`
		Name     string
		Licenses []struct {
			Expression string
			License    *struct{ ID, Name string }
		}
	}
	var v struct {
		SerialNumber string
		Metadata     struct{ Component component }
		Components   []component
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
	}
	testutil.Must(t, json.Unmarshal(doc, &v))
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(v.SerialNumber) {
		t.Errorf("serial number %s", v.SerialNumber)
	}
	refs := map[string]bool{}
	names := newLicenseNames()
	for _, c := range append(v.Components, v.Metadata.Component) {
		if c.Ref == "" || refs[c.Ref] || c.Name == "" {
			t.Errorf("component %+v", c)
		}
		refs[c.Ref] = true
		for _, l := range c.Licenses {
			switch {
			case l.License == nil:
				if _, ok := names.parse(l.Expression); !ok {
					t.Errorf("expression %q", l.Expression)
				}
			case (l.License.ID == "") == (l.License.Name == "") || l.License.ID != "" && names.licenses[strings.ToLower(l.License.ID)] != l.License.ID:
				t.Errorf("licence %+v", l.License)
			}
		}
	}
	if len(v.Dependencies) != len(refs) {
		t.Errorf("%d dependencies of %d components", len(v.Dependencies), len(refs))
	}
	for _, d := range v.Dependencies {
		if !refs[d.Ref] || slices.ContainsFunc(d.DependsOn, func(r string) bool { return !refs[r] }) {
			t.Errorf("dependency %+v", d)
		}
	}
}

func document(t *testing.T, inv *Inventory, f Format) []byte {
	t.Helper()
	doc, err := inv.Document(f)
	testutil.Must(t, err)
	if again, err := inv.Document(f); err != nil || !bytes.Equal(doc, again) || !utf8.Valid(doc) || !bytes.HasSuffix(doc, []byte("}\n")) {
		t.Errorf("%s is not the same twice, or not UTF-8: %v", f, err)
	}
	return doc
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	digest := strings.Repeat("ab", 32)
	inv := inventory(
		rpmtest.Installed(t, "a", rpmtest.Text(rpm.TagLicense, "MIT"), rpmtest.Text(rpm.TagSHA256Header, digest), rpm.Uint32Entry(rpm.TagPayloadDigestAlgo, 8), rpm.StringsEntry(rpm.TagPayloadDigest, digest),
			rpmtest.Text(rpm.TagSourceRPM, "a-1-2.src.rpm"), rpmtest.Text(rpm.TagURL, "https://a.example.org/"), rpm.StringsEntry(rpm.TagProvideName, "a")),
		rpmtest.Installed(t, "b", append(requires("a"), rpmtest.Text(rpm.TagLicense, "GPLv2+ and MIT"))...),
		rpmtest.Installed(t, "c", append(requires("a"), rpmtest.Text(rpm.TagLicense, "LicenseRef-X or mit"))...),
		rpmtest.Installed(t, "d", rpmtest.Text(rpm.TagLicense, "GPLv2+ and MIT")),
		rpmtest.Installed(t, "e"),
	)
	v := checkSPDX(t, document(t, inv, SPDX))
	checkCycloneDX(t, document(t, inv, CycloneDX))
	var licenses []string
	for _, p := range v.Packages {
		licenses = append(licenses, p.LicenseDeclared)
	}
	ref := v.HasExtractedLicensingInfos[0].LicenseID
	if want := []string{noAssertion, "MIT", ref, "LicenseRef-X OR MIT", ref, noAssertion}; !slices.Equal(licenses, want) {
		t.Errorf("licences %q, want %q", licenses, want)
	}
	var needs int
	for _, r := range v.Relationships {
		if r.RelationshipType == "DEPENDS_ON" {
			needs++
		}
	}
	if needs != 2 || len(v.Packages[1].Checksums) != 1 || v.Packages[1].Homepage == "" || !strings.HasSuffix(v.DocumentNamespace, inv.Commit.String()) {
		t.Errorf("%+v", v)
	}
	if doc := document(t, inv, CycloneDX); !bytes.Contains(doc, []byte(`"hostctl:rpm:payload-sha256"`)) || !bytes.Contains(doc, []byte(`"value": "a-1-2.src.rpm"`)) {
		t.Error("properties are missing")
	}
	if _, err := inv.Document("xml"); !errors.Is(err, ErrFormat) {
		t.Errorf("unknown format: %v", err)
	}
}

// A database may say anything.
func TestDocumentsOfHostilePackages(t *testing.T) {
	t.Parallel()
	evil := "\"\\\x1b\n\xff<script>#?@/%-DOCUMENT \u202e"
	var pkgs []*rpm.Package
	for range 3 {
		pkgs = append(pkgs, rpmtest.Installed(t, evil, rpmtest.Text(rpm.TagLicense, evil), rpmtest.Text(rpm.TagVendor, evil), rpmtest.Text(rpm.TagURL, evil), rpmtest.Text(rpm.TagSummary, evil), rpmtest.Text(rpm.TagSourceRPM, evil),
			rpmtest.Text(rpm.TagSHA256Header, evil), rpm.Uint32Entry(rpm.TagBuildTime, 1<<31)))
	}
	pkgs = append(pkgs, rpmtest.Installed(t, "Tree", rpmtest.Text(rpm.TagLicense, "LicenseRef-RPM-0"), rpmtest.Text(rpm.TagURL, "javascript://x/%0a")), rpmtest.Installed(t, "Tree-2"), rpmtest.Installed(t, "Tree"))
	inv := inventory(pkgs...)
	inv.Ref, inv.Version, inv.Distribution, inv.DistributionVersion = evil, evil, evil, evil
	v := checkSPDX(t, document(t, inv, SPDX))
	checkCycloneDX(t, document(t, inv, CycloneDX))
	for _, l := range v.HasExtractedLicensingInfos {
		if l.LicenseID == "LicenseRef-RPM-0" {
			t.Error("a package defines a licence of ours")
		}
	}
	inv.Ref, inv.Version = "", ""
	checkSPDX(t, document(t, inv, SPDX))
	checkCycloneDX(t, document(t, &Inventory{}, CycloneDX))
}

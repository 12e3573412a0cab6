// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"context"
	"crypto/sha256"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// The parsed form gives what the list gives, and any change to it is noticed
// and costs only time.
func TestParsedForm(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	repo := Repo{ID: "baseos", BaseURLs: []string{testutil.Corpus(t, "yum-repos", "osbuild-testrepo-centos-stream9")}}
	cache := testutil.OpenDir(t, t.TempDir())
	want, err := Load(ctx, repo, cache, Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, _ := want.list("primary")
	got, err := want.readParsed(l)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.Packages, got); d != "" {
		t.Fatal(d)
	}
	name := parsedName(l.checksum)
	data, err := cache.ReadFile(name, maxParsed)
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []func([]byte) []byte{
		func(b []byte) []byte { return b[:len(b)/2] },
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { b[0] ^= 1; return b },
		func([]byte) []byte { return nil },
	} {
		testutil.Must(t, cache.WriteFile(name, spoil(append([]byte(nil), data...)), 0o644))
		if _, err := want.readParsed(l); err == nil {
			t.Error("a spoiled parsed list was accepted")
		}
		again, err := Load(ctx, repo, cache, Options{})
		if err != nil || len(again.Packages) != len(want.Packages) {
			t.Errorf("%v", err)
		}
	}
}

func FuzzParsed(f *testing.F) {
	small := []Package{{NEVRA: want1().NEVRA, Location: "a.rpm", Files: []string{"/a"}, Provides: want1().Provides}}
	small[0].Checksum.Algo, small[0].Checksum.Hex = "sha1", "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	data := pack(small)
	f.Add(data)
	f.Fuzz(func(t *testing.T, b []byte) {
		fixDigest(b)
		list, err := decodeParsed(b, "r")
		if err != nil {
			return
		}
		// What decodes encodes to something that decodes alike.
		again := pack(list)
		same, err := decodeParsed(again, "r")
		if err != nil || len(same) != len(list) {
			t.Fatalf("%d packages, then %d: %v", len(list), len(same), err)
		}
	})
}

// pack gives the parsed form of packages.
func pack(list []Package) []byte {
	t := newTables()
	evr := func(e rpm.EVR) uint32 {
		return t.version(e, t.texts.id([]byte(e.Version)), t.texts.id([]byte(e.Release)))
	}
	var b batch
	for i := range list {
		p := &list[i]
		r := record{evr: evr(p.NEVRA.EVR), files: uint32(len(p.Files)), nums: [numNumbers]int64{p.Size, p.InstalledSize, p.ArchiveSize, p.BuildTime.Unix()}}
		for k, s := range texts(p) {
			r.texts[k] = t.texts.id([]byte(*s))
		}
		for k, l := range depLists(p) {
			r.deps[k] = uint32(len(*l))
			for _, d := range *l {
				b.deps = append(b.deps, depRef{t.texts.id([]byte(d.Name)), evr(d.EVR), uint32(d.Flags)})
			}
		}
		for _, f := range p.Files {
			b.files = append(b.files, t.texts.id([]byte(f)))
		}
		b.packages = append(b.packages, r)
	}
	data := encodeParsed(t, []batch{b})
	sealParsed(data)
	return data
}

// want1 is a package with one dependency.
func want1() Package {
	p := Package{}
	p.NEVRA.Name, p.NEVRA.Arch, p.NEVRA.Version, p.NEVRA.Release = "a", "noarch", "1", "1"
	p.Provides = []rpm.Dep{{Name: "a", Flags: rpm.DepEqual, EVR: p.NEVRA.EVR}}
	return p
}

// fixDigest lets changed bytes get past the digest.
func fixDigest(b []byte) {
	if from := len(parsedMagic) + sha256.Size; len(b) > from {
		sum := sha256.Sum256(b[from:])
		copy(b[len(parsedMagic):], sum[:])
	}
}

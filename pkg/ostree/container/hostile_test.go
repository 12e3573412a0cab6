// SPDX-License-Identifier: Apache-2.0

package container

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// sample is a good image of two layers, in parts.
type sample struct {
	labels map[string]string
	layers [2][]member
}

func newSample(t testing.TB) sample {
	t.Helper()
	r := newRepo(t, ostree.ModeArchive)
	commit := commitTree(t, r, sampleTree, "1")
	_, d := mustEncapsulate(t, r, commit, EncapsulateOptions{MaxLayers: 2})
	img := mustOpen(t, d, "")
	return sample{img.Config.Config.Labels, [2][]member{unpackLayer(t, img, 0), unpackLayer(t, img, 1)}}
}

func (s sample) clone() sample {
	return sample{maps.Clone(s.labels), [2][]member{slices.Clone(s.layers[0]), slices.Clone(s.layers[1])}}
}

// at finds the entry of a type in a layer.
func (s *sample) at(layer int, suffix string) int {
	return slices.IndexFunc(s.layers[layer], func(m member) bool { return strings.HasSuffix(m.Name, suffix) })
}

func (s *sample) image(t testing.TB, more ...[]byte) (*Image, error) {
	t.Helper()
	layers := append([][]byte{packLayer(t, s.layers[0]), packLayer(t, s.layers[1])}, more...)
	if s.labels[labelFinalDiffID] != "" {
		s.labels[labelFinalDiffID] = digestBytes(layers[1])
	}
	d, _ := fake(t, s.labels, layers...)
	return Open(d, "")
}

func TestHostileLayers(t *testing.T) {
	t.Parallel()
	good := newSample(t)
	file := func(name, data string) member {
		return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, data}
	}
	link := func(name, target string) member {
		return member{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}, ""}
	}
	add := func(layer int, m member) func(*sample) {
		return func(s *sample) { s.layers[layer] = append(s.layers[layer], m) }
	}
	drop := func(layer int, suffix string) func(*sample) {
		return func(s *sample) {
			i := s.at(layer, suffix)
			s.layers[layer] = slices.Delete(s.layers[layer], i, i+1)
		}
	}
	empty := "\x00"[:0]
	for name, c := range map[string]struct {
		change func(*sample)
		want   string
	}{
		"good":                    {func(*sample) {}, ""},
		"older attributes":        {oldXattrs, ""},
		"path above":              {add(1, file("../x", "")), "leaves the tree"},
		"path above inside":       {add(1, file("usr/../../x", "")), "leaves the tree"},
		"absolute":                {add(1, file("/usr/x", "")), "leaves the tree"},
		"directory above":         {add(1, member{tar.Header{Typeflag: tar.TypeDir, Name: "../x/"}, ""}), "leaves the tree"},
		"content beside":          {add(1, file("usr/lib/beside", "x")), "neither an object nor a link"},
		"symlink beside":          {add(1, member{tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/x", Linkname: "/"}, ""}), "neither an object nor a link"},
		"device":                  {add(1, member{tar.Header{Typeflag: tar.TypeChar, Name: "dev/null"}, ""}), "neither an object nor a link"},
		"link to a file":          {add(1, link("usr/x", "etc/conf")), "no object"},
		"link above":              {add(1, link("usr/x", "../../etc/passwd")), "no object"},
		"link to nothing":         {add(1, link("usr/x", sumPath("none", "file"))), "not there"},
		"link in the repository":  {add(1, link("sysroot/ostree/repo/config", "etc/conf")), "neither an object"},
		"link to metadata":        {add(1, link("usr/x", good.layers[0][good.at(0, ".dirtree")].Name)), "not there"},
		"odd object":              {add(1, file(objectPrefix+"00/zz.file", "")), "no name of an object"},
		"object in a wrong place": {add(1, file(objectPrefix+"0/"+strings.Repeat("0", 63)+".file", "")), "no name of an object"},
		"type of version 0":       {add(1, file(objectPrefix+"00/"+strings.Repeat("0", 62)+".file.xattrs", "")), "version 0"},
		"no attributes":           {add(1, file(sumPath("x", "file"), "")), "attributes do not stand before"},
		"attributes of another": {func(s *sample) {
			add(1, file(sumPath("x", "file-xattrs-link"), ""))(s)
			add(1, file(sumPath("y", "file"), ""))(s)
		}, "must come next"},
		"attributes at the end":     {add(1, file(sumPath("x", "file-xattrs-link"), "")), "ends before file object"},
		"attributes that are none":  {add(1, file(sumPath("x", "file-xattrs-link"), "x")), "attributes"},
		"attributes without object": {add(1, link(sumPath("x", "file-xattrs-link"), sumPath("y", "file-xattrs"))), "not there"},
		"attributes of other bytes": {add(1, file(sumPath("x", "file-xattrs"), "y")), "checksum is another"},
		"object of other bytes": {func(s *sample) {
			add(1, file(sumPath("x", "file-xattrs-link"), empty))(s)
			add(1, file(sumPath("x", "file"), "data"))(s)
		}, "checksum"},
		"object twice": {func(s *sample) {
			i := s.at(1, ".file-xattrs-link")
			s.layers[1] = append(s.layers[1], s.layers[1][i], s.layers[1][i+1])
		}, "twice"},
		"metadata in a later layer": {func(s *sample) { add(1, s.layers[0][s.at(0, ".dirmeta")])(s) }, "first layer"},
		"wrong metadata":            {add(0, file(sumPath("x", "dirtree"), "y")), "checksum differs"},
		"second commit":             {add(0, file(sumPath("x", "commit"), "x")), labelCommit},
		"metadata as a link":        {add(0, link(sumPath("x", "dirtree"), "x")), "want a regular file"},
		"no commit":                 {drop(0, ".commit"), "not in its first layer"},
		"no directory":              {drop(0, ".dirtree"), "missing"},
		"no directory metadata":     {drop(0, ".dirmeta"), "missing"},
		"no file": {func(s *sample) {
			i := s.at(1, ".file-xattrs-link")
			s.layers[1] = slices.DeleteFunc(slices.Delete(s.layers[1], i, i+2), func(m member) bool { return m.Typeflag == tar.TypeLink })
		}, "missing"},
		"other owner": {func(s *sample) {
			s.layers[1][s.at(1, ".file")].Uid = 1
		}, "checksum"},
		"label of another commit": {func(s *sample) { s.labels[labelCommit] = strings.Repeat("0", 63) + "1" }, "label"},
		"label without a commit":  {func(s *sample) { delete(s.labels, labelCommit) }, labelCommit},
		"no commit's image":       {func(s *sample) { delete(s.labels, labelFinalDiffID) }, "does not hold just a commit"},
	} {
		s := good.clone()
		c.change(&s)
		img, err := s.image(t)
		testutil.Must(t, err)
		r := newRepo(t, ostree.ModeArchive)
		_, err = Import(t.Context(), r, img, ImportOptions{Ref: "x"})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if refs, err := r.Refs(""); err != nil || len(refs) > 0 {
			t.Errorf("%s: refs %v, %v", name, refs, err)
		}
		if ok, err := r.Has(ostree.ObjectName{Checksum: mustSum(t, good.labels[labelCommit]), Type: ostree.TypeCommit}); ok || err != nil {
			t.Errorf("%s: the commit is there, %v", name, err)
		}
	}
}

func mustSum(t testing.TB, s string) ostree.Checksum {
	t.Helper()
	c, err := ostree.ParseChecksum(s)
	testutil.Must(t, err)
	return c
}

// oldXattrs turns attributes into objects with links to them, as exporters wrote them
// that did not fear many links.
func oldXattrs(s *sample) {
	var out []member
	for _, m := range s.layers[1] {
		if strings.HasSuffix(m.Name, ".file-xattrs-link") {
			object := sumPath(m.data, "file-xattrs")
			out = append(out, member{tar.Header{Typeflag: tar.TypeReg, Name: object, Mode: 0o644}, m.data})
			m.Typeflag, m.Linkname, m.data = tar.TypeLink, object, ""
		}
		out = append(out, m)
	}
	s.layers[1] = out
}

func TestHostileImage(t *testing.T) {
	t.Parallel()
	good := newSample(t)
	import1 := func(img *Image, err error, o ImportOptions) error {
		if err != nil {
			return err
		}
		_, err = Import(t.Context(), newRepo(t, ostree.ModeArchive), img, o)
		return err
	}
	s := good.clone()
	img, err := s.image(t, packLayer(t, nil))
	if err := import1(img, err, ImportOptions{}); !errors.Is(err, ErrNotCommit) {
		t.Errorf("further layer: %v", err)
	}
	img, err = s.image(t)
	if err := import1(img, err, ImportOptions{MaxBytes: 100 << 10}); !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), "more than") {
		t.Errorf("large contents: %v", err)
	}
	// The file that a change is made to, and what is told about it.
	for name, c := range map[string]struct {
		change func(dir string, m *Manifest)
		want   string
	}{
		"changed layer": {func(dir string, m *Manifest) {
			p := filepath.Join(dir, blobName(m.Layers[1].Digest))
			data, err := os.ReadFile(p)
			testutil.Must(t, err)
			data[len(data)-1] = 1
			testutil.Must(t, os.WriteFile(p, data, 0o644))
		}, "has digest"},
		"longer layer": {func(dir string, m *Manifest) {
			f, err := os.OpenFile(filepath.Join(dir, blobName(m.Layers[1].Digest)), os.O_APPEND|os.O_WRONLY, 0)
			testutil.Must(t, err)
			_, err = f.Write([]byte{0})
			testutil.Must(t, errors.Join(err, f.Close()))
		}, "bytes, not"},
		"no layer": {func(dir string, m *Manifest) {
			testutil.Must(t, os.Remove(filepath.Join(dir, blobName(m.Layers[1].Digest))))
		}, "missing"},
		"layer is a link": {func(dir string, m *Manifest) {
			p := filepath.Join(dir, blobName(m.Layers[1].Digest))
			testutil.Must(t, os.Rename(p, p+"x"))
			testutil.Must(t, os.Symlink("/etc/passwd", p))
		}, ""},
		"changed configuration": {func(dir string, m *Manifest) {
			testutil.Must(t, os.WriteFile(filepath.Join(dir, blobName(m.Config.Digest)), []byte("{}"), 0o644))
		}, "digest"},
		"digest is a path": {func(dir string, _ *Manifest) {
			testutil.Must(t, os.WriteFile(filepath.Join(dir, indexFile), []byte(`{"manifests":[{"mediaType":"`+typeManifest+`","digest":"sha256:../../index.json","size":1}]}`), 0o644))
		}, "digest"},
		"index of indexes": {func(dir string, m *Manifest) {
			testutil.Must(t, os.WriteFile(filepath.Join(dir, indexFile), []byte(`{"manifests":[{"mediaType":"`+typeIndex+`","digest":"`+m.Config.Digest+`","size":1}]}`), 0o644))
		}, "one architecture"},
		"two images": {func(dir string, m *Manifest) {
			testutil.Must(t, os.WriteFile(filepath.Join(dir, indexFile), []byte(`{"manifests":[{},{}]}`), 0o644))
		}, "2 of 2"},
		"other version": {func(dir string, _ *Manifest) {
			testutil.Must(t, os.WriteFile(filepath.Join(dir, layoutFile), []byte(`{"imageLayoutVersion":"2"}`), 0o644))
		}, "version"},
		"large index": {func(dir string, _ *Manifest) {
			testutil.Must(t, os.WriteFile(filepath.Join(dir, indexFile), bytes.Repeat([]byte(" "), maxJSON+1), 0o644))
		}, "bytes"},
	} {
		s := good.clone()
		layers := [][]byte{packLayer(t, s.layers[0]), append(packLayer(t, s.layers[1]), make([]byte, 512)...)} // more than the archive
		s.labels[labelFinalDiffID] = digestBytes(layers[1])
		d, m := fake(t, s.labels, layers...)
		c.change(d.Path(), m)
		img, err := Open(d, "")
		if err := import1(img, err, ImportOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// TestCorpusLayouts reads layouts that others made; none holds a commit.
func TestCorpusLayouts(t *testing.T) {
	t.Parallel()
	top := testutil.Corpus(t, "oci", "stereoscope")
	for name, want := range map[string]error{
		"single_image_no_platform_oci_dir": ErrNotCommit, "mismatched_descriptor_oci_dir": ErrNotCommit,
		"valid_oci_dir": ErrNoImage, "attestation_oci_dir": ErrNoImage, "multiplatform_oci_dir": ErrNoImage, "duplicate_platform_oci_dir": ErrNoImage,
		"no_manifests": ErrImage, "invalid_file": ErrImage, "valid_manifest": ErrImage,
	} {
		img, err := Open(testutil.OpenDir(t, filepath.Join(top, name)), "")
		if err == nil {
			_, err = Import(t.Context(), newRepo(t, ostree.ModeArchive), img, ImportOptions{})
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	f, err := os.Open(filepath.Join(top, "valid-oci.tar"))
	testutil.Must(t, err)
	defer f.Close()
	if img, err := OpenArchive(f, ""); err != nil || len(img.Manifest.Layers) == 0 {
		t.Errorf("valid-oci.tar: %v", err)
	}
}

// memory is a layout that needs no disk.
type memory map[string][]byte

func (m memory) open(name string) (io.ReadCloser, int64, error) {
	data, ok := m[name]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
}

func memoryImage(labels map[string]string, layers ...[]byte) *Image {
	m := memory{}
	img := &Image{Manifest: &Manifest{}, Config: &Config{Config: RunConfig{Labels: maps.Clone(labels)}}, blobs: m}
	for _, data := range layers {
		digest := digestBytes(data)
		m[blobName(digest)] = data
		img.Manifest.Layers = append(img.Manifest.Layers, Descriptor{MediaType: typeLayer, Digest: digest, Size: int64(len(data))})
		img.Config.RootFS.DiffIDs = append(img.Config.RootFS.DiffIDs, digest)
		img.Config.Config.Labels[labelFinalDiffID] = digest
	}
	return img
}

func FuzzImport(f *testing.F) {
	src := newRepo(f, ostree.ModeArchive)
	commit := commitTree(f, src, []node{{path: "usr", data: "dir", mode: 0o755}, {path: "usr/a", data: "a", mode: 0o644, xattrs: []ostree.Xattr{{Name: "user.x", Value: []byte("y")}}}, {path: "usr/l", data: "-> a", mode: 0o777}}, "1")
	_, d := mustEncapsulate(f, src, commit, EncapsulateOptions{MaxLayers: 2})
	img := mustOpen(f, d, "")
	s := sample{labels: img.Config.Config.Labels}
	for i := range s.layers {
		s.layers[i] = slices.DeleteFunc(unpackLayer(f, img, i), func(m member) bool { return m.Typeflag == tar.TypeDir })
	}
	first, second := packLayer(f, s.layers[0]), packLayer(f, s.layers[1])
	old := s.clone()
	oldXattrs(&old)
	f.Add(first, second)
	f.Add(first, packLayer(f, old.layers[1]))
	f.Add(first, []byte{})
	r := newRepo(f, ostree.ModeArchive)
	if _, err := Import(f.Context(), r, memoryImage(s.labels, first, second), ImportOptions{}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		defer testutil.Bounded(t)()
		res, err := Import(t.Context(), r, memoryImage(s.labels, first, second), ImportOptions{Ref: "x"})
		if err != nil {
			return
		}
		if res.Commit != commit {
			t.Errorf("commit %s", res.Commit)
		}
		if f, err := r.Fsck(t.Context(), ostree.FsckOptions{}); err != nil || len(f.Findings) > 0 {
			t.Errorf("a repository that is not whole: %v, %v", f.Findings, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[]}`), []byte(`{"schemaVersion":2,"config":{},"layers":[]}`), []byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`))
	f.Fuzz(func(t *testing.T, index, manifest, config []byte) {
		defer testutil.Bounded(t)()
		_, _ = choose(index, "")
		if m, err := ParseManifest(manifest); err == nil {
			_ = pack(nil, 5, previousPackages(m))
			for _, l := range m.Layers {
				if strings.Contains(blobName(l.Digest), "..") {
					t.Errorf("blob %q", l.Digest)
				}
			}
		}
		_, _ = parseConfig(config)
	})
}

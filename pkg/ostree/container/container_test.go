// SPDX-License-Identifier: Apache-2.0

package container

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	commit := commitTree(t, src, sampleTree, "1")
	for name, o := range map[string]EncapsulateOptions{
		"gzip":      {Contents: sampleContents},
		"zstd":      {Contents: sampleContents, Compression: Zstd},
		"one layer": {Contents: sampleContents, MaxLayers: 1},
		"two":       {Contents: sampleContents, MaxLayers: 2},
		"unknown":   {},
	} {
		for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser} {
			_, d := mustEncapsulate(t, src, commit, o)
			dst := newRepo(t, mode)
			res, err := Import(t.Context(), dst, mustOpen(t, d, ""), ImportOptions{Ref: "imported"})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got, err := dst.ReadRef("imported"); err != nil || got != commit || res.Commit != commit {
				t.Errorf("%s: ref is %s, %v", name, got, err)
			}
			if meta, err := dst.CommitMeta(commit); err != nil || meta.Len() != 1 {
				t.Errorf("%s: detached metadata %v, %v", name, meta.Keys(), err)
			}
			if f, err := dst.Fsck(t.Context(), ostree.FsckOptions{}); err != nil || len(f.Findings) > 0 {
				t.Errorf("%s: fsck: %v, %v", name, f.Findings, err)
			}
		}
	}
}

func TestSameImage(t *testing.T) {
	t.Parallel()
	var want string
	for _, mode := range []ostree.Mode{ostree.ModeArchive, ostree.ModeBareUser, ostree.ModeArchive} {
		r := newRepo(t, mode)
		res, d := mustEncapsulate(t, r, commitTree(t, r, sampleTree, "1"), EncapsulateOptions{Contents: sampleContents, Architecture: "amd64", Tag: "a"})
		if want == "" {
			want = res.Manifest.Digest
		}
		if res.Manifest.Digest != want {
			t.Errorf("digest %s, not %s", res.Manifest.Digest, want)
		}
		if img := mustOpen(t, d, "a"); img.Digest != want {
			t.Errorf("index names %s", img.Digest)
		}
	}
}

func TestLayers(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	commit := commitTree(t, r, sampleTree, "1.2")
	_, d := mustEncapsulate(t, r, commit, EncapsulateOptions{Contents: sampleContents, Labels: map[string]string{"mine": "x"}, Base: RunConfig{Env: []string{"A=B"}}})
	img := mustOpen(t, d, "")
	var got []string
	for _, l := range img.Manifest.Layers {
		got = append(got, l.Annotations[labelComponents])
	}
	want := []string{"", "initramfs", "lib", unpackagedName, "ping,tool"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("components of layers: %s", diff)
	}
	labels := map[string]string{labelCommit: commit.String(), labelBootable: "true", labelBootc: "1", labelLinux: "6.1", labelVersion: "1.2",
		labelOCIVersion: "1.2", labelFinalDiffID: img.Config.RootFS.DiffIDs[4], "mine": "x"}
	if diff := cmp.Diff(labels, img.Config.Config.Labels); diff != "" {
		t.Errorf("labels: %s", diff)
	}
	if diff := cmp.Diff(img.Manifest.Annotations, labels); diff != "" {
		t.Errorf("annotations: %s", diff)
	}
	if c := img.Config; c.Created != "2023-11-14T22:13:20Z" || c.Config.Cmd[0] != "/usr/bin/tool" || c.Config.Env[0] != "A=B" {
		t.Errorf("configuration %+v", c)
	}
	first := entries(t, img, 0)
	for _, name := range []string{"./", "etc/", "usr/bin/", "sysroot/ostree/repo/config", "sysroot/ostree/repo/objects/00/", "var/tmp/", objectPath(ostree.ObjectName{Checksum: commit, Type: ostree.TypeCommitMeta})} {
		if first[name] == nil {
			t.Errorf("first layer lacks %s", name)
		}
	}
	if first["usr/etc/"] != nil || first["var/tmp/"].Mode != 0o1777 || first["usr/share/"].Mode != 0o2775 || first["usr/share/"].Gid != 9 {
		t.Error("directories of the first layer are wrong")
	}
	tools := entries(t, img, 4)
	ping, tool := tools["usr/bin/ping"], tools["usr/bin/tool"]
	if ping == nil || tool == nil || ping.Typeflag != tar.TypeLink || tools[tool.Linkname].Mode != 0o4755 {
		t.Fatal("links of the last layer are wrong")
	}
	if object := tools[ping.Linkname]; object.PAXRecords[paxXattr+"security.capability"] == "" || object.PAXRecords[paxXattr+selinuxXattr] != "" {
		t.Errorf("attributes of ping: %q", object.PAXRecords)
	}
	if tools["usr/bin/"] == nil || tools["usr/"] == nil {
		t.Error("parents are missing")
	}
	rest := entries(t, img, 3)
	if empty := rest["etc/empty"]; empty == nil || empty.Typeflag != tar.TypeReg || empty.Gid != 3000000 {
		t.Errorf("empty file: %+v", empty)
	}
	if rest["etc/conf"] == nil || rest["usr/lib/same"] == nil || rest["etc/conf"].Linkname != rest["usr/lib/same"].Linkname {
		t.Error("a file of two components is not with the rest")
	}
	if rest["usr/lib/.wh.odd"] != nil || rest["usr/lib/.wh.dir/inside"] != nil || rest["usr/lib/.wh.dir/"] != nil || first["usr/lib/.wh.dir/"] != nil || rest["sysroot/inside"] != nil {
		t.Error("a file is shown that must not be")
	}
}

func TestPrevious(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	one := commitTree(t, r, sampleTree, "1")
	first, d := mustEncapsulate(t, r, one, EncapsulateOptions{Contents: sampleContents, MaxLayers: 4})
	next := append([]node{}, sampleTree...)
	next = append(next, node{path: "usr/lib/new", data: "new", mode: 0o644})
	contents := Contents{Components: append([]Component{{Name: "fresh", Packages: []string{"fresh"}}}, sampleContents.Components...), Owner: map[string]int{"/usr/lib/new": 0}}
	for k, v := range sampleContents.Owner {
		contents.Owner[k] = v + 1
	}
	two := commitTree(t, r, next, "2")
	res, err := Encapsulate(t.Context(), r, two, d, EncapsulateOptions{Contents: contents, MaxLayers: 5, Previous: mustOpen(t, d, "").Manifest, Tag: "two"})
	testutil.Must(t, err)
	var kept []string
	for _, l := range res.Layers {
		if l.Kept {
			kept = append(kept, l.Title)
		}
	}
	if len(kept) != len(first.Layers)-1 || len(res.Layers) != len(first.Layers)+1 {
		t.Errorf("kept %q of %d layers", kept, len(first.Layers))
	}
	if mustOpen(t, d, "two").Digest == mustOpen(t, d, "").Digest {
		t.Error("the layout lost an image")
	}
}

func TestLayoutKeepsOthers(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	one, two := commitTree(t, r, sampleTree, "1"), commitTree(t, r, sampleTree, "2")
	_, d := mustEncapsulate(t, r, one, EncapsulateOptions{Tag: "a"})
	// What a killed writer leaves.
	testutil.Must(t, d.WriteFile(blobDir+"/"+tmpPrefix+"left", []byte("x"), 0o644))
	for tag, c := range map[string]ostree.Checksum{"b": two, "a": two} {
		_, err := Encapsulate(t.Context(), r, c, d, EncapsulateOptions{Tag: tag})
		testutil.Must(t, err)
	}
	if mustOpen(t, d, "a").Digest != mustOpen(t, d, "b").Digest {
		t.Error("names of one image differ")
	}
	if left, err := d.Exists(blobDir + "/" + tmpPrefix + "left"); err != nil || left {
		t.Error("what a killed writer left is there", err)
	}
	other := testutil.OpenDir(t, t.TempDir())
	testutil.Must(t, other.WriteFile("mine", nil, 0o644))
	if _, err := Encapsulate(t.Context(), r, one, other, EncapsulateOptions{}); err == nil {
		t.Error("a folder with other files becomes a layout")
	}
}

// TestCancelled: what is not finished leaves the images that were there.
func TestCancelled(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	one, two := commitTree(t, r, sampleTree, "1"), commitTree(t, r, sampleTree, "2")
	want, d := mustEncapsulate(t, r, one, EncapsulateOptions{Contents: sampleContents})
	for layers := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		var seen atomic.Int64
		_, err := Encapsulate(ctx, r, two, d, EncapsulateOptions{Contents: sampleContents, Progress: func(progress.Event) {
			if seen.Add(1) > int64(layers) {
				cancel()
			}
		}})
		cancel()
		if got := mustOpen(t, d, "").Digest; err != nil && got != want.Manifest.Digest {
			t.Errorf("after %v the image is %s", err, got)
		}
		if layers == 0 && !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if got, err := Import(t.Context(), newRepo(t, ostree.ModeArchive), mustOpen(t, d, ""), ImportOptions{}); err != nil {
		t.Errorf("import: %+v, %v", got, err)
	}
}

func TestBothEtc(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	c := commitTree(t, r, append([]node{{path: "etc", data: "dir", mode: 0o755}}, sampleTree...), "1")
	if _, err := Encapsulate(t.Context(), r, c, testutil.OpenDir(t, t.TempDir()), EncapsulateOptions{}); err == nil || !strings.Contains(err.Error(), "/usr/etc") {
		t.Errorf("got %v", err)
	}
}

// TestInteropExtract unpacks the layers as an engine does; what libostree finds there
// is the whole commit.
func TestInteropExtract(t *testing.T) {
	t.Parallel()
	testutil.Root(t, "owners of files")
	testutil.Tool(t, "tar")
	testutil.Tool(t, "ostree")
	r := newRepo(t, ostree.ModeArchive)
	commit := commitTree(t, r, sampleTree, "1")
	_, d := mustEncapsulate(t, r, commit, EncapsulateOptions{Contents: sampleContents})
	root := t.TempDir()
	img := mustOpen(t, d, "")
	for i := len(img.Manifest.Layers) - 1; i >= 0; i-- { // an engine may unpack each by itself
		testutil.Run(t, "tar", "--xattrs", "--xattrs-include=*", "-xzf", filepath.Join(d.Path(), blobName(img.Manifest.Layers[i].Digest)), "-C", root)
	}
	repo := filepath.Join(root, repoPath)
	testutil.Must(t, os.WriteFile(filepath.Join(repo, "refs/heads/x"), []byte(commit.String()+"\n"), 0o644))
	testutil.Run(t, "ostree", "--repo="+repo, "fsck")
	own, err := ostree.Open(testutil.OpenDir(t, repo), ostree.Options{})
	testutil.Must(t, err)
	defer own.Close()
	if f, err := own.Fsck(t.Context(), ostree.FsckOptions{}); err != nil || len(f.Findings) > 0 {
		t.Errorf("fsck: %v, %v", f.Findings, err)
	}
	for _, n := range sampleTree {
		p := imagePath("/" + n.path)
		st, err := os.Lstat(filepath.Join(root, p))
		if hidden(p) {
			if err == nil {
				t.Errorf("%s is shown", p)
			}
			continue
		}
		testutil.Must(t, err)
		if n.data != "dir" && st.Mode().IsRegular() && st.Size() != int64(len(n.data)) {
			t.Errorf("%s has %d bytes", p, st.Size())
		}
	}
}

func TestInteropSkopeo(t *testing.T) {
	testutil.Tool(t, "skopeo")
	home := t.TempDir()
	t.Setenv("HOME", home)
	testutil.Must(t, os.MkdirAll(filepath.Join(home, ".config/containers"), 0o755))
	testutil.Must(t, os.WriteFile(filepath.Join(home, ".config/containers/policy.json"), []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644))
	r := newRepo(t, ostree.ModeArchive)
	commit := commitTree(t, r, sampleTree, "1")
	for _, c := range []Compression{Gzip, Zstd} {
		res, d := mustEncapsulate(t, r, commit, EncapsulateOptions{Contents: sampleContents, Architecture: "amd64", Compression: c})
		from := Reference{Transport: TransportLayout, Path: d.Path()}
		out, err := exec.Command("skopeo", "inspect", from.String()).Output()
		testutil.Must(t, err)
		var seen struct {
			Digest string
			Labels map[string]string
			Layers []string
		}
		testutil.Must(t, json.Unmarshal(out, &seen))
		if seen.Digest != res.Manifest.Digest || seen.Labels[labelCommit] != commit.String() || len(seen.Layers) != len(res.Layers) {
			t.Errorf("skopeo sees %+v", seen)
		}
		to := Reference{Transport: TransportArchive, Path: filepath.Join(t.TempDir(), "image.tar"), Tag: "v1"}
		testutil.Must(t, Copy(t.Context(), from, to, CopyOptions{}))
		f, err := os.Open(to.Path)
		testutil.Must(t, err)
		defer f.Close()
		img, err := OpenArchive(f, "v1")
		testutil.Must(t, err)
		if got, err := Import(t.Context(), newRepo(t, ostree.ModeArchive), img, ImportOptions{}); err != nil || got.Commit != commit {
			t.Errorf("import of skopeo's copy: %+v, %v", got, err)
		}
	}
	missing := Reference{Transport: TransportLayout, Path: filepath.Join(home, "none")}
	if err := Copy(t.Context(), missing, Reference{Transport: TransportLayout, Path: filepath.Join(home, "out")}, CopyOptions{}); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("got %v", err)
	}
}

func TestArchive(t *testing.T) {
	t.Parallel()
	r := newRepo(t, ostree.ModeArchive)
	commit := commitTree(t, r, sampleTree, "1")
	_, d := mustEncapsulate(t, r, commit, EncapsulateOptions{Tag: "x"})
	f, err := os.Create(filepath.Join(t.TempDir(), "image.tar"))
	testutil.Must(t, err)
	defer f.Close()
	testutil.Must(t, WriteArchive(t.Context(), d, f))
	_, err = f.Seek(0, 0)
	testutil.Must(t, err)
	img, err := OpenArchive(f, "x")
	testutil.Must(t, err)
	if got, err := Import(t.Context(), newRepo(t, ostree.ModeArchive), img, ImportOptions{}); err != nil || got.Commit != commit {
		t.Errorf("import: %+v, %v", got, err)
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Reference{
		"oci:/a/b":                    {"oci", "/a/b", ""},
		"oci:d:v1":                    {"oci", "d", "v1"},
		"oci-archive:f.tar:a:b":       {"oci-archive", "f.tar", "a:b"},
		"docker://r.example/x:latest": {"docker", "//r.example/x:latest", ""},
		"containers-storage:x":        {"containers-storage", "x", ""},
	} {
		got, err := ParseReference(s)
		if err != nil || got != want || got.String() != s {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "oci", "oci:", "oci::tag", "registry.example/x:latest", "/tmp/x:y"} {
		if got, err := ParseReference(s); err == nil {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

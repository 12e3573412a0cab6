// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
)

// lookingKernel has a dracut that puts what it sees into the image.
func lookingKernel() rpmtest.Spec {
	return rpmtest.Spec{Name: "kernel", Tags: "AutoReqProv: no", Install: `cd %{buildroot}
mkdir -p usr/lib/modules/` + kver + ` usr/bin usr/sbin usr/lib/dracut/modules.d/50hostctl
echo kernel > usr/lib/modules/` + kver + `/vmlinuz
cat > usr/bin/dracut <<'END'
#!/bin/sh
for out; do :; done
{ echo $SOURCE_DATE_EPOCH; cat /usr/lib/os-release /etc/default/useradd; echo /usr/share/doc/* /var/*; } > $out
echo x > /usr/share/doc/x 2> /dev/null && echo writable > $out
case " $* " in *" --misbehave "*) echo more > /usr/lib/more;; esac
END
cat > usr/sbin/depmod <<'END'
#!/bin/sh
echo dep > /usr/lib/modules/$2/modules.dep
END
`, Files: "/usr/lib/modules/*\n%attr(755,root,root) /usr/bin/dracut\n%attr(755,root,root) /usr/sbin/depmod\n/usr/lib/dracut"}
}

// The files of a kernel are made again when anything changes that their makers see,
// and a tree is the same whether they were or not.
func TestKernelCache(t *testing.T) {
	t.Parallel()
	s := newSmall(t, lookingKernel())
	cache := rpmtest.Dir(t, t.TempDir())
	image := "usr/lib/modules/" + kver + "/initramfs.img"
	file := func(name, data string) AddFile { return AddFile{Dest: name, Data: []byte(data)} }
	entries := func() []string {
		t.Helper()
		list, err := filepath.Glob(filepath.Join(cache.Path(), "*"))
		testutil.Must(t, err)
		return list
	}
	damage := func(name, data string) func() {
		return func() {
			for _, e := range entries() {
				testutil.Must(t, os.WriteFile(filepath.Join(e, name), []byte(data), 0o600))
			}
		}
	}
	var first string
	for _, step := range []struct {
		name   string
		before func()
		o      Options
		cached bool
	}{
		{name: "first", o: Options{Version: "1"}},
		{name: "another version and documentation", o: Options{Version: "2", AddFiles: []AddFile{file("usr/share/doc/new", "new")}}, cached: true},
		{name: "configuration", o: Options{Version: "2", AddFiles: []AddFile{file("etc/default/useradd", "other\n")}}},
		{name: "damaged image", before: damage(kernelContent+"/initramfs.img", "bad"), o: Options{Version: "2"}},
		{name: "made again", o: Options{Version: "3"}, cached: true},
		{name: "damaged manifest", before: damage(kernelManifest, "bad"), o: Options{Version: "3"}},
		{name: "arguments", o: Options{Version: "3", InitramfsArgs: []string{"--more"}}},
		{name: "without initramfs", o: Options{Version: "3", NoInitramfs: true}},
		{name: "changes elsewhere", o: Options{Version: "3", InitramfsArgs: []string{"--misbehave"}}},
		{name: "changes elsewhere again", o: Options{Version: "3", InitramfsArgs: []string{"--misbehave"}}},
		{name: "the first again", o: Options{Version: "4"}, cached: true},
	} {
		if step.before != nil {
			step.before()
		}
		plain, _, err := s.compose(t, step.o)
		testutil.Must(t, err)
		step.o.KernelCache = cache
		root, res, err := s.compose(t, step.o)
		testutil.Must(t, err)
		if res.KernelCached != step.cached {
			t.Errorf("%s: from the cache: %t, want %t", step.name, res.KernelCached, step.cached)
		}
		if diff := cmp.Diff(snapshot(t, plain), snapshot(t, root)); diff != "" {
			t.Errorf("%s: the tree differs (-without cache +with):\n%s", step.name, diff)
		}
		if first == "" {
			first = text(t, root, image)
		}
		if step.cached && text(t, root, image) != first {
			t.Errorf("%s: the image differs from the first", step.name)
		}
		if n := len(entries()); n > keptKernels {
			t.Errorf("%s: %d entries in the cache", step.name, n)
		}
	}
	for _, want := range []string{"0\n", "PRETTY_NAME=\"Distro 7\"\n", "HOME=/home\n", "/usr/share/doc/* /var/tmp\n"} {
		if !strings.Contains(first, want) {
			t.Errorf("the image lacks %q: %s", want, first)
		}
	}
	for _, bad := range []string{"OSTREE_VERSION", "writable"} {
		if strings.Contains(first, bad) {
			t.Errorf("the image holds %q: %s", bad, first)
		}
	}
}

func TestKernelCacheIsBounded(t *testing.T) {
	t.Parallel()
	s := newSmall(t, lookingKernel())
	cache := rpmtest.Dir(t, t.TempDir())
	testutil.Must(t, cache.Mkdir("tmp-left", 0o755))
	for i := range keptKernels + 2 {
		o := Options{KernelCache: cache, InitramfsArgs: []string{fmt.Sprint("--n", i)}}
		_, _, err := s.compose(t, o)
		testutil.Must(t, err)
	}
	list, err := cache.ReadDir(".")
	testutil.Must(t, err)
	if len(list) != keptKernels {
		t.Errorf("%d entries, want %d: %v", len(list), keptKernels, list)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(manifest([]keptFile{{name: "initramfs.img", mode: 0o600}, {name: "modules.dep", mode: 0o644}}))
	f.Add("")
	f.Add("00\n00 0644 ../x\n")
	f.Fuzz(func(t *testing.T, text string) {
		files, err := parseManifest(text)
		if err != nil {
			return
		}
		if manifest(files) != text {
			t.Errorf("%q is read but not written", text)
		}
		for _, file := range files {
			if strings.Contains(file.name, "/") || file.name == ".." {
				t.Errorf("name %q", file.name)
			}
		}
	})
}

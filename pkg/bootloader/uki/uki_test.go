// SPDX-License-Identifier: Apache-2.0

package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

type sections = [][2]string

func whole() sections {
	return sections{{".text", "code"}, {".osrel", "ID=x\n"}, {".cmdline", "quiet rw\n\x00"},
		{".linux", strings.Repeat("kernel", 30000)}, {".initrd", "initramfs"}, {".uname", "6.1.0"}}
}

func TestRead(t *testing.T) {
	t.Parallel()
	full := Image{Linux: true, Initrd: true, HasCmdline: true, Cmdline: "quiet rw", Uname: "6.1.0", OSRelease: "ID=x"}
	signed := full
	signed.Signed = true
	for _, c := range []struct {
		name string
		data []byte
		want Image
	}{
		{"whole", testutil.EFI(false, whole()...), full},
		{"signed", testutil.EFI(true, whole()...), signed},
		{"boot loader", testutil.EFI(true, sections{{".text", "code"}, {".sbat", "sbat,1\nshim,4\n"}}...), Image{Signed: true, SBAT: "sbat,1\nshim,4"}},
		{"empty command line", testutil.EFI(false, sections{{".linux", "k"}, {".cmdline", ""}}...), Image{Linux: true, HasCmdline: true}},
		{"profiles", testutil.EFI(false, append(whole(), sections{{".profile", "ID=main"}, {".cmdline", "main"}, {".profile", "ID=other"}, {".cmdline", "other"}}...)...),
			func() Image { i := full; i.Cmdline = "main"; return i }()},
		{"text that begins in the headers", testutil.EFI(false, sections{{".pad", strings.Repeat("x", maxHead-2048)}, {".linux", ""}, {".uname", strings.Repeat("6", 3000)}}...),
			Image{Linux: true, Uname: strings.Repeat("6", 3000)}},
	} {
		for kind, r := range map[string]io.Reader{"seeks": bytes.NewReader(c.data), "reads": io.MultiReader(bytes.NewReader(c.data))} {
			got, err := Read(r, int64(len(c.data)))
			if err != nil {
				t.Errorf("%s, %s: %v", c.name, kind, err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%s, %s: %s", c.name, kind, d)
			}
		}
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	good := testutil.EFI(true, whole()...)
	change := func(at int, b ...byte) []byte {
		out := bytes.Clone(good)
		copy(out[at:], b)
		return out
	}
	row := 0x80 + 24 + 240 // the section table
	for name, data := range map[string][]byte{
		"empty":              nil,
		"text":               []byte(strings.Repeat("no program ", 20)),
		"PE header outside":  change(0x3c, 0xff, 0xff, 0xff, 0xff),
		"PE header overlaps": change(0x3c, 0),
		"no PE header":       change(0x80, 'N', 'E'),
		"many sections":      change(0x80+6, 0xff, 0xff),
		"long header":        change(0x80+20, 0xff, 0xff),
		"other subsystem":    change(0x80+24+68, 3),
		"other magic":        change(0x80+24, 7, 1),
		"section outside":    change(row+20, 0xff, 0xff, 0xff, 0xff),
		"signature outside":  change(0x80+24+112+4*8, 0xff, 0xff, 0xff, 0xff),
		"no text":            testutil.EFI(false, sections{{".linux", "k"}, {".cmdline", "a\x00b"}}...),
		"no UTF-8":           testutil.EFI(false, sections{{".linux", "k"}, {".uname", "\xff"}}...),
		"long text":          testutil.EFI(false, sections{{".linux", "k"}, {".osrel", strings.Repeat("x", maxText+1)}}...),
		"twice":              testutil.EFI(false, sections{{".linux", "k"}, {".cmdline", "a"}, {".cmdline", "b"}}...),
	} {
		if img, err := Read(bytes.NewReader(data), int64(len(data))); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %+v %v", name, img, err)
		}
	}
	for n := 0; n < len(good); n += max(1, n/100) {
		if _, err := Read(bytes.NewReader(good[:n]), int64(n)); !errors.Is(err, ErrInvalid) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
	// A file that is shorter than its size said.
	if _, err := Read(bytes.NewReader(good[:len(good)-1000]), int64(len(good))); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}

// TestObjcopy: binutils put such images together, and this reads them.
func TestObjcopy(t *testing.T) {
	t.Parallel()
	tool := testutil.Tool(t, "objcopy")
	dir := t.TempDir()
	stub := filepath.Join(dir, "stub")
	testutil.Must(t, os.WriteFile(stub, testutil.EFI(false, [2]string{".text", strings.Repeat("code", 200)}), 0o644))
	argv := []string{}
	for i, s := range whole()[1:] {
		name := filepath.Join(dir, s[0])
		testutil.Must(t, os.WriteFile(name, []byte(s[1]), 0o644))
		argv = append(argv, "--add-section", s[0]+"="+name, "--change-section-vma", s[0]+"="+[]string{"0x10000", "0x20000", "0x100000", "0x200000", "0x300000"}[i])
	}
	out := filepath.Join(dir, "uki")
	if text, err := exec.Command(tool, append(argv, stub, out)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	f, err := os.Open(out)
	testutil.Must(t, err)
	defer f.Close()
	st, err := f.Stat()
	testutil.Must(t, err)
	got, err := Read(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Image{Linux: true, Initrd: true, HasCmdline: true, Cmdline: "quiet rw", Uname: "6.1.0", OSRelease: "ID=x"}, got); d != "" {
		t.Error(d)
	}
}

func FuzzRead(f *testing.F) {
	small := sections{{".linux", "kernel"}, {".osrel", "ID=x"}, {".cmdline", "quiet"}, {".uname", "6.1"}, {".sbat", "sbat,1\n"}}
	f.Add(testutil.EFI(true, small...))
	f.Add(testutil.EFI(false, append(small, sections{{".profile", "ID=main"}, {".cmdline", "main"}}...)...))
	overlap := testutil.EFI(false, small...)
	binary.LittleEndian.PutUint32(overlap[0x80+24+240+40+20:], 100)
	f.Add(overlap)
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := Read(bytes.NewReader(data), int64(len(data)))
		slow, slowErr := Read(io.MultiReader(bytes.NewReader(data)), int64(len(data)))
		if img != slow || (err == nil) != (slowErr == nil) {
			t.Errorf("%+v %v, %+v %v", img, err, slow, slowErr)
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
		for _, s := range []string{img.Cmdline, img.Uname, img.OSRelease, img.SBAT} {
			if len(s) > maxText || strings.Contains(s, "\x00") {
				t.Errorf("%q", s)
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package sys

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// What a kernel without mounts of files takes.
func TestLoop(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip(err)
	}
	want := bytes.Repeat([]byte("loop "), 4096)[:16384]
	name := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(name, want, 0o644))
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	dev, err := loop(int(f.Fd()))
	must(t, err)
	defer dev.Close()
	got, err := io.ReadAll(dev)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, %v", dev.Name(), len(got), err)
	}
	if err := os.WriteFile(dev.Name(), []byte("x"), 0o644); err == nil {
		t.Error("the device takes writes")
	}
}

func TestHasFilesystem(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, want := range map[string]bool{"proc": true, "nosuchfs": false} {
		if got, err := HasFilesystem(name); got != want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestVerity(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(name, []byte("x"), 0o644))
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	if _, on, err := VerityDigest(int(f.Fd())); on || err != nil && !IsNotSupported(err) {
		t.Fatalf("of a new file: %v, %v", on, err)
	}
	err = EnableVerity(int(f.Fd()))
	if IsNotSupported(err) {
		t.Skip(err)
	}
	must(t, err)
	must(t, EnableVerity(int(f.Fd())))
	if _, on, err := VerityDigest(int(f.Fd())); !on || err != nil {
		t.Errorf("%v, %v", on, err)
	}
}

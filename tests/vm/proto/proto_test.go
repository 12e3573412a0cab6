// SPDX-License-Identifier: Apache-2.0

package proto

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReaderFindsNextFrame puts what a killed peer leaves behind between frames.
func TestReaderFindsNextFrame(t *testing.T) {
	t.Parallel()
	var want []Frame
	var buf bytes.Buffer
	w := NewWriter(&buf)
	for i, junk := range []string{"", "HVM1", "HV", "HVM1\x01\x00\x00\x00\x00\x05\x00\x00\x00abcdhello", "\xff\xff\xff\xff"} {
		buf.WriteString(junk)
		f := Frame{Type: Stdout, ID: uint32(i), Data: bytes.Repeat([]byte("HVM"), i*1000)}
		if err := w.Write(f); err != nil {
			t.Fatal(err)
		}
		want = append(want, f)
	}
	whole := buf.Len()
	buf.WriteString("HVM1 cut off")
	r := NewReader(&buf)
	var got []Frame
	for {
		f, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })); diff != "" {
		t.Errorf("%d bytes: %s", whole, diff)
	}
	if err := w.Write(Frame{Data: make([]byte, MaxData+1)}); err == nil {
		t.Error("too long a frame was written")
	}
}

// session runs a server and returns the client's side of its line.
func session(t *testing.T) (*Reader, *Writer) {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan error)
	go func() { done <- NewServer(there, "none").Serve(t.Context()) }()
	t.Cleanup(func() {
		here.Close()
		if err := <-done; !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	return NewReader(here), NewWriter(here)
}

func TestServer(t *testing.T) {
	t.Parallel()
	r, w := session(t)
	f, err := r.Read()
	var hello Status
	if err != nil || f.Type != Hello || json.Unmarshal(f.Data, &hello) != nil || len(hello.BootID) != 36 || hello.Agent != os.Getpid() {
		t.Fatalf("hello: %v %q %v", f.Type, f.Data, err)
	}
	tests := []struct {
		cmd      Command
		out, err string
		code     int
		failed   bool
	}{
		{cmd: Command{Argv: []string{"/bin/sh", "-c", "echo out; echo err >&2; exit 3"}}, out: "out\n", err: "err\n", code: 3},
		{cmd: Command{Argv: []string{"/bin/cat"}, Stdin: []byte("in")}, out: "in"},
		{cmd: Command{Argv: []string{"/bin/sh", "-c", "echo $A; pwd"}, Env: []string{"A=b"}, Dir: "/"}, out: "b\n/\n"},
		{cmd: Command{Argv: []string{"/bin/sh", "-c", "kill -9 $$"}}, code: 137},
		{cmd: Command{Argv: []string{"/bin/sleep", "100"}, Seconds: 0.1}, code: -1, failed: true},
		{cmd: Command{Argv: []string{"/nonexistent"}}, code: -1, failed: true},
		{cmd: Command{}, code: -1, failed: true},
	}
	for i, tt := range tests {
		if err := w.WriteJSON(Run, uint32(i), tt.cmd); err != nil {
			t.Fatal(err)
		}
		out, errOut, st := collect(t, r, uint32(i))
		if out != tt.out || errOut != tt.err || st.Code != tt.code || (st.Error != "") != tt.failed {
			t.Errorf("%q: %q, %q, %+v", tt.cmd.Argv, out, errOut, st)
		}
	}
}

func TestServerPut(t *testing.T) {
	t.Parallel()
	r, w := session(t)
	if _, err := r.Read(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "new/file")
	data := bytes.Repeat([]byte("x"), 2*MaxData)
	send := func(id uint32, path string) ExitStatus {
		t.Helper()
		for _, f := range []Frame{
			{Type: PutData, ID: id, Data: data[:MaxData]}, {Type: PutData, ID: id, Data: data[MaxData:]}, {Type: PutData, ID: id},
		} {
			if f.ID == id && len(f.Data) == MaxData && &f.Data[0] == &data[0] {
				if err := w.WriteJSON(Put, id, File{Path: path, Mode: 0o750}); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Write(f); err != nil {
				t.Fatal(err)
			}
		}
		_, _, st := collect(t, r, id)
		return st
	}
	if st := send(1, name); st.Code != 0 {
		t.Fatal(st)
	}
	got, err := os.ReadFile(name)
	info, statErr := os.Stat(name)
	if err != nil || statErr != nil || !bytes.Equal(got, data) || info.Mode() != 0o750 {
		t.Errorf("%v, %v, %d bytes, mode %v", err, statErr, len(got), info.Mode())
	}
	if st := send(2, filepath.Join(name, "below a file")); st.Error == "" {
		t.Error("impossible file was written")
	}
	list, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

func collect(t *testing.T, r *Reader, id uint32) (out, errOut string, st ExitStatus) {
	t.Helper()
	for {
		f, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		if f.ID != id {
			t.Fatalf("frame for %d, not %d", f.ID, id)
		}
		switch f.Type {
		case Stdout:
			out += string(f.Data)
		case Stderr:
			errOut += string(f.Data)
		case Exit:
			if err := json.Unmarshal(f.Data, &st); err != nil {
				t.Fatal(err)
			}
			return out, errOut, st
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package proto

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is the agent's side of a line.
type Server struct {
	r *Reader
	w *Writer
	// network describes what the agent did to reach the host.
	network string
	files   map[uint32]*upload
}

// NewServer returns a Server on a line.
func NewServer(rw io.ReadWriter, network string) *Server {
	return &Server{r: NewReader(rw), w: NewWriter(rw), network: network, files: map[uint32]*upload{}}
}

// Serve says hello and answers until the line ends.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.hello(); err != nil {
		return err
	}
	for {
		f, err := s.r.Read()
		if err != nil {
			return err
		}
		switch f.Type {
		case Ping:
			err = s.hello()
		case Run:
			go s.run(ctx, f)
		case Put, PutData:
			err = s.put(f)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Server) hello() error {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(up), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return err
	}
	return s.w.WriteJSON(Hello, 0, Status{BootID: strings.TrimSpace(string(id)), Agent: os.Getpid(), Uptime: seconds, Network: s.network})
}

func (s *Server) exit(id uint32, code int, err error) error {
	st := ExitStatus{Code: code}
	if err != nil {
		st.Error = err.Error()
	}
	return s.w.WriteJSON(Exit, id, st)
}

// run answers one Run; a failure to write means that the line is gone, which
// the reading side notices as well.
func (s *Server) run(ctx context.Context, f Frame) {
	var c Command
	if err := json.Unmarshal(f.Data, &c); err != nil || len(c.Argv) == 0 {
		_ = s.exit(f.ID, -1, fmt.Errorf("bad command %q: %w", f.Data, err))
		return
	}
	if c.Seconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.Seconds*float64(time.Second)))
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Dir = c.Dir
	cmd.Stdin = bytes.NewReader(c.Stdin)
	cmd.Stdout = stream{s.w, Stdout, f.ID}
	cmd.Stderr = stream{s.w, Stderr, f.ID}
	// A background child that keeps the pipes must not keep the answer.
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	var failed *exec.ExitError
	switch {
	case ctx.Err() != nil:
		_ = s.exit(f.ID, -1, fmt.Errorf("killed after %v seconds", c.Seconds))
	case errors.As(err, &failed):
		_ = s.exit(f.ID, exitCode(failed), nil)
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		_ = s.exit(f.ID, 0, nil)
	default:
		_ = s.exit(f.ID, -1, err)
	}
}

func exitCode(e *exec.ExitError) int {
	if ws, ok := e.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return e.ExitCode()
}

// stream sends what is written to it as frames.
type stream struct {
	w    *Writer
	kind Type
	id   uint32
}

func (s stream) Write(p []byte) (int, error) {
	for n := 0; n < len(p); n += MaxData {
		if err := s.w.Write(Frame{Type: s.kind, ID: s.id, Data: p[n:min(n+MaxData, len(p))]}); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// upload is a file on its way; err stops it, and is told at its end.
type upload struct {
	file File
	tmp  *os.File
	err  error
}

func (s *Server) put(f Frame) error {
	if f.Type == Put {
		u := &upload{}
		u.start(f.Data)
		s.files[f.ID] = u
		return nil
	}
	u := s.files[f.ID]
	if u == nil {
		return s.exit(f.ID, -1, errors.New("data for no file"))
	}
	if len(f.Data) > 0 {
		if u.err == nil {
			_, u.err = u.tmp.Write(f.Data)
		}
		return nil
	}
	delete(s.files, f.ID)
	if err := u.finish(); err != nil {
		return s.exit(f.ID, -1, err)
	}
	return s.exit(f.ID, 0, nil)
}

func (u *upload) start(data []byte) {
	if u.err = json.Unmarshal(data, &u.file); u.err != nil {
		return
	}
	if u.err = os.MkdirAll(filepath.Dir(u.file.Path), 0o755); u.err != nil {
		return
	}
	u.tmp, u.err = os.CreateTemp(filepath.Dir(u.file.Path), ".put-")
}

func (u *upload) finish() error {
	if u.tmp == nil {
		return u.err
	}
	defer os.Remove(u.tmp.Name())
	if u.err == nil {
		u.err = u.tmp.Chmod(os.FileMode(u.file.Mode & 0o777))
	}
	if u.err == nil {
		u.err = u.tmp.Sync()
	}
	if err := u.tmp.Close(); u.err == nil {
		u.err = err
	}
	if u.err != nil {
		return u.err
	}
	return os.Rename(u.tmp.Name(), u.file.Path)
}

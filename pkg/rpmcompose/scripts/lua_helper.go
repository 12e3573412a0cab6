// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

// ErrLuaEnded: the process of a Lua script ended before the script did, as it does
// where the script needs more memory than it may have.
var ErrLuaEnded = errors.New("interpreter was ended")

// Limits of the process of a Lua script.
const (
	luaMemory  = 512 << 20 // of its data, in bytes
	luaFiles   = 256       // open at the same time
	luaMessage = 4 << 20   // one line between the processes
	luaChunk   = 64 << 10  // of output in one message
	luaArgs    = 1 << 20   // of all arguments of a program
	luaTreeFD  = 3         // the tree, in the helper
)

// luaRequest is what the helper reads: the job, then an answer for each program.
type luaRequest struct {
	Job    *luaJob `json:",omitempty"`
	Output []byte  `json:",omitempty"` // of a program that ran
	Code   int     `json:",omitempty"` // its exit status; -1 where it had none
	Error  string  `json:",omitempty"` // why it had none
}

// luaReply is what the helper writes: output and programs to run, then the end.
type luaReply struct {
	Output  []byte   `json:",omitempty"`
	Program [][]byte `json:",omitempty"`
	Done    bool     `json:",omitempty"`
	Exit    int      `json:",omitempty"` // of os.exit
	Error   string   `json:",omitempty"`
}

// luaHelper runs a script in a process of its own.
func (s *Sandbox) luaHelper(r *luaRun) error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.o.LuaHelper[0], s.o.LuaHelper[1:]...)
	cmd.Env = []string{"GOTRACEBACK=none", "GOMAXPROCS=2", "LC_ALL=C", "TZ=UTC"}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{r.root.File()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = killGrace
	said := newTail(luaChunk, s.o.Logger, r.Name)
	cmd.Stderr = said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// The thread of the sandbox lives as long as the process may.
	if err := s.inside(cmd.Start); err != nil {
		return fmt.Errorf("start the Lua interpreter: %w", err)
	}
	ended, err := r.converse(json.NewEncoder(in), out)
	cancel()
	waitErr := cmd.Wait()
	said.flush()
	if ended {
		return err
	}
	if text := lastLines(said.String(), 1); text != "" {
		return fmt.Errorf("%w (it may use %d MiB): %s", ErrLuaEnded, luaMemory>>20, text)
	}
	return errors.Join(fmt.Errorf("%w (it may use %d MiB)", ErrLuaEnded, luaMemory>>20), err, waitErr)
}

// converse serves the helper until it is done; ended says that it got there.
func (r *luaRun) converse(in *json.Encoder, out io.Reader) (ended bool, err error) {
	if err := in.Encode(luaRequest{Job: &r.luaJob}); err != nil {
		return false, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, luaMessage)
	for lines.Scan() {
		var m luaReply
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return false, fmt.Errorf("read from the Lua interpreter: %w", err)
		}
		switch {
		case m.Done && m.Exit != 0:
			return true, &luaExit{m.Exit}
		case m.Done && m.Error != "":
			return true, errors.New(m.Error)
		case m.Done:
			return true, nil
		case len(m.Program) > 0:
			if err := in.Encode(r.answer(m.Program)); err != nil {
				return false, err
			}
		default:
			_, _ = r.out.Write(m.Output)
		}
	}
	return false, lines.Err()
}

func (r *luaRun) answer(program [][]byte) luaRequest {
	argv := make([]string, len(program))
	for i, a := range program {
		argv[i] = string(a)
	}
	out, err := r.program(argv)
	a := luaRequest{Output: []byte(out.Text)}
	var failed *Error
	switch {
	case err == nil:
	case errors.As(err, &failed) && failed.Code > 0:
		a.Code = failed.Code
	default:
		a.Code, a.Error = -1, err.Error()
	}
	return a
}

// ServeLua is the other side: it runs one Lua script, which it reads from in, on
// the tree that is open as file descriptor 3, under the limits of this package.
// It is for a process that does nothing else; see Options.LuaHelper.
func ServeLua(ctx context.Context, in io.Reader, out io.Writer) error {
	if err := limitLua(); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	// The job holds the script and the paths of a trigger.
	lines.Buffer(nil, math.MaxInt32)
	first, err := readRequest(lines)
	if err != nil {
		return err
	}
	if first.Job == nil {
		return errors.New("read Lua script: the first message holds none")
	}
	w := json.NewEncoder(out)
	r := &luaRun{luaJob: *first.Job, ctx: ctx, root: fsx.NewDir(os.NewFile(luaTreeFD, "tree"), "tree"), out: &luaOutput{w}}
	r.program = func(argv []string) (Output, error) { return askProgram(r.Name, lines, w, argv) }
	done := luaReply{Done: true}
	err = r.exec()
	var exit *luaExit
	switch {
	case errors.As(err, &exit):
		done.Exit = exit.code
	case err != nil:
		text := err.Error()
		done.Error = strings.ToValidUTF8(text[:min(len(text), luaChunk)], "?")
	}
	return w.Encode(done)
}

func limitLua() error {
	debug.SetMemoryLimit(luaMemory / 2)
	for _, l := range []struct {
		what  int
		limit uint64
	}{{syscall.RLIMIT_DATA, luaMemory}, {syscall.RLIMIT_NOFILE, luaFiles}, {syscall.RLIMIT_CORE, 0}} {
		if err := syscall.Setrlimit(l.what, &syscall.Rlimit{Cur: l.limit, Max: l.limit}); err != nil {
			return fmt.Errorf("limit the Lua interpreter: %w", err)
		}
	}
	return nil
}

func readRequest(lines *bufio.Scanner) (luaRequest, error) {
	var m luaRequest
	if !lines.Scan() {
		return m, errors.Join(errors.New("read request: the composer is gone"), lines.Err())
	}
	return m, json.Unmarshal(lines.Bytes(), &m)
}

// askProgram lets the composer run a program in the sandbox.
func askProgram(name string, lines *bufio.Scanner, w *json.Encoder, argv []string) (Output, error) {
	m, total := luaReply{}, 0
	for _, a := range argv {
		m.Program = append(m.Program, []byte(a))
		total += len(a) + 1
	}
	if total > luaArgs {
		return Output{}, syscall.E2BIG
	}
	if err := w.Encode(m); err != nil {
		return Output{}, err
	}
	a, err := readRequest(lines)
	if err != nil {
		return Output{}, err
	}
	out := Output{Text: string(a.Output)}
	switch {
	case a.Code > 0:
		return out, &Error{Command: name, Code: a.Code, Err: fmt.Errorf("exit status %d", a.Code)}
	case a.Code < 0:
		return out, errors.New(a.Error)
	}
	return out, nil
}

// luaOutput sends what a script writes.
type luaOutput struct{ w *json.Encoder }

func (o *luaOutput) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := min(len(p), luaChunk)
		if err := o.w.Encode(luaReply{Output: p[:k]}); err != nil {
			return 0, err
		}
		p = p[k:]
	}
	return n, nil
}

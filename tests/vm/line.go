// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hostctl/hostctl/tests/vm/proto"
)

// portName names the virtual serial port of the agent.
const portName = "hostctl.agent"

// ErrLineLost reports that the guest or its agent went away before it answered.
var ErrLineLost = errors.New("agent line lost")

// line is the harness's side of the connection to an agent. It outlives
// restarts of the guest, which the Hello of another agent reveals.
type line struct {
	conn net.Conn
	w    *proto.Writer

	mu      sync.Mutex
	nextID  uint32
	pending map[uint32]chan proto.Frame
	status  proto.Status
	changed chan struct{} // closed and renewed at every Hello
	lost    chan struct{} // closed when the connection ends
}

// dialLine connects as soon as QEMU has made the socket.
func dialLine(ctx context.Context, socket string, ended <-chan struct{}) (*line, error) {
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return newLine(conn), nil
		}
		select {
		case <-ended:
			return nil, ErrStopped
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func newLine(conn net.Conn) *line {
	l := &line{
		conn: conn, w: proto.NewWriter(conn), pending: map[uint32]chan proto.Frame{},
		changed: make(chan struct{}), lost: make(chan struct{}),
	}
	go l.read()
	return l
}

func (l *line) close() { _ = l.conn.Close() }

func (l *line) read() {
	defer close(l.lost)
	r := proto.NewReader(l.conn)
	for {
		f, err := r.Read()
		if err != nil {
			return
		}
		if f.Type == proto.Hello {
			l.hello(f.Data)
			continue
		}
		l.mu.Lock()
		ch := l.pending[f.ID]
		l.mu.Unlock()
		if ch != nil {
			ch <- f
		}
	}
}

// hello notes the agent's state; a new agent ends every request of the old one.
func (l *line) hello(data []byte) {
	var st proto.Status
	if json.Unmarshal(data, &st) != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status.BootID != "" && (st.BootID != l.status.BootID || st.Agent != l.status.Agent) {
		for id, ch := range l.pending {
			delete(l.pending, id)
			close(ch)
		}
	}
	l.status = st
	close(l.changed)
	l.changed = make(chan struct{})
}

// waitHello waits for an agent that is accepted.
func (l *line) waitHello(ctx context.Context, accept func(proto.Status) bool) (proto.Status, error) {
	for {
		l.mu.Lock()
		st, changed := l.status, l.changed
		l.mu.Unlock()
		if st.BootID != "" && accept(st) {
			return st, nil
		}
		select {
		case <-changed:
		case <-l.lost:
			return proto.Status{}, ErrLineLost
		case <-ctx.Done():
			return proto.Status{}, ctx.Err()
		}
	}
}

// request sends the first frame of a request and returns where the answers
// arrive; done must be called at the end.
func (l *line) request(t proto.Type, v any) (id uint32, answers <-chan proto.Frame, done func(), err error) {
	ch := make(chan proto.Frame, 64)
	l.mu.Lock()
	l.nextID++
	id = l.nextID
	l.pending[id] = ch
	l.mu.Unlock()
	done = func() {
		l.mu.Lock()
		delete(l.pending, id)
		l.mu.Unlock()
		// The reader may stand in a send to this channel.
		for {
			select {
			case _, ok := <-ch:
				if !ok {
					return
				}
			case <-time.After(10 * time.Millisecond):
				return
			}
		}
	}
	if err := l.w.WriteJSON(t, id, v); err != nil {
		done()
		return 0, nil, nil, err
	}
	return id, ch, done, nil
}

// collect reads the answers of a request until its end.
func (l *line) collect(ctx context.Context, answers <-chan proto.Frame, out, errOut io.Writer) (proto.ExitStatus, error) {
	for {
		select {
		case f, ok := <-answers:
			if !ok {
				return proto.ExitStatus{}, fmt.Errorf("guest restarted: %w", ErrLineLost)
			}
			switch f.Type {
			case proto.Stdout:
				_, _ = out.Write(f.Data)
			case proto.Stderr:
				_, _ = errOut.Write(f.Data)
			case proto.Exit:
				var st proto.ExitStatus
				return st, json.Unmarshal(f.Data, &st)
			}
		case <-l.lost:
			return proto.ExitStatus{}, ErrLineLost
		case <-ctx.Done():
			return proto.ExitStatus{}, ctx.Err()
		}
	}
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr []byte
	Code           int // 128 + signal number for a killed program
}

// Run runs a command in the guest. A command that ran and failed is no error;
// one that could not be started, or was cut off, is.
func (v *VM) Run(ctx context.Context, c proto.Command) (Result, error) {
	var out, errOut bytes.Buffer
	code, err := v.Stream(ctx, c, &out, &errOut)
	return Result{Stdout: out.Bytes(), Stderr: errOut.Bytes(), Code: code}, err
}

// Stream is Run that passes on what the command prints as it comes.
func (v *VM) Stream(ctx context.Context, c proto.Command, stdout, stderr io.Writer) (code int, err error) {
	l, err := v.current()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	_, answers, done, err := l.request(proto.Run, c)
	if err != nil {
		return 0, fmt.Errorf("run %q: %w", c.Argv, err)
	}
	defer done()
	st, err := l.collect(ctx, answers, stdout, stderr)
	if err == nil && st.Error != "" {
		err = errors.New(st.Error)
	}
	if err != nil {
		return st.Code, fmt.Errorf("run %q: %w", c.Argv, err)
	}
	v.cfg.Logf("ran %.200q: code %d, %.1f s", c.Argv, st.Code, time.Since(start).Seconds())
	return st.Code, nil
}

// Sh runs a shell script in the guest and returns what it printed; a script
// that fails is an error with all of its output.
func (v *VM) Sh(ctx context.Context, script string) (string, error) {
	res, err := v.Run(ctx, proto.Command{Argv: []string{"/bin/sh", "-euc", script}})
	if err != nil {
		return string(res.Stdout), err
	}
	if res.Code != 0 {
		return string(res.Stdout), fmt.Errorf("script %q: exit code %d\nstdout: %s\nstderr: %s",
			script, res.Code, res.Stdout, res.Stderr)
	}
	return string(res.Stdout), nil
}

// Put writes a file in the guest, with its parent folders.
func (v *VM) Put(ctx context.Context, path string, mode uint32, content io.Reader) error {
	l, err := v.current()
	if err != nil {
		return err
	}
	id, answers, done, err := l.request(proto.Put, proto.File{Path: path, Mode: mode})
	if err != nil {
		return fmt.Errorf("put %s: %w", path, err)
	}
	defer done()
	buf := make([]byte, proto.MaxData)
	for {
		n, readErr := content.Read(buf)
		if n > 0 {
			if err := l.w.Write(proto.Frame{Type: proto.PutData, ID: id, Data: buf[:n]}); err != nil {
				return fmt.Errorf("put %s: %w", path, err)
			}
		}
		if errors.Is(readErr, io.EOF) {
			break
		}
		if readErr != nil {
			return fmt.Errorf("put %s: %w", path, readErr)
		}
	}
	if err := l.w.Write(proto.Frame{Type: proto.PutData, ID: id}); err != nil {
		return fmt.Errorf("put %s: %w", path, err)
	}
	st, err := l.collect(ctx, answers, io.Discard, io.Discard)
	if err == nil && st.Error != "" {
		err = errors.New(st.Error)
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", path, err)
	}
	return nil
}

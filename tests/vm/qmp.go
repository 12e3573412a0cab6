// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/hostctl/hostctl/tests/vm/proto"
)

// QMP runs one command of QEMU's machine protocol and returns its answer.
func (v *VM) QMP(ctx context.Context, command string, args map[string]any) (json.RawMessage, error) {
	if v.running() == nil {
		return nil, ErrStopped
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", v.path("qmp.sock"))
	if err != nil {
		return nil, fmt.Errorf("QMP %s: %w", command, err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	q := qmp{enc: json.NewEncoder(conn), dec: json.NewDecoder(bufio.NewReader(conn))}
	var greeting json.RawMessage
	if err := q.dec.Decode(&greeting); err != nil {
		return nil, fmt.Errorf("QMP greeting: %w", err)
	}
	if _, err := q.call("qmp_capabilities", nil); err != nil {
		return nil, err
	}
	return q.call(command, args)
}

type qmp struct {
	enc *json.Encoder
	dec *json.Decoder
}

func (q qmp) call(command string, args map[string]any) (json.RawMessage, error) {
	req := map[string]any{"execute": command}
	if args != nil {
		req["arguments"] = args
	}
	if err := q.enc.Encode(req); err != nil {
		return nil, fmt.Errorf("QMP %s: %w", command, err)
	}
	for {
		var ans struct {
			Return json.RawMessage `json:"return"`
			Event  string          `json:"event"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := q.dec.Decode(&ans); err != nil {
			return nil, fmt.Errorf("QMP %s: %w", command, err)
		}
		switch {
		case ans.Error != nil:
			return nil, fmt.Errorf("QMP %s: %s", command, ans.Error.Desc)
		case ans.Event == "":
			return ans.Return, nil
		}
	}
}

// Snapshot saves the running machine, memory and disk, under a name.
func (v *VM) Snapshot(ctx context.Context, name string) error { return v.monitor(ctx, "savevm "+name) }

// Restore puts the running machine back to a snapshot. Commands that run
// meanwhile are lost.
func (v *VM) Restore(ctx context.Context, name string) error {
	if err := v.monitor(ctx, "loadvm "+name); err != nil {
		return err
	}
	l, err := v.current()
	if err != nil {
		return err
	}
	return l.ping(ctx)
}

// ping waits for an answer of the agent to this very question, since it may be
// in the middle of a frame of an older time.
func (l *line) ping(ctx context.Context) error {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if err := l.w.WriteJSON(proto.Ping, 0, nil); err != nil {
			return err
		}
		select {
		case <-changed:
			return nil
		case <-l.lost:
			return ErrLineLost
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// monitor runs a command of the human monitor, whose errors are text.
func (v *VM) monitor(ctx context.Context, line string) error {
	start := time.Now()
	ans, err := v.QMP(ctx, "human-monitor-command", map[string]any{"command-line": line})
	if err != nil {
		return err
	}
	var text string
	if err := json.Unmarshal(ans, &text); err != nil {
		return fmt.Errorf("monitor %s: %w", line, err)
	}
	if text = strings.TrimSpace(text); text != "" {
		return fmt.Errorf("monitor %s: %s", line, text)
	}
	v.cfg.Logf("%s took %.1f s", line, time.Since(start).Seconds())
	return nil
}

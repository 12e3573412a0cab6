// SPDX-License-Identifier: Apache-2.0

// Package failpoint lets tests kill or disturb the process at named points.
//
// HOSTCTL_FAILPOINTS holds entries separated by ';', each NAME=ACTION with
// ACTION one of
//
//	kill       end the process at once with SIGKILL
//	error      make Hit return ErrInjected
//	sleep:MS   pause for MS milliseconds
//	skip:N:A   do nothing N times, then action A
//	trace      write the name to standard error
//
// NAME may end in '*' to match every point with that prefix. Without the
// variable Hit costs one atomic load.
package failpoint

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrInjected is what Hit returns, wrapped with the point's name, for action "error".
var ErrInjected = errors.New("injected failure")

type rule struct {
	pattern string
	action  string
	skip    int
}

type table struct {
	mu    sync.Mutex
	rules []*rule
}

var load = sync.OnceValue(func() *table { return parse(os.Getenv("HOSTCTL_FAILPOINTS")) })

func parse(spec string) *table {
	t := &table{}
	for entry := range strings.SplitSeq(spec, ";") {
		name, action, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok {
			continue
		}
		r := &rule{pattern: name, action: action}
		if rest, ok := strings.CutPrefix(action, "skip:"); ok {
			n, act, _ := strings.Cut(rest, ":")
			r.skip, _ = strconv.Atoi(n)
			r.action = act
		}
		t.rules = append(t.rules, r)
	}
	return t
}

// Hit acts on the point called name. It returns an error only where the
// environment asks for one; a caller treats it like any failed operation.
func Hit(name string) error {
	t := load()
	if len(t.rules) == 0 {
		return nil
	}
	return t.hit(name)
}

func (t *table) hit(name string) error {
	t.mu.Lock()
	action := ""
	for _, r := range t.rules {
		if !matches(r.pattern, name) {
			continue
		}
		if r.skip > 0 {
			r.skip--
			continue
		}
		action = r.action
		break
	}
	t.mu.Unlock()
	switch {
	case action == "":
		return nil
	case action == "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case action == "error":
		return fmt.Errorf("failpoint %s: %w", name, ErrInjected)
	case action == "trace":
		fmt.Fprintln(os.Stderr, "failpoint", name)
		return nil
	case strings.HasPrefix(action, "sleep:"):
		ms, _ := strconv.Atoi(action[len("sleep:"):])
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return nil
	}
	return fmt.Errorf("failpoint %s: unknown action %q", name, action)
}

func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

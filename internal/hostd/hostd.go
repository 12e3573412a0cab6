// SPDX-License-Identifier: Apache-2.0

// Package hostd offers the state of the host on a message bus, under the name,
// paths and interfaces of rpm-ostree's daemon, so that its clients can read it.
// It is the reading part of that API: what changes the host is not offered yet,
// and a call of it is answered with UnknownMethod. docs/formats/dbus.md lists
// what is there.
package hostd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/hostctl/hostctl/pkg/deploy"
)

// Names of the API.
const (
	BusName     = "org.projectatomic.rpmostree1"
	RootPath    = dbus.ObjectPath("/org/projectatomic/rpmostree1")
	SysrootPath = RootPath + "/Sysroot"

	SysrootInterface = "org.projectatomic.rpmostree1.Sysroot"
	OSInterface      = "org.projectatomic.rpmostree1.OS"

	errorPrefix = "org.projectatomic.rpmostreed.Error."
)

// ErrNameTaken reports another owner of [BusName].
var ErrNameTaken = errors.New("the bus name has another owner")

// Options configure Serve.
type Options struct {
	Conn *dbus.Conn // a connection to the bus, which Serve does not close
	// Load reads the state of the host; it is called for every answer.
	Load func(context.Context) (deploy.State, error)
	Path string // of the sysroot, as clients see it
	// IdleExit ends Serve when nobody called or is registered for so long; 0: never.
	IdleExit time.Duration
	// Poll is the interval in which changes are looked for and signalled; 0: two seconds.
	Poll   time.Duration
	Logger *slog.Logger
}

type daemon struct {
	Options
	ctx context.Context

	mu       sync.Mutex
	lastCall time.Time
	clients  map[dbus.Sender]string // registered, with the name that they gave
	seen     string                 // the state that was last signalled
	exported map[dbus.ObjectPath]string
}

// Serve answers calls until ctx ends, the connection breaks or it was idle for
// long enough; the last is not an error.
func Serve(ctx context.Context, o Options) error {
	if o.Poll == 0 {
		o.Poll = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &daemon{Options: o, ctx: ctx, lastCall: time.Now(), clients: map[dbus.Sender]string{}, exported: map[dbus.ObjectPath]string{}}
	if err := d.export(); err != nil {
		return fmt.Errorf("offer the host on the bus: %w", err)
	}
	gone := make(chan *dbus.Signal, 16)
	o.Conn.Signal(gone)
	defer o.Conn.RemoveSignal(gone)
	if err := o.Conn.AddMatchSignal(dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged")); err != nil {
		return fmt.Errorf("watch for clients that leave: %w", err)
	}
	reply, err := o.Conn.RequestName(BusName, dbus.NameFlagDoNotQueue)
	if err != nil {
		return fmt.Errorf("take the name %s: %w", BusName, err)
	}
	if reply != dbus.RequestNameReplyPrimaryOwner {
		return fmt.Errorf("take the name %s: %w", BusName, ErrNameTaken)
	}
	return d.loop(gone)
}

func (d *daemon) loop(signals <-chan *dbus.Signal) error {
	tick := time.NewTicker(d.Poll)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return d.ctx.Err()
		case s, ok := <-signals:
			if !ok {
				return errors.New("the connection to the bus broke")
			}
			d.forget(s)
		case <-tick.C:
			if err := d.refresh(); err != nil {
				d.Logger.Warn("read the host's state", "error", err)
			}
			if d.idle() {
				return nil
			}
		}
	}
}

// forget drops a registered client that left the bus.
func (d *daemon) forget(s *dbus.Signal) {
	if s.Name != "org.freedesktop.DBus.NameOwnerChanged" || len(s.Body) != 3 {
		return
	}
	name, _ := s.Body[0].(string)
	if owner, _ := s.Body[2].(string); owner != "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.clients, dbus.Sender(name))
}

func (d *daemon) idle() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.IdleExit > 0 && len(d.clients) == 0 && time.Since(d.lastCall) >= d.IdleExit
}

// load reads the state for an answer.
func (d *daemon) load() (deploy.State, *dbus.Error) {
	d.mu.Lock()
	d.lastCall = time.Now()
	d.mu.Unlock()
	st, err := d.Load(d.ctx)
	if err != nil {
		return st, failed(err)
	}
	return st, nil
}

// refresh signals what changed since the last call and offers new stateroots.
func (d *daemon) refresh() error {
	st, err := d.Load(d.ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(st)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == string(text) {
		return nil
	}
	first := d.seen == ""
	d.seen = string(text)
	if err := d.exportStateroots(st); err != nil || first {
		return err
	}
	err = d.changed(SysrootPath, SysrootInterface, d.sysrootProperties(st))
	for p, name := range d.exported {
		err = errors.Join(err, d.changed(p, OSInterface, osProperties(st, name)))
	}
	return err
}

func (d *daemon) changed(p dbus.ObjectPath, iface string, props map[string]dbus.Variant) error {
	return d.Conn.Emit(p, propertiesInterface+".PropertiesChanged", iface, props, []string{})
}

func failed(err error) *dbus.Error {
	return dbus.NewError(errorPrefix+"Failed", []any{err.Error()})
}

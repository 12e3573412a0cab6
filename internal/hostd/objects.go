// SPDX-License-Identifier: Apache-2.0

package hostd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"

	"github.com/hostctl/hostctl/pkg/deploy"
)

const (
	propertiesInterface = "org.freedesktop.DBus.Properties"
	managerInterface    = "org.freedesktop.DBus.ObjectManager"
	introspectInterface = "org.freedesktop.DBus.Introspectable"
)

// OSPath gives the object of a stateroot: what a D-Bus path may not hold is
// written as _ and two hexadecimal digits.
func OSPath(stateroot string) dbus.ObjectPath {
	var b strings.Builder
	for _, c := range []byte(stateroot) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return RootPath + "/" + dbus.ObjectPath(b.String())
}

func (d *daemon) export() error {
	methods := map[string]any{
		"RegisterClient":   d.registerClient,
		"UnregisterClient": d.unregisterClient,
		"Reload":           d.reload,
		"GetOS":            d.getOS,
	}
	if err := d.Conn.ExportMethodTable(methods, SysrootPath, SysrootInterface); err != nil {
		return err
	}
	err := d.object(SysrootPath, SysrootInterface, introspect.Interface{Name: SysrootInterface,
		Methods: []introspect.Method{
			{Name: "RegisterClient", Args: []introspect.Arg{{Name: "options", Type: "a{sv}", Direction: "in"}}},
			{Name: "UnregisterClient", Args: []introspect.Arg{{Name: "options", Type: "a{sv}", Direction: "in"}}},
			{Name: "Reload"},
			{Name: "GetOS", Args: []introspect.Arg{{Name: "name", Type: "s", Direction: "in"}, {Name: "object_path", Type: "o", Direction: "out"}}},
		},
		Properties: properties("Booted", "o", "Path", "s", "ActiveTransaction", "(sss)", "ActiveTransactionPath", "s", "Deployments", "aa{sv}"),
	}, func(st deploy.State) map[string]dbus.Variant { return d.sysrootProperties(st) })
	if err != nil {
		return err
	}
	manager := map[string]any{"GetManagedObjects": d.managedObjects}
	if err := d.Conn.ExportMethodTable(manager, RootPath, managerInterface); err != nil {
		return err
	}
	return d.refresh()
}

// exportStateroots offers stateroots that are new; the caller holds mu.
func (d *daemon) exportStateroots(st deploy.State) error {
	for _, name := range st.Stateroots {
		p := OSPath(name)
		if _, ok := d.exported[p]; ok {
			continue
		}
		err := d.object(p, OSInterface, introspect.Interface{Name: OSInterface,
			Properties: properties("Name", "s", "BootedDeployment", "a{sv}", "DefaultDeployment", "a{sv}", "RollbackDeployment", "a{sv}"),
		}, func(st deploy.State) map[string]dbus.Variant { return osProperties(st, name) })
		if err != nil {
			return err
		}
		d.exported[p] = name
	}
	return nil
}

// object offers the properties of one interface, read anew for every call, and
// the description of the object.
func (d *daemon) object(p dbus.ObjectPath, iface string, description introspect.Interface, read func(deploy.State) map[string]dbus.Variant) error {
	all := func(asked string) (map[string]dbus.Variant, *dbus.Error) {
		if asked != iface && asked != "" {
			return map[string]dbus.Variant{}, nil
		}
		st, err := d.load()
		if err != nil {
			return nil, err
		}
		return read(st), nil
	}
	get := func(asked, name string) (dbus.Variant, *dbus.Error) {
		props, err := all(asked)
		if err != nil {
			return dbus.Variant{}, err
		}
		v, ok := props[name]
		if !ok {
			return v, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{fmt.Sprintf("no property %q of interface %q", name, asked)})
		}
		return v, nil
	}
	set := func(_, name string, _ dbus.Variant) *dbus.Error {
		return dbus.NewError("org.freedesktop.DBus.Error.PropertyReadOnly", []any{fmt.Sprintf("property %q cannot be set", name)})
	}
	if err := d.Conn.ExportMethodTable(map[string]any{"Get": get, "GetAll": all, "Set": set}, p, propertiesInterface); err != nil {
		return err
	}
	node := introspect.NewIntrospectable(&introspect.Node{Name: string(p), Interfaces: []introspect.Interface{introspect.IntrospectData, propertiesDescription(), description}})
	return d.Conn.Export(node, p, introspectInterface)
}

func (d *daemon) managedObjects() (map[dbus.ObjectPath]map[string]map[string]dbus.Variant, *dbus.Error) {
	st, err := d.load()
	if err != nil {
		return nil, err
	}
	out := map[dbus.ObjectPath]map[string]map[string]dbus.Variant{SysrootPath: {SysrootInterface: d.sysrootProperties(st)}}
	for _, name := range st.Stateroots {
		out[OSPath(name)] = map[string]map[string]dbus.Variant{OSInterface: osProperties(st, name)}
	}
	return out, nil
}

// registerClient keeps the daemon from ending while the caller is on the bus.
func (d *daemon) registerClient(options map[string]dbus.Variant, sender dbus.Sender) *dbus.Error {
	id, _ := options["id"].Value().(string)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clients[sender] = id
	return nil
}

func (d *daemon) unregisterClient(_ map[string]dbus.Variant, sender dbus.Sender) *dbus.Error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.clients, sender)
	return nil
}

func (d *daemon) reload() *dbus.Error {
	if err := d.refresh(); err != nil {
		return failed(err)
	}
	return nil
}

func (d *daemon) getOS(name string) (dbus.ObjectPath, *dbus.Error) {
	st, err := d.load()
	if err != nil {
		return "/", err
	}
	if name == "" {
		b, ok := st.Booted()
		if !ok {
			return "/", failed(fmt.Errorf("no deployment is booted: %w", deploy.ErrNotSysroot))
		}
		name = b.Stateroot
	}
	if !slices.Contains(st.Stateroots, name) {
		return "/", failed(fmt.Errorf("no stateroot is called %q", name))
	}
	return OSPath(name), nil
}

// properties describes read-only properties, given as name and type in turn.
func properties(pairs ...string) []introspect.Property {
	var out []introspect.Property
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, introspect.Property{Name: pairs[i], Type: pairs[i+1], Access: "read"})
	}
	return out
}

func propertiesDescription() introspect.Interface {
	arg := func(name, typ, direction string) introspect.Arg {
		return introspect.Arg{Name: name, Type: typ, Direction: direction}
	}
	return introspect.Interface{Name: propertiesInterface,
		Methods: []introspect.Method{
			{Name: "Get", Args: []introspect.Arg{arg("interface", "s", "in"), arg("name", "s", "in"), arg("value", "v", "out")}},
			{Name: "GetAll", Args: []introspect.Arg{arg("interface", "s", "in"), arg("values", "a{sv}", "out")}},
			{Name: "Set", Args: []introspect.Arg{arg("interface", "s", "in"), arg("name", "s", "in"), arg("value", "v", "in")}},
		},
		Signals: []introspect.Signal{{Name: "PropertiesChanged", Args: []introspect.Arg{arg("interface", "s", ""), arg("changed", "a{sv}", ""), arg("invalidated", "as", "")}}},
	}
}

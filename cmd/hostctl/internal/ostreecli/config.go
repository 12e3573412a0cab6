// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// maxConfig bounds the config file, in bytes.
const maxConfig = keyfile.MaxSize

func configVerb() *verb {
	var group text
	return &verb{
		name: "config", args: "(get KEY|set KEY VALUE|unset KEY)", summary: "Change repo configuration settings",
		opts: []option{{long: "group", dst: &group, help: "Group name"}},
		run:  func(_ context.Context, c *call) error { return c.config(group) },
	}
}

func (c *call) config(group text) error {
	if len(c.args) < 1 {
		return c.usageError("OPERATION must be specified")
	}
	op, args := c.args[0], c.args[1:]
	want := 1
	if op == "set" {
		want = 2
	}
	if len(args) > want {
		return c.usageError("Too many arguments given")
	}
	if op != "set" && op != "get" && op != "unset" {
		return failf("Unknown operation %s", op)
	}
	if len(args) < want {
		return configMissing(op, group.set)
	}
	name, key, found := strings.Cut(args[0], ".")
	if group.set {
		name, key, found = group.value, args[0], true
	}
	if !found {
		return failf("Key must be of the form \"sectionname.keyname\"")
	}
	if op == "get" {
		return c.configGet(name, key)
	}
	return c.configChange(func(f *keyfile.File) (changed bool, err error) {
		if op == "unset" {
			return f.Remove(name, key), nil
		}
		return true, f.SetString(name, key, args[1])
	})
}

func configMissing(op string, group bool) error {
	switch {
	case op == "set" && group:
		return failf("GROUP name, KEY and VALUE must be specified")
	case op == "set":
		return failf("KEY and VALUE must be specified")
	case group:
		return failf("Group name and key must be specified")
	}
	return failf("KEY must be specified")
}

func (c *call) configGet(group, key string) error {
	cfg := c.repo.Config()
	if !cfg.HasGroup(group) {
		return failf("Key file does not have group “%s”", group)
	}
	if _, ok := cfg.Get(group, key); !ok {
		return failf("Key file does not have key “%s” in group “%s”", key, group)
	}
	v, err := cfg.GetString(group, key)
	if err != nil {
		return err
	}
	c.printf("%s\n", v)
	return nil
}

// configChange rewrites the config file. Unlike Repo.SetConfig it may change any
// key, the mode included, as scripts do before anything is stored.
func (c *call) configChange(change func(*keyfile.File) (changed bool, err error)) error {
	d := c.repo.Dir()
	data, err := d.ReadFile("config", maxConfig)
	if err != nil {
		return err
	}
	cfg, err := keyfile.Parse(data)
	if err != nil {
		return err
	}
	changed, err := change(cfg)
	if err != nil || !changed {
		return err
	}
	return d.WriteFileAtomic("config", cfg.Bytes(), 0o644)
}

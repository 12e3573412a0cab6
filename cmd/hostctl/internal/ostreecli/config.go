// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"strings"
)

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
	switch op {
	case "set":
		return c.repo.SetConfigValue(name, key, args[1])
	case "unset":
		return c.repo.UnsetConfigValue(name, key)
	}
	value, err := c.repo.ConfigValue(name, key)
	if err == nil {
		c.printf("%s\n", value)
	}
	return err
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

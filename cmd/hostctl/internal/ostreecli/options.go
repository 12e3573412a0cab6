// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// option is one command-line option, with the rules of GLib's GOption: options
// stand anywhere, "--name value" and "--name=value" are the same, short ones take
// the next argument, the last one wins.
type option struct {
	long  string
	short byte
	// dst is where the value goes: *bool, *string, *text, *int, *[]string (which may
	// be given several times) or func(value string) error.
	dst    any
	arg    string // placeholder in the help
	help   string
	hidden bool
	// optional: the value may be left out, and only --name=value gives one.
	optional bool
}

// text is a string option of which it matters whether it was given.
type text struct {
	value string
	set   bool
}

// errHelp and errVersion end parsing: the option asks for output only.
var errHelp, errVersion = errors.New("help"), errors.New("version")

func (o *option) takesValue() bool {
	_, isBool := o.dst.(*bool)
	return !isBool
}

// set stores a value; name is the option as the user wrote it.
func (o *option) set(name, value string) error {
	switch d := o.dst.(type) {
	case *bool:
		*d = true
	case *string:
		*d = value
	case *text:
		*d = text{value, true}
	case *[]string:
		*d = append(*d, value)
	case *int:
		n, err := strconv.ParseInt(value, 0, 64)
		if errors.Is(err, strconv.ErrRange) || err == nil && (n > math.MaxInt32 || n < math.MinInt32) {
			return failf("Integer value “%s” for %s out of range", value, name)
		}
		if err != nil {
			return failf("Cannot parse integer value “%s” for %s", value, name)
		}
		*d = int(n)
	case func(string) error:
		return d(value)
	}
	return nil
}

// parseOptions takes the options out of args and gives the rest. The first "--"
// ends the options.
func parseOptions(opts []option, args []string) (rest []string, err error) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			return append(rest, args[i+1:]...), nil
		case len(a) < 2 || a[0] != '-':
			rest = append(rest, a)
		case a[1] == '-':
			i, err = parseLong(opts, args, i)
		default:
			i, err = parseShort(opts, args, i)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// parseLong handles args[i] and gives the index of the last argument used.
func parseLong(opts []option, args []string, i int) (int, error) {
	name, value, inline := strings.Cut(args[i][2:], "=")
	if !inline && (name == "help" || name == "help-all") {
		return i, errHelp
	}
	for j := range opts {
		o := &opts[j]
		if o.long != name {
			continue
		}
		if !o.takesValue() || inline || o.optional {
			return i, o.set("--"+name, value)
		}
		if i+1 >= len(args) {
			return i, missingArgument("--" + name)
		}
		return i + 1, o.set("--"+name, args[i+1])
	}
	return i, unknownOption(args[i])
}

func missingArgument(name string) error {
	return failf("Missing argument for %s", name)
}

func unknownOption(arg string) error {
	return failf("Unknown option %s", arg)
}

// parseShort handles a group such as -Uv; at most one of its options may take the
// next argument.
func parseShort(opts []option, args []string, i int) (int, error) {
	last := i
	for k := 1; k < len(args[i]); k++ {
		c := args[i][k]
		if c == 'h' {
			return i, errHelp
		}
		o := findShort(opts, c)
		if o == nil {
			return i, unknownOption(args[i])
		}
		name := "-" + string(rune(c))
		if !o.takesValue() {
			if err := o.set(name, ""); err != nil {
				return i, err
			}
			continue
		}
		if last > i {
			return i, failf("Error parsing option %s", name)
		}
		if i+1 >= len(args) {
			return i, missingArgument(name)
		}
		last = i + 1
		if err := o.set(name, args[last]); err != nil {
			return i, err
		}
	}
	return last, nil
}

func findShort(opts []option, c byte) *option {
	for j := range opts {
		if opts[j].short == c {
			return &opts[j]
		}
	}
	return nil
}

// parseBool reads the value of options such as --fsync=POLICY.
func parseBool(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "1", "true", "yes":
		return true, nil
	case "0", "false", "no", "none":
		return false, nil
	}
	return false, failf("Invalid boolean argument '%s'", value)
}

// fsyncOption makes --fsync=POLICY, which sets disable to the opposite.
func fsyncOption(disable *bool) option {
	return option{long: "fsync", arg: "POLICY", help: "Specify how to invoke fsync()", dst: func(v string) error {
		on, err := parseBool(v)
		*disable = !on
		return err
	}}
}

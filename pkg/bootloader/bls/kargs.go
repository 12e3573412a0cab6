// SPDX-License-Identifier: Apache-2.0

package bls

import (
	"slices"
	"strings"
)

// Kargs is a kernel command line split into arguments, each as it stands in the
// line, quotes included: `root=LABEL=x`, `quiet`, `dyndbg="file a +p"`.
type Kargs []string

// ParseKargs splits a command line the way the kernel does: at white space
// outside of double quotes. There is no escape character.
func ParseKargs(line string) Kargs {
	var out Kargs
	start, quoted := -1, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		if c == '"' {
			quoted = !quoted
		}
		if isSpace(c) && !quoted {
			if start >= 0 {
				out = append(out, line[start:i])
			}
			start = -1
			continue
		}
		if start < 0 {
			start = i
		}
	}
	if start >= 0 {
		out = append(out, line[start:])
	}
	return out
}

// RunningKargs reads /proc/cmdline: the arguments without those that boot loaders
// and the boot menu of deployments add.
func RunningKargs(cmdline string) Kargs {
	return ParseKargs(cmdline).WithoutTrial().Without("BOOT_IMAGE", "initrd", "ostree")
}

// TrialMark is the first of the arguments that the entry on trial gets beside its
// own, at the end. It tells the running system that the boot loader counts this boot.
const TrialMark = "hostctl.trial"

// WithoutTrial returns the arguments before TrialMark: what follows it belongs to no
// deployment.
func (k Kargs) WithoutTrial() Kargs {
	if i := slices.Index(k, TrialMark); i >= 0 {
		return k[:i:i]
	}
	return k
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'
}

// String joins the arguments into one line.
func (k Kargs) String() string { return strings.Join(k, " ") }

// key returns what stands before the first '=' with quotes removed.
func key(arg string) string {
	name, _, _ := strings.Cut(arg, "=")
	return strings.Trim(name, `"`)
}

// Value returns the value of the last argument called name, without quotes. For
// an argument without '=' the value is empty and ok is true.
func (k Kargs) Value(name string) (value string, ok bool) {
	for i := len(k) - 1; i >= 0; i-- {
		if key(k[i]) == name {
			_, v, _ := strings.Cut(k[i], "=")
			return strings.Trim(v, `"`), true
		}
	}
	return "", false
}

// Without returns the arguments whose name is none of names.
func (k Kargs) Without(names ...string) Kargs {
	var out Kargs
next:
	for _, a := range k {
		for _, n := range names {
			if key(a) == n {
				continue next
			}
		}
		out = append(out, a)
	}
	return out
}

// Append returns k with args at the end.
func (k Kargs) Append(args ...string) Kargs {
	return append(append(Kargs(nil), k...), args...)
}

// Delete returns k without the first argument equal to arg, or where arg has no
// '=' and no exact match exists, without the only argument of that name.
// ok is false where nothing, or nothing unambiguous, matches.
func (k Kargs) Delete(arg string) (out Kargs, ok bool) {
	at := -1
	for i, a := range k {
		if a == arg {
			at = i
			break
		}
	}
	if at < 0 && !strings.Contains(arg, "=") {
		for i, a := range k {
			if key(a) != arg {
				continue
			}
			if at >= 0 {
				return nil, false
			}
			at = i
		}
	}
	if at < 0 {
		return nil, false
	}
	out = append(out, k[:at]...)
	return append(out, k[at+1:]...), true
}

// Replace returns k with arg (NAME=VALUE or NAME) in the place of the first
// argument of that name; further ones of the name go. A new name is appended.
func (k Kargs) Replace(arg string) Kargs {
	var out Kargs
	done := false
	for _, a := range k {
		if key(a) != key(arg) {
			out = append(out, a)
			continue
		}
		if !done {
			out = append(out, arg)
			done = true
		}
	}
	if !done {
		out = append(out, arg)
	}
	return out
}

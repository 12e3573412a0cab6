// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"path"
	"strings"
)

// Action is what a rule does with a script.
type Action uint8

// The actions.
const (
	Skip     Action = iota // do not run
	Tolerate               // run; a failure is a warning
	Run                    // run; shields from later rules
)

// Rule is an exception for scripts that do not fit a composed tree. The first
// rule that matches decides.
type Rule struct {
	Package string // name, with the wildcards of path.Match
	Kind    string // section such as "posttrans"; empty matches all
	Body    string // text that the script contains; empty matches all
	Action  Action
	Reason  string
}

func (r *Rule) matches(s *Step) bool {
	ok, err := path.Match(r.Package, s.Package)
	if err != nil || !ok {
		return false
	}
	return (r.Kind == "" || r.Kind == s.Kind) && (r.Body == "" || strings.Contains(s.Body, r.Body))
}

// DefaultRules are the exceptions for packages of the Fedora family that are
// known to need one. A composer puts its own in front.
func DefaultRules() []Rule {
	const (
		bootloader = "it edits /boot of the machine it runs on; a tree's kernel is installed when the tree is deployed"
		upgrade    = "it cleans up after an older version, which a new tree never held"
		running    = "it talks to services of a running system"
		cache      = "it fills a cache in /var, which a tree does not keep"
	)
	return []Rule{
		{Package: "*", Body: "-- rpm-ostree-skip", Reason: "the script itself says that composed trees do not need it"},
		{Package: "kernel*", Kind: "posttrans", Reason: bootloader},
		{Package: "kernel*", Kind: "post", Body: "kernel-install", Reason: bootloader},
		{Package: "grub2-*", Kind: "post", Body: "grubenv", Reason: bootloader},
		{Package: "grub2-*", Kind: "posttrans", Reason: bootloader},
		{Package: "grubby*", Reason: bootloader},
		{Package: "microcode_ctl", Kind: "post", Reason: bootloader},
		{Package: "microcode_ctl", Kind: "posttrans", Reason: bootloader},
		{Package: "glibc", Kind: "pre", Reason: upgrade},
		{Package: "coreutils", Kind: "pre", Reason: upgrade},
		{Package: "ca-certificates", Kind: "pre", Reason: upgrade},
		{Package: "setup", Kind: "post", Reason: upgrade},
		{Package: "libgcc", Kind: "post", Reason: "it runs ldconfig through a fork of the package manager; the C library's trigger does the same"},
		{Package: "systemd*", Kind: "transfiletriggerin", Body: "daemon-reload", Reason: running},
		{Package: "systemd*", Kind: "transfiletriggerin", Body: "systemd-tmpfiles", Reason: "what it would make belongs to /var and /run and is made at boot"},
		{Package: "systemd*", Kind: "transfiletriggerin", Body: "systemd-sysusers", Reason: "accounts are made before any script runs"},
		{Package: "systemd*", Kind: "transfiletriggerin", Body: "update-catalog", Reason: cache},
		{Package: "man-db", Kind: "transfiletriggerin", Reason: cache},
		{Package: "nfs-utils", Kind: "post", Reason: running},
		{Package: "gdb", Kind: "transfiletriggerin", Reason: cache},
	}
}

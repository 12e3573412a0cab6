// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrNoTarget reports kernel arguments without ostree=.
var ErrNoTarget = errors.New("no ostree= kernel argument")

// ErrInvalidTarget reports an ostree= argument, or a link on its way, that does
// not have the form of a boot link.
var ErrInvalidTarget = errors.New("invalid boot link")

// Deployment names one deployment of a sysroot.
type Deployment struct {
	OS       string // stateroot
	Checksum string // commit, 64 hexadecimal digits
	Serial   int
}

// Path gives the deployment's directory relative to the physical root.
func (d Deployment) Path() string {
	return fmt.Sprintf("ostree/deploy/%s/deploy/%s.%d", d.OS, d.Checksum, d.Serial)
}

// VarPath gives the stateroot's /var relative to the physical root.
func (d Deployment) VarPath() string { return "ostree/deploy/" + d.OS + "/var" }

// TargetFromCmdline returns the value of the first ostree= in the text of
// /proc/cmdline. Arguments after a lone "--" belong to init.
func TargetFromCmdline(cmdline string) (string, error) {
	if v := cmdlineValue(cmdline, "ostree"); v != "" {
		return v, nil
	}
	return "", ErrNoTarget
}

// cmdlineValue returns the first value of a key that is not empty.
func cmdlineValue(cmdline, key string) string {
	for _, arg := range splitCmdline(cmdline) {
		if arg == "--" {
			break
		}
		if v, ok := strings.CutPrefix(arg, key+"="); ok && v != "" {
			return v
		}
	}
	return ""
}

// splitCmdline splits at white space outside of double quotes, as the kernel does.
func splitCmdline(s string) []string {
	quoted := false
	fields := strings.FieldsFunc(s, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\n' || r == '\t')
	})
	for i, f := range fields {
		fields[i] = strings.ReplaceAll(f, `"`, "")
	}
	return fields
}

// ResolveTarget follows an ostree= value, /ostree/boot.V/OS/BOOTCSUM/BOOTSERIAL,
// to its deployment. readlink reads a symbolic link whose path is relative to
// the physical root. Exactly the two links of the format are followed, and each
// must have the format's shape, so a damaged or planted link can't lead the
// boot anywhere else.
func ResolveTarget(target string, readlink func(string) (string, error)) (Deployment, error) {
	parts := strings.Split(target, "/")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "ostree" || !isBootVersion(parts[2]) ||
		!validOS(parts[3]) || !isHex64(parts[4]) || !isNumber(parts[5]) {
		return Deployment{}, fmt.Errorf("ostree=%s: %w", target, ErrInvalidTarget)
	}
	bootDir := "ostree/" + parts[2]
	sub, err := readlink(bootDir)
	if err != nil {
		return Deployment{}, fmt.Errorf("read boot link %s: %w", bootDir, err)
	}
	if v, ok := strings.CutPrefix(sub, parts[2]+"."); !ok || (v != "0" && v != "1") {
		return Deployment{}, fmt.Errorf("%s -> %s: %w", bootDir, sub, ErrInvalidTarget)
	}
	link := strings.Join([]string{"ostree", sub, parts[3], parts[4], parts[5]}, "/")
	dest, err := readlink(link)
	if err != nil {
		return Deployment{}, fmt.Errorf("read boot link %s: %w", link, err)
	}
	d, err := parseDeploymentLink(dest)
	if err != nil {
		return Deployment{}, fmt.Errorf("%s -> %s: %w", link, dest, err)
	}
	return d, nil
}

// parseDeploymentLink parses ../../../deploy/OS/deploy/CSUM.SERIAL.
func parseDeploymentLink(dest string) (Deployment, error) {
	rest, ok := strings.CutPrefix(dest, "../../../deploy/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || !validOS(parts[0]) || parts[1] != "deploy" {
		return Deployment{}, ErrInvalidTarget
	}
	csum, serial, ok := strings.Cut(parts[2], ".")
	if !ok || !isHex64(csum) || !isNumber(serial) {
		return Deployment{}, ErrInvalidTarget
	}
	n, err := strconv.Atoi(serial)
	if err != nil {
		return Deployment{}, ErrInvalidTarget
	}
	return Deployment{OS: parts[0], Checksum: csum, Serial: n}, nil
}

func isBootVersion(s string) bool { return s == "boot.0" || s == "boot.1" }

func validOS(s string) bool { return s != "" && s != "." && s != ".." && !strings.ContainsRune(s, 0) }

func isHex64(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func isNumber(s string) bool {
	return s != "" && len(s) <= 9 && strings.Trim(s, "0123456789") == ""
}

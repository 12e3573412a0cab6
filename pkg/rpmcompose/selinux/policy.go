// SPDX-License-Identifier: Apache-2.0

package selinux

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Conditions of policies.
var (
	// ErrNoPolicy: the system has no SELinux policy or does not use it.
	ErrNoPolicy = errors.New("no SELinux policy is in use")
	// ErrPolicy: a policy that is in use is not complete.
	ErrPolicy = errors.New("incomplete SELinux policy")
)

// maxFile bounds each file of a policy in bytes; file_contexts has half a megabyte.
const maxFile = 16 << 20

// Tree is the root directory of a system; *fsx.Dir is one. Names have no slash in
// front. What is absent is an fs.ErrNotExist.
type Tree interface {
	// ReadFileInRoot reads a regular file of at most max bytes, through symbolic links,
	// which do not lead out of the tree.
	ReadFileInRoot(name string, max int64) ([]byte, error)
	Exists(name string) (bool, error)
}

// Policy is the policy that a system uses.
type Policy struct {
	Name     string // SELINUXTYPE, such as "targeted"
	Dir      string // "etc/selinux/NAME" or "usr/etc/selinux/NAME"
	Contexts *Contexts
}

// Open finds a system's policy as libostree does: in etc/selinux, else in
// usr/etc/selinux, the file config names it and says with SELINUX=enforcing or
// permissive that it is used, else the error is ErrNoPolicy.
func Open(t Tree) (*Policy, error) {
	top := "etc/selinux"
	if found, err := t.Exists(top); err != nil {
		return nil, err
	} else if !found {
		top = "usr/etc/selinux"
	}
	config, err := t.ReadFileInRoot(top+"/config", maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s/config does not exist", ErrNoPolicy, top)
	}
	if err != nil {
		return nil, err
	}
	name, used := parseConfig(string(config))
	if !used {
		return nil, fmt.Errorf("%w: %s/config says neither SELINUX=enforcing nor SELINUX=permissive", ErrNoPolicy, top)
	}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return nil, fmt.Errorf("%w: %s/config: SELINUXTYPE=%s is no name of a policy", ErrPolicy, top, name)
	}
	p := &Policy{Name: name, Dir: path.Join(top, name)}
	if err := p.load(t); err != nil {
		return nil, fmt.Errorf("read SELinux policy %s: %w", p.Dir, err)
	}
	return p, nil
}

// parseConfig reads /etc/selinux/config, of which the last setting of a key counts
// but for SELINUX=, which is on if any line switches it on.
func parseConfig(text string) (name string, used bool) {
	for _, line := range lines(text) {
		if v, ok := strings.CutPrefix(line, "SELINUXTYPE="); ok {
			name = strings.TrimFunc(v, isSpace)
		} else if v, ok := strings.CutPrefix(line, "SELINUX="); ok {
			v = strings.ToLower(v)
			used = used || strings.HasPrefix(v, "enforcing") || strings.HasPrefix(v, "permissive")
		}
	}
	return name, used
}

func (p *Policy) load(t Tree) error {
	base := p.Dir + "/contexts/files/file_contexts"
	f := Files{Name: base}
	for _, part := range []struct {
		suffix string
		text   *[]byte
	}{{"", &f.Base}, {".homedirs", &f.Homedirs}, {".local", &f.Local}, {".subs", &f.Subs}, {".subs_dist", &f.SubsDist}} {
		data, err := t.ReadFileInRoot(base+part.suffix, maxFile)
		if errors.Is(err, fs.ErrNotExist) && part.suffix != "" {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrPolicy, err)
		}
		*part.text = data
	}
	var err error
	if p.Contexts, err = Parse(f); err != nil {
		return err
	}
	if _, ok := p.Contexts.Lookup("/", 0); !ok {
		return fmt.Errorf("%w: %s has no label for /", ErrPolicy, base)
	}
	return p.hasBinary(t)
}

// hasBinary looks for policy/policy.VERSION, without which no kernel has a policy.
func (p *Policy) hasBinary(t Tree) error {
	for version := 99; version > 0; version-- {
		if found, err := t.Exists(fmt.Sprintf("%s/policy/policy.%d", p.Dir, version)); err != nil || found {
			return err
		}
	}
	return fmt.Errorf("%w: no binary policy file in %s/policy", ErrPolicy, p.Dir)
}

// Label gives the label for a path of the system and the mode of the file; "" where
// the policy has none. /proc gets that of /mnt, as in libostree: a policy gives it
// none, because on a running system something is mounted there.
func (p *Policy) Label(path string, mode uint32) string {
	if path == "/proc" {
		path = "/mnt"
	}
	label, _ := p.Contexts.Lookup(path, mode)
	return label
}

// EtcPath gives the path under which a file of a tree is on a booted system:
// /usr/etc is /etc there.
func EtcPath(path string) string {
	if rest, ok := strings.CutPrefix(path, "/usr/etc"); ok && (rest == "" || rest[0] == '/') {
		return "/etc" + rest
	}
	return path
}

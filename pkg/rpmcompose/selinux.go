// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/selinux"
)

const (
	policyTop     = "usr/etc/selinux"
	semanageConf  = policyTop + "/semanage.conf"
	storeTmpfiles = "usr/lib/tmpfiles.d/hostctl-0-selinux.conf"
	maxPolicyText = 16 << 20
)

// preparePolicyStore lets the scriptlets' semodule work on the policy's modules in
// /etc/selinux: packages bring them in /var/lib/selinux, which is no part of a tree.
func (r *run) preparePolicyStore(work *fsx.Dir) error {
	if !r.plan.manifest.SELinux {
		return nil
	}
	root, err := work.OpenDir(rootName)
	if err != nil {
		return err
	}
	defer root.Close()
	return storeInEtc(root)
}

func storeInEtc(root *fsx.Dir) error {
	const setting = "store-root=/etc/selinux"
	text, err := root.ReadFile(semanageConf, maxPolicyText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Split(string(text), "\n"), setting) {
		if err := root.WriteFileAtomic(semanageConf, fmt.Appendf(text, "\n%s\n", setting), 0o644); err != nil {
			return err
		}
	}
	if err := root.MkdirAll(path.Dir(storeTmpfiles), 0o755); err != nil {
		return err
	}
	return root.WriteFileAtomic(storeTmpfiles, []byte("L /var/lib/selinux - - - - ../../etc/selinux\n"), 0o644)
}

// labels reads the finished tree's policy, adapts it to the layout of a tree and
// gives the labels to commit. A file without a label is an error, as it would be
// out of reach in a system that enforces the policy.
func (r *run) labels(root *fsx.Dir) (func(path string, mode uint32) (string, error), error) {
	if !r.plan.manifest.SELinux {
		return nil, nil
	}
	start := time.Now()
	policy, err := adaptedPolicy(root)
	if errors.Is(err, selinux.ErrNoPolicy) {
		return nil, fmt.Errorf("%w: key `selinux` is on, but %w: add a package with a policy, such as selinux-policy-targeted, or write selinux = false", ErrTreefile, err)
	}
	if err != nil {
		return nil, err
	}
	r.res.step("selinux policy", start, "%s, %d patterns", policy.Name, policy.Contexts.Len())
	etc := r.plan.manifest.SELinuxLabelVersion == 1
	return func(path string, mode uint32) (string, error) {
		if etc {
			path = selinux.EtcPath(path)
		}
		label := policy.Label(path, mode)
		if label == "" {
			return "", fmt.Errorf("%w: the SELinux policy %q has no label for it", ErrTreefile, policy.Name)
		}
		return label, nil
	}, nil
}

// adaptedPolicy changes what the policy's authors do not know of trees.
func adaptedPolicy(root *fsx.Dir) (*selinux.Policy, error) {
	p, err := selinux.Open(root)
	if err != nil {
		return nil, err
	}
	for _, lock := range []string{"semanage.trans.LOCK", "semanage.read.LOCK"} {
		if err := root.Remove(path.Join(p.Dir, lock)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	base := path.Join(p.Dir, "contexts/files/file_contexts")
	if err := rewrite(root, base+".subs_dist", treeSubs); err != nil {
		return nil, err
	}
	if err := rewrite(root, base+".homedirs", homesInVar); err != nil {
		return nil, err
	}
	return selinux.Open(root)
}

// rewrite changes a text of the policy, empty where it is absent. What libselinux
// compiled from it is removed, because it would be preferred.
func rewrite(root *fsx.Dir, name string, edit func(string) string) error {
	old, err := root.ReadFile(name, maxPolicyText)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := edit(string(old))
	if text == string(old) {
		return nil
	}
	if err := root.WriteFileAtomic(name, []byte(text), 0o644); err != nil {
		return err
	}
	if err := root.Remove(name + ".bin"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// treeSubs adds the substitutions for the places that a tree has: /home leads to
// /var/home, /usr/etc becomes /etc and /opt is /usr/lib/opt. Those of the policy for
// places below /etc hold below /usr/etc, too.
func treeSubs(text string) string {
	wanted := []string{"/home /var/home", "/usr/etc /etc", "/usr/lib/opt /opt"}
	var b strings.Builder
	var have []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		words := strings.Fields(line)
		switch {
		case len(words) < 2:
		case words[0] == "/var/home":
			line = "# " + line // the other way round than here
		default:
			have = append(have, words[0])
			if strings.HasPrefix(words[0], "/etc/") {
				wanted = append(wanted, "/usr"+words[0]+" "+words[1])
			}
		}
		b.WriteString(line + "\n")
	}
	for _, w := range wanted {
		if from, _, _ := strings.Cut(w, " "); !slices.Contains(have, from) {
			b.WriteString(w + "\n")
		}
	}
	return b.String()
}

// homesInVar moves the patterns for homes to /var/home, as semodule does for new
// homes in /var/home: with the substitution above nothing would match the others.
func homesInVar(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "/home"); ok && rest != "" && strings.IndexByte("/ \t(", rest[0]) >= 0 {
			line = "/var" + line
		}
		b.WriteString(line)
	}
	return b.String()
}

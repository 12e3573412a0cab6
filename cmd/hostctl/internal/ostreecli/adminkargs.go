// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/deploy"
)

// adminDispatch is a verb below admin that only has others below it.
func adminDispatch(name, summary string, hidden bool, width int, subs ...*verb) *verb {
	a := &admin{}
	return &verb{
		name: name, title: "admin " + name, summary: summary, hidden: hidden, use: repoUnused, width: width,
		opts: a.options(), run: a.printCurrentDir, subs: subs,
	}
}

func adminKargs() *verb {
	var add []string
	return adminDispatch("kargs", "Change kernel arguments", false, 0, adminSub(verb{
		name: "edit-in-place", args: "ARGS", hidden: true,
		summary: "Set new kernel command line arguments in place (applies to all deployments by default)",
		opts:    []option{{long: "append-if-missing", arg: "NAME=VALUE", dst: &add, help: "Append kernel arguments if they do not exist"}},
	}, adminLocked, func(ctx context.Context, a *admin) error {
		if _, err := a.first(); err != nil {
			return err
		}
		order := slices.Clone(a.st.Deployments)
		changed := false
		for i, d := range order {
			k := d.Kargs
			for _, arg := range add {
				name, _, _ := strings.Cut(arg, "=")
				if _, ok := k.Value(name); !ok {
					k = k.Append(arg)
				}
			}
			if len(k) == len(d.Kargs) {
				continue
			}
			if d.Staged {
				if err := a.l.SetStagedKargs(ctx, k); err != nil {
					return err
				}
				continue
			}
			order, changed = deploy.WithKargs(order, i, k), true
		}
		if !changed {
			return nil
		}
		// The switch of the whole menu instead of writing into the one in use: a crash
		// leaves the old arguments or the new ones.
		if _, err := a.l.Write(ctx, order); err != nil {
			return err
		}
		return a.cleanup(ctx)
	}))
}

func adminInstutil() *verb {
	return adminDispatch("instutil", "Deprecated commands intended for installer programs", true, 24,
		instutilLabel(), instutilSetKargs(), instutilGrub2())
}

type setKargs struct {
	proc, merge     bool
	replace, append []string
}

func instutilSetKargs() *verb {
	o := &setKargs{}
	return adminSub(verb{
		name: "set-kargs", args: "ARGS", summary: "Set new kernel command line arguments(Not stable)",
		opts: []option{
			{long: "import-proc-cmdline", dst: &o.proc, help: "Import current /proc/cmdline"},
			{long: "merge", dst: &o.merge, help: "Merge with previous command line"},
			{long: "replace", arg: "NAME=VALUE", dst: &o.replace, help: "Set kernel argument, like root=/dev/sda1; this overrides any earlier argument with the same name"},
			{long: "append", arg: "NAME=VALUE", dst: &o.append, help: "Append kernel argument; useful with e.g. console= that can be used multiple times"},
		},
	}, adminLocked, o.run)
}

func (o *setKargs) run(ctx context.Context, a *admin) error {
	d, err := a.first()
	if err != nil {
		return err
	}
	var k bls.Kargs
	switch {
	case o.proc:
		if k, err = procCmdline(); err != nil {
			return err
		}
	case o.merge:
		k = d.Kargs
	}
	for _, arg := range o.replace {
		k = k.Replace(arg)
	}
	k = ownArgs(k.Append(o.append...).Append(a.args...))
	if d.Staged {
		return a.l.SetStagedKargs(ctx, k)
	}
	if err := a.write(ctx, deploy.WithKargs(a.st.Deployments, 0, k)); err != nil {
		return err
	}
	return a.cleanup(ctx)
}

// instutilLabel labels the files of a deployment by its own policy.
func instutilLabel() *verb {
	return adminSub(verb{name: "selinux-ensure-labeled", args: "[SUBPATH PREFIX]", summary: "Relabel all or part of a deployment"}, adminRead,
		func(ctx context.Context, a *admin) error {
			d, err := a.first()
			if err != nil {
				return err
			}
			policy, err := selinuxPolicy(a.dirOf(d))
			if err != nil {
				return err
			}
			if policy == "" {
				a.printf("No SELinux policy found in deployment '%s'\n", a.dirOf(d))
				return nil
			}
			a.printf("Relabeling using policy '%s'\n", policy)
			a.flush()
			contexts := filepath.Join(a.dirOf(d), "usr/etc/selinux", policy, "contexts/files/file_contexts")
			subpath, root := a.dirOf(d), a.dirOf(d)
			if len(a.args) > 1 {
				// The label of SUBPATH/x is that of PREFIX/x.
				subpath = a.args[0]
				root = strings.TrimSuffix(filepath.Clean(subpath), filepath.Clean("/"+a.args[1]))
			}
			return runProgram(ctx, "setfiles", "-F", "-r", root, contexts, subpath)
		})
}

// selinuxPolicy gives the name of the policy that a tree is configured for, "" for
// none.
func selinuxPolicy(root string) (string, error) {
	d, err := fsx.OpenDir(root)
	if err != nil {
		return "", err
	}
	defer d.Close()
	for _, name := range []string{"etc/selinux/config", "usr/etc/selinux/config"} {
		data, err := d.ReadFileInRoot(name, 64<<10)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		for line := range strings.SplitSeq(string(data), "\n") {
			if v, ok := strings.CutPrefix(line, "SELINUXTYPE="); ok {
				return strings.TrimSpace(v), nil
			}
		}
	}
	return "", nil
}

// instutilGrub2 prints the entries as GRUB's script for grub2-mkconfig, whose hook
// sets the variables.
func instutilGrub2() *verb {
	return adminSub(verb{name: "grub2-generate", args: "[BOOTVERSION]", summary: "Generate GRUB2 configuration from given BLS entries"}, adminRead,
		func(_ context.Context, a *admin) error {
			version := a.st.BootVersion
			given := os.Getenv("_OSTREE_GRUB2_BOOTVERSION")
			if len(a.args) > 0 {
				given = a.args[0]
			}
			if given != "" {
				n, err := strconv.Atoi(given)
				if err != nil || n != 0 && n != 1 {
					return failf("Invalid bootversion: %s", given)
				}
				version = n
			}
			boot, err := a.s.Dir().OpenDir("boot")
			if err != nil {
				return err
			}
			defer boot.Close()
			entries, _, bad, err := bootloader.ReadMenu(boot, bootloader.LinkSwitch{}, version)
			if err != nil {
				return err
			}
			for name, err := range bad {
				return fmt.Errorf("read %s: %w", name, err)
			}
			data, err := bootloader.Grub2Script(entries, bootloader.Grub2Environment{
				DeviceID: os.Getenv("GRUB2_BOOT_DEVICE_ID"), PrepareRoot: os.Getenv("GRUB2_PREPARE_ROOT_CACHE"),
				EFI: os.Getenv("_OSTREE_GRUB2_IS_EFI") != "",
			})
			if err != nil {
				return err
			}
			_, err = a.Out.Write(data)
			return err
		})
}

// runProgram runs a program of the system on this one's streams.
func runProgram(ctx context.Context, name string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w: %s", name, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

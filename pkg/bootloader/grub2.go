// SPDX-License-Identifier: Apache-2.0

package bootloader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// grub2 serves GRUB 2. Not every build of GRUB has the blscfg command, so the
// menu is also written as a script of our own, loader.V/grub.cfg. The file that
// GRUB itself opens stays as it is: a stub that loads /loader/grub.cfg through
// the link (or runs blscfg, or is itself a link to ../loader/grub.cfg), which is
// why the flip of that one link switches everything.
type grub2 struct {
	generator string
	// fat: entries of both generations lie in one folder, so that blscfg would show
	// both, and /loader/grub.cfg is the switch, see FileSwitch.
	fat bool
}

const maxStub = 1 << 20

// stubs are where distributions install the file that GRUB opens.
func stubs() []string { return []string{"grub2/grub.cfg", "grub/grub.cfg"} }

func (grub2) Probe(_ context.Context, boot *fsx.Dir) (bool, error) {
	for _, name := range stubs() {
		if ok, err := boot.Exists(name); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (g grub2) Prepare(ctx context.Context, boot *fsx.Dir, m Menu) error {
	if err := g.checkStubs(boot); err != nil {
		return err
	}
	if g.generator != "" {
		return g.generate(ctx, boot, m.Version)
	}
	m, err := countable(boot, m)
	if err != nil {
		return err
	}
	data, err := grubConfig(m)
	if err != nil {
		return err
	}
	if err := prepareTrial(boot, m); err != nil {
		return err
	}
	return boot.WriteFile(path.Join(LoaderDir(m.Version), "grub.cfg"), data, 0o644)
}

// generate has a program write the menu, as libostree has grub2-mkconfig do it.
func (g grub2) generate(ctx context.Context, boot *fsx.Dir, version int) error {
	name := path.Join(LoaderDir(version), "grub.cfg")
	// Such programs append to what is there.
	if err := boot.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// By descriptor: boot may be a mount that no path leads to.
	cmd := exec.CommandContext(ctx, g.generator, "-o", fmt.Sprintf("/proc/%d/fd/%d/%s", os.Getpid(), boot.Fd(), name))
	cmd.Env = append(os.Environ(), fmt.Sprintf("_OSTREE_GRUB2_BOOTVERSION=%d", version))
	out, err := cmd.CombinedOutput()
	runtime.KeepAlive(boot)
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", g.generator, err, bytes.TrimSpace(out))
	}
	if ok, err := boot.Exists(name); err != nil || !ok {
		return errors.Join(fmt.Errorf("run %s: it wrote no %s", g.generator, name), err)
	}
	return nil
}

func (grub2) Finish(context.Context, *fsx.Dir, Menu) error { return nil }

// checkStubs requires that one of the installed GRUB configurations leads to
// /boot/loader. Where none is installed (an image under construction) there is
// nothing to contradict.
func (g grub2) checkStubs(boot *fsx.Dir) error {
	var foreign error
	for _, name := range stubs() {
		ok, err := g.stubLeadsHere(boot, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read GRUB configuration: %w", err)
		}
		if ok {
			return nil
		}
		foreign = fmt.Errorf("%s: %w", path.Join("/boot", name), ErrForeignConfig)
	}
	return foreign
}

func (g grub2) stubLeadsHere(boot *fsx.Dir, name string) (bool, error) {
	st, err := boot.Lstat(name)
	if err != nil {
		return false, err
	}
	if st.IsSymlink() {
		target, err := boot.Readlink(name)
		return strings.HasSuffix(target, "/loader/grub.cfg"), err
	}
	data, err := boot.ReadFile(name, maxStub)
	return bytes.Contains(data, []byte("/loader/grub.cfg")) || !g.fat && bytes.Contains(data, []byte("blscfg")), err
}

const grubHead = `# Generated for this boot menu generation; changes here are lost.
# The stub that loads this file may set default and timeout, and sets root.
if [ -z "${timeout}" ]; then
	set timeout=5
fi
# Kernels are in /ostree on a boot partition, in /boot/ostree otherwise.
if [ -d /boot/ostree ]; then
	set bootdir=/boot
else
	set bootdir=
fi
`

// grubConfig writes the menu as a GRUB script. Kernel arguments are re-quoted
// for GRUB's own quoting; GRUB hands \ ' and " inside an argument to the kernel
// with a backslash before it, which no quoting here can avoid.
func grubConfig(m Menu) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(grubHead)
	if m.Tries > 0 {
		b.WriteString(grubTrialHead(m))
	}
	for i, e := range m.Entries {
		if e.Linux == "" {
			continue // an EFI entry or the like: nothing that GRUB's linux could start
		}
		// Format checks every value for line ends and control characters.
		if _, err := e.Format(); err != nil {
			return nil, fmt.Errorf("write GRUB entry for %s: %w", e.Name, err)
		}
		tries := 0
		if i == 0 {
			tries = m.Tries
		}
		writeGrubEntry(&b, e, tries)
	}
	return b.Bytes(), nil
}

// id is how other parts of the script name the entry.
func (e Entry) id() string { return strings.TrimSuffix(e.Name, ".conf") }

func writeGrubEntry(b *bytes.Buffer, e Entry, tries int) {
	title := e.Title
	if title == "" {
		title = e.Name
	}
	fmt.Fprintf(b, "\nmenuentry %s --class ostree --id %s {\n", grubQuote(title), grubQuote(e.id()))
	if tries > 0 {
		b.WriteString(grubTrialCount(tries))
	}
	fmt.Fprintf(b, "\tlinux %s", grubPath(e.Linux))
	for _, a := range bls.ParseKargs(e.Options) {
		b.WriteByte(' ')
		b.WriteString(grubQuote(strings.ReplaceAll(a, `"`, "")))
	}
	if tries > 0 {
		b.WriteString(" ${trial_args}") // unquoted, so that it is several words
	}
	b.WriteByte('\n')
	if len(e.Initrd) > 0 {
		b.WriteString("\tinitrd")
		for _, i := range e.Initrd {
			b.WriteByte(' ')
			b.WriteString(grubPath(i))
		}
		b.WriteByte('\n')
	}
	if e.DeviceTree != "" {
		fmt.Fprintf(b, "\tdevicetree %s\n", grubPath(e.DeviceTree))
	}
	b.WriteString("}\n")
}

// grubPath names a file relative to where the stub's root is: entries carry
// /ostree/… or, with bootprefix, /boot/ostree/….
func grubPath(p string) string {
	if rest, ok := strings.CutPrefix(p, "/boot/"); ok {
		p = "/" + rest
	}
	return "${bootdir}" + grubQuote(p)
}

func grubQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Grub2Environment is what GRUB's own configuration program hands to those that
// write a part for it.
type Grub2Environment struct {
	DeviceID    string // of the boot partition
	PrepareRoot string // commands that make it GRUB's root
	EFI         bool
}

// Grub2Script writes entries in the form that grub2-mkconfig puts together with
// those of others, as libostree's hook 15_ostree prints it.
func Grub2Script(entries []Entry, env Grub2Environment) ([]byte, error) {
	suffix := "16"
	if env.EFI {
		suffix = "efi"
	}
	var b bytes.Buffer
	for i, e := range entries {
		if _, err := e.Format(); err != nil || e.Linux == "" {
			return nil, errors.Join(fmt.Errorf("write GRUB entry for %s: no kernel, or a bad value", e.Name), err)
		}
		fmt.Fprintf(&b, "menuentry %s --class gnu-linux --class gnu --class os --unrestricted %s {\nload_video\nset gfxpayload=keep\ninsmod gzio\n%s\n",
			grubQuote(e.title()), grubQuote(fmt.Sprintf("ostree-%d-%s", i, env.DeviceID)), env.PrepareRoot)
		fmt.Fprintf(&b, "linux%s %s %s\n", suffix, e.Linux, e.Options)
		if len(e.Initrd) > 0 {
			fmt.Fprintf(&b, "initrd%s %s\n", suffix, strings.Join(e.Initrd, " "))
		}
		if e.DeviceTree != "" {
			fmt.Fprintf(&b, "devicetree %s\n", e.DeviceTree)
		}
		b.WriteString("}\n")
	}
	return b.Bytes(), nil
}

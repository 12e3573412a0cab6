// SPDX-License-Identifier: Apache-2.0

package diskimage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
)

// extFeatures switches off what GRUB 2.06 can't read in /boot; the root has the
// same set, so that an older GRUB finds it too.
const extFeatures = "sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr,has_journal,extent,huge_file," +
	"flex_bg,metadata_csum,64bit,dir_nlink,extra_isize,^metadata_csum_seed,^orphan_file"

// extImmutable are the inode flags of an immutable directory: FS_EXTENT_FL and
// FS_IMMUTABLE_FL of linux/fs.h.
const extImmutable = "0x80010"

// maxToolOutput bounds in bytes what is kept of a program's messages.
const maxToolOutput = 4096

func isImmutable(d *fsx.Dir) (bool, error) {
	on, err := sys.Immutable(d.Fd())
	if sys.IsNotSupported(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read flags of %s: %w", d.Path(), err)
	}
	return on, nil
}

// filesystem is one ext4 filesystem inside the image.
type filesystem struct {
	label      string
	uuid, hash GUID
	part       Partition
	content    tree
	source     *fsx.Dir
}

func (b *builder) writeBoot(ctx context.Context) error {
	boot, err := b.Sysroot.OpenDir("boot")
	if err != nil {
		return err
	}
	defer boot.Close()
	fs := filesystem{
		label: b.BootLabel, uuid: b.ids.boot, hash: b.ids.bootHash,
		part: b.layout.find(partBoot), content: b.content.boot, source: boot,
	}
	if err := b.mkfs(ctx, fs); err != nil {
		return err
	}
	return b.fsck(ctx, fs.part)
}

func (b *builder) writeRoot(ctx context.Context) error {
	fs := filesystem{
		label: b.RootLabel, uuid: b.ids.root, hash: b.ids.rootHash,
		part: b.layout.find(partRoot), content: b.content.root, source: b.Sysroot,
	}
	if err := b.mkfs(ctx, fs); err != nil {
		return err
	}
	commands, err := rootFixes(b.content)
	if err != nil {
		return err
	}
	if err := b.debugfs(ctx, fs.part, commands); err != nil {
		return err
	}
	return b.fsck(ctx, fs.part)
}

// mkfs copies fs.source into a new filesystem. The image is all zeros before,
// which spares the kernel from clearing inode tables on the first mount.
func (b *builder) mkfs(ctx context.Context, fs filesystem) error {
	args := []string{
		"-q", "-F", "-t", "ext4", "-O", extFeatures,
		"-b", strconv.Itoa(blockSize), "-I", strconv.Itoa(inodeSize),
		"-N", strconv.FormatInt(inodesFor(fs.content, fs.part.Size), 10),
		"-J", "size=" + strconv.FormatInt(journalSize(fs.part.Size)/mib, 10),
		"-m", "1", "-L", fs.label, "-U", fs.uuid.String(),
		"-E", fmt.Sprintf("offset=%d,hash_seed=%s,assume_storage_prezeroed=1,nodiscard,root_owner=0:0",
			fs.part.Start, fs.hash),
		"-d", dirPath(fs.source) + "/.",
		b.filePath(), strconv.FormatInt(fs.part.Size/1024, 10) + "k",
	}
	return b.tool(ctx, "mkfs.ext4", args...)
}

// rootFixes gives the debugfs commands that make the root what the sysroot is:
// /boot is a filesystem of its own, and mkfs does not copy the immutable flag.
func rootFixes(c content) ([]string, error) {
	var cmds []string
	for i := len(c.bootPaths) - 1; i >= 0; i-- {
		e := c.bootPaths[i]
		verb := "rm"
		if e.IsDir() {
			verb = "rmdir"
		}
		q, err := quote("/" + e.Name)
		if err != nil {
			return nil, err
		}
		cmds = append(cmds, verb+" "+q)
	}
	for _, dir := range c.immutable {
		q, err := quote(dir)
		if err != nil {
			return nil, err
		}
		cmds = append(cmds, "set_inode_field "+q+" flags "+extImmutable)
	}
	return cmds, nil
}

// quote writes a name as one argument of a debugfs command, whose quoting knows
// no escape for a line break.
func quote(name string) (string, error) {
	if strings.ContainsAny(name, "\"\n\r\x00") {
		return "", fmt.Errorf("name %q can't be passed to debugfs", name)
	}
	return `"` + name + `"`, nil
}

// debugfs runs commands on a filesystem inside the image. The program reports
// errors only as text and ends with 0.
func (b *builder) debugfs(ctx context.Context, p Partition, commands []string) error {
	if len(commands) == 0 {
		return nil
	}
	var out bytes.Buffer
	cmd := b.command(ctx, "debugfs", "-w", "-f", "-", b.fsPath(p))
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("debugfs: %w: %s", err, tail(out.Bytes()))
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "debugfs ") && strings.Contains(line, "(") {
			continue // the version banner
		}
		return fmt.Errorf("debugfs: %s", strings.TrimSpace(line))
	}
	return nil
}

// fsck checks what mkfs and debugfs made, without changing it.
func (b *builder) fsck(ctx context.Context, p Partition) error {
	return b.tool(ctx, "e2fsck", "-f", "-n", b.fsPath(p))
}

func (b *builder) fsPath(p Partition) string {
	return b.filePath() + "?offset=" + strconv.FormatInt(p.Start, 10)
}

func (b *builder) tool(ctx context.Context, name string, args ...string) error {
	cmd := b.command(ctx, name, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, tail(out))
	}
	return nil
}

func (b *builder) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program(name), args...)
	// The machine's mke2fs.conf must not change what an image is.
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MKE2FS_CONFIG=/dev/null")
	return cmd
}

// program finds e2fsprogs where users' PATH does not reach, and GRUB's programs
// by the name that Fedora gives them.
func program(name string) string {
	other := strings.Replace(name, "grub-", "grub2-", 1)
	for _, n := range []string{name, "/usr/sbin/" + name, other, "/usr/sbin/" + other} {
		if p, err := exec.LookPath(n); err == nil {
			return p
		}
	}
	return name
}

func tail(out []byte) string {
	if len(out) > maxToolOutput {
		out = out[len(out)-maxToolOutput:]
	}
	return strings.TrimSpace(string(out))
}

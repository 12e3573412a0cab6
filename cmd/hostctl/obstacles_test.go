// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/testutil"
)

// asProgram makes the test binary behave as the program, so that tests can run it as
// a process with mounts and files of its own.
const asProgram = "HOSTCTL_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	_ = os.Setenv("OSTREE_SYSROOT_DEBUG", "mutable-deployments")
	os.Exit(testutil.InMemory(m))
}

// process runs a shell script in mounts of its own, in which $hostctl is the program,
// $root the sysroot and $tree the first deployment. It gives status and last line.
func process(t *testing.T, root, script string) (int, string) {
	t.Helper()
	self, err := os.Executable()
	testutil.Must(t, err)
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", script)
	cmd.Env = append(os.Environ(), asProgram+"=1", "hostctl="+self, "root="+root, "tree="+filepath.Dir(filepath.Dir(etcFile(t, root, "x"))))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return cmd.ProcessState.ExitCode(), lines[len(lines)-1]
}

// bootState is all that decides what boots and what it finds, as both programs say it.
func bootState(t *testing.T, root string) string {
	t.Helper()
	return call(t, root, 0, "status", "--json") + testutil.Run(t, "ostree", "admin", "status", "--sysroot="+root) +
		testutil.Run(t, "sh", "-c", "cd "+root+"; ls ostree ostree/deploy/os/deploy; find boot -printf '%p %l %s %T@\\n' | sort; cat boot/loader/entries/*; cat ostree/deploy/os/deploy/*.origin")
}

// running makes the script's root the first deployment, as after a boot of it.
const running = `
	mount --bind $root $tree/sysroot; mount --bind $root/boot $tree/boot; mount -t tmpfs tmpfs $tree/run; mount -t proc proc $tree/proc
	mkdir $tree/run/ostree; echo > $tree/run/ostree-booted; mount --bind /usr $tree/usr; touch $tree/run/hostctl; mount --bind $hostctl $tree/run/hostctl
`

// TestObstacles: what keeps an upgrade from working is an error that says what to do,
// with its exit status, and changes nothing; without it the same command works.
func TestObstacles(t *testing.T) {
	t.Parallel()
	const upgrade = "$hostctl --sysroot=$root upgrade\n"
	const inside = running + "chroot $tree /run/hostctl upgrade\n"
	const small = "mount -t tmpfs -o %s tmpfs /mnt; cp -a $root /mnt; root=/mnt/root\n"
	for name, c := range map[string]struct {
		before, script string
		code           int
		words          []string
		locked         time.Duration
	}{
		"read-only /boot":      {script: "mount --bind $root/boot $root/boot; mount -o remount,bind,ro $root/boot\n" + upgrade, code: 1, words: []string{"/boot: filesystem is read-only", "mount it read-write"}},
		"read-only root":       {script: "mount --bind $root $root; mount -o remount,bind,ro $root\n" + upgrade, code: 1, words: []string{"read-only"}},
		"full /boot":           {script: "mount -t tmpfs tmpfs /mnt; mkdir /mnt/b; mount -t tmpfs -o size=3m tmpfs /mnt/b; cp -a $root/boot/. /mnt/b; mount --bind /mnt/b $root/boot\n" + upgrade, code: 4, words: []string{"space in /boot", "bytes are missing", "undeploy"}},
		"full root":            {script: fmt.Sprintf(small, "size=24m") + "head -c 10m /dev/zero > /mnt/junk\n" + upgrade, code: 4, words: []string{"space in the sysroot", "bytes are missing", "hostctl cleanup"}},
		"no inodes":            {script: fmt.Sprintf(small, "nr_inodes=$(($(find $root | wc -l) + 12))") + upgrade, code: 4, words: []string{"files (inodes) needed", "files are missing", "hostctl cleanup"}},
		"no such boot loader":  {before: "ostree config --repo=$root/ostree/repo set sysroot.hostctl-bootloader lilo", script: upgrade, code: 1, words: []string{"unknown boot loader", "lilo"}},
		"foreign boot loader":  {before: "mkdir -p $root/boot/grub; echo 'linux /vmlinuz' > $root/boot/grub/grub.cfg", script: upgrade, code: 1, words: []string{"/boot/grub/grub.cfg", "does not read /boot/loader"}},
		"missing ESP":          {before: "echo 'LABEL=e /efi vfat defaults 0 2' > $tree/etc/fstab", script: inside, code: 1, words: []string{"/etc/fstab has a filesystem at /efi, which is not mounted", `run "mount /efi"`}},
		"missing /boot":        {script: running + "mount -t tmpfs tmpfs $tree/boot; mount -t tmpfs tmpfs $root/boot; mount --bind $root/boot $tree/sysroot/boot\nchroot $tree /run/hostctl upgrade\n", code: 1, words: []string{"/boot/loader is missing"}},
		"locked":               {locked: time.Minute, script: upgrade, code: 3, words: []string{"ostree/lock", fmt.Sprintf("pid %d", os.Getpid())}},
		"locked for a moment":  {locked: time.Second, script: upgrade},
		"read-only but booted": {script: running + "mount -o remount,bind,ro $tree/boot; mount -o remount,bind,ro $tree/sysroot\nchroot $tree /run/hostctl upgrade\n", code: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := host(t)
			testutil.Run(t, "sh", "-ec", "cd "+filepath.Dir(root)+"; mkdir -p tree/boot tree/run tree/proc tree/sysroot; ln -s usr/lib tree/lib; ln -s usr/lib64 tree/lib64")
			release(t, root, "2", nil)
			call(t, root, 0, "upgrade")
			call(t, root, 0, "cleanup")
			testutil.Run(t, "sh", "-ec", "head -c 2500000 /dev/urandom > "+filepath.Dir(root)+"/tree/usr/lib/modules/5.1/vmlinuz")
			release(t, root, "3", map[string]string{"app.conf": strings.Repeat("new\n", 1<<20)})
			if c.before != "" {
				process(t, root, c.before)
			}
			before := bootState(t, root)
			if c.locked > 0 {
				lock, err := testutil.OpenDir(t, root).Lock(t.Context(), "ostree/lock", false, 0)
				testutil.Must(t, err)
				timer := time.AfterFunc(c.locked, func() { _ = lock.Unlock() })
				defer func() {
					if timer.Stop() {
						_ = lock.Unlock()
					}
				}()
			}
			code, line := process(t, root, c.script)
			if code != c.code || code != 0 && !strings.HasPrefix(line, "error: ") {
				t.Fatalf("status %d, want %d: %s", code, c.code, line)
			}
			for _, w := range c.words {
				if !strings.Contains(line, w) {
					t.Errorf("does not say %q: %s", w, line)
				}
			}
			if code == 0 {
				return
			}
			if d := cmp.Diff(before, bootState(t, root)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestBothAgents: hostctl and libostree's tool change one sysroot at the same time. One
// waits for the other; both see the same afterwards, and nothing is broken.
func TestBothAgents(t *testing.T) {
	t.Parallel()
	root := host(t)
	for i := range 4 {
		release(t, root, strconv.Itoa(i+2), map[string]string{"app.conf": strconv.Itoa(i)})
		code, line := process(t, root, `
			# Who waited for too long tries again.
			try() { while :; do "$@" && return; test $? = 3 || return 1; done; }
			try $hostctl --sysroot=$root upgrade & ours=$!
			ostree admin deploy --sysroot=$root --os=os --retain main & theirs=$!
			try $hostctl --sysroot=$root kargs --append=n`+strconv.Itoa(i)+` & more=$!
			wait $ours; wait $theirs; wait $more`)
		if code != 0 {
			t.Fatalf("round %d: %s", i, line)
		}
		var st stateReport
		testutil.Must(t, json.Unmarshal([]byte(call(t, root, 0, "status", "--json")), &st))
		theirs := testutil.Run(t, "ostree", "admin", "status", "--sysroot="+root)
		seen, kargs := 0, 0
		for _, d := range st.Deployments {
			if strings.Contains(theirs, "os "+d.Name()) {
				seen++
			}
			if slices.Contains(d.Kargs, "n"+strconv.Itoa(i)) {
				kargs++
			}
		}
		if seen != len(st.Deployments) || strings.Count(theirs, "\n  os ")+strings.Count(theirs, "* os ") > seen || kargs == 0 || len(st.Broken) > 0 {
			t.Fatalf("%d seen of %d, %d with the argument, broken: %v\n%s", seen, len(st.Deployments), kargs, st.Broken, theirs)
		}
		if st.Deployments[0].Version != strconv.Itoa(i+2) {
			t.Errorf("round %d: version %s", i, st.Deployments[0].Version)
		}
	}
	testutil.Run(t, "ostree", "fsck", "--repo="+root+"/ostree/repo", "-q")
	call(t, root, 0, "cleanup")
	testutil.Run(t, "ostree", "admin", "cleanup", "--sysroot="+root)
}

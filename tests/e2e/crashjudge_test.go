// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/tests/lab"
)

func (k *killer) number() string { return strconv.Itoa(k.n) }

// inventory prints the booted version, how many deployments are broken, the failure of
// the last shutdown, the root's filesystem, and the local changes in /etc and /var.
const inventory = `hostctl status --json | jq -r '(.deployments[] | select(.booted) | .version), (.broken // [] | length), .finalizeFailure // "none"'
findmnt -no FSTYPE /sysroot
tail -n1 /etc/testdistro.conf; cat /etc/added; test -e /etc/issue.net || echo gone; cat /etc/latest
cat /var/lib/mine/precious /var/lib/mine/latest`

// judge looks at the disk that a kill left, boots it and records what came out.
func (k *killer) judge(said string, shutdown bool) {
	k.t.Helper()
	r := kill{Phase: phaseOf(said, shutdown), Point: lastPoint(said), Outcome: outcomeNone}
	i := k.tally.add(kill{Phase: r.Phase, Point: r.Point})
	// Also where the test ends below because nothing boots.
	defer func() { k.tally.set(i, r) }()
	if !k.inside {
		r.Problems = k.autopsy()
	}
	k.boot()
	got := strings.Split(k.sh(inventory), "\n")
	switch got[0] {
	case "1":
		r.Outcome = outcomeOld
	case "1.1":
		r.Outcome = outcomeNew
	default:
		r.Problems = append(r.Problems, "booted version "+strconv.Quote(got[0]))
	}
	if !slices.Contains(possible(r.Phase), r.Outcome) {
		r.Problems = append(r.Problems, fmt.Sprintf("a kill behind %s in phase %s led to the %s system", r.Point, r.Phase, r.Outcome))
	}
	want := []string{"0", "none", k.rootFS(), "# my line", "hello", "gone", k.number(), "precious", k.number()}
	if diff := cmp.Diff(want, got[1:]); diff != "" {
		r.Problems = append(r.Problems, "after the boot (-want +got):\n"+diff)
	}
	if k.inside {
		if out := k.sh("hostctl fsck --progress none || :"); !strings.Contains(out, "no errors found") {
			r.Problems = append(r.Problems, "repository: "+out)
		}
	}
	k.t.Logf("KILL %d: phase %s, last point %q: booted the %s system, problems: %q", k.n, r.Phase, r.Point, r.Outcome, r.Problems)
	if len(r.Problems) > 0 {
		k.t.Errorf("kill %d: %s", k.n, strings.Join(r.Problems, "; "))
	}
}

func (k *killer) rootFS() string {
	if k.l.RootFS == "" {
		return "ext4"
	}
	return k.l.RootFS
}

// rollBack ends a life: the new system, which the last kill left, goes back to the old one.
func (k *killer) rollBack() {
	k.expect(bootedVersion, "1.1")
	k.sh("hostctl rollback")
	k.reboot()
	k.expect(bootedVersion, "1")
	k.expect("cat /etc/added /var/lib/mine/precious", "hello\nprecious")
	k.expect("systemctl --failed --no-legend | wc -l", "0")
}

// look makes a copy of a machine's disk, which takes what is written to it and is
// thrown away, a raw file without copying anything. $1: the disk, $2: a folder.
const look = `
qemu-img create -q -f qcow2 -F qcow2 -b "$1" "$2/look.qcow2"
touch "$2/raw"
qemu-storage-daemon --blockdev driver=file,node-name=file,filename="$2/look.qcow2" --blockdev driver=qcow2,node-name=disk,file=file \
	--export type=fuse,id=raw,node-name=disk,mountpoint="$2/raw",writable=on --pidfile "$2/pid" --daemonize
`

// Where QEMU's daemon holds the file, an unmount in the meantime ends both.
const unlook = `
umount --lazy "$1/raw" || :
kill "$(cat "$1/pid")" 2>/dev/null || :
rm -rf "$1"
`

// examine replays the journals as a mount does, checks the repository with this
// machine's own hostctl, and then every filesystem. $1: the raw disk, $2: a folder,
// $3: hostctl. Findings go to standard output. To be run in a mount namespace of its own:
// others that begin meanwhile would take the mount with them and keep it after the unmount.
const examine = `
raw=$1 mnt=$2/mnt hostctl=$3 loop=
mkdir "$mnt"
trap 'umount "$mnt" 2>/dev/null || :; [ -z "$loop" ] || losetup --detach "$loop"' EXIT
check() {
	case $1 in
	ext4) e2fsck -f -n "$loop" ;;
	xfs) xfs_repair -n "$loop" ;;
	btrfs) btrfs check --readonly "$loop" ;;
	esac >"$mnt.log" 2>&1 || { echo "$2 ($1) is damaged:"; cat "$mnt.log"; }
}
fat() {
	# Not unmounted, FATs that differ, lost clusters and a free count: a power cut leaves them.
	fsck.vfat -n "$loop" >"$mnt.log" 2>&1 || :
	cp "$mnt.log" "$mnt.fat"
	if grep -i -e shares -e 'bad file' -e 'invalid' -e 'duplicate' -e 'contains a free cluster' "$mnt.log"; then echo "$1 (vfat) is damaged"; fi
}
sfdisk --dump "$raw" | sed -n 's/.*start= *\([0-9]*\), size= *\([0-9]*\),.*name="\([^"]*\)".*/\1 \2 \3/p' >"$mnt.parts"
while read -r start size name; do
	loop=$(losetup --find --show --offset $((start * 512)) --sizelimit $((size * 512)) "$raw")
	kind=$(blkid -p -o value -s TYPE "$loop" || :)
	case $kind in
	vfat) fat "$name" ;;
	ext4 | xfs | btrfs)
		mount "$loop" "$mnt"
		if [ "$name" = root ]; then
			"$hostctl" fsck --sysroot "$mnt" --progress none >"$mnt.log" 2>&1 || { echo "repository:"; tail -n 5 "$mnt.log"; }
		fi
		umount "$mnt"
		check "$kind" "$name"
		[ "$kind" != btrfs ] || btrfs device scan --forget "$loop" || :
		;;
	esac
	losetup --detach "$loop"
	loop=
done <"$mnt.parts"
`

// autopsy looks at the disk as the kill left it, and returns what is wrong with it.
func (k *killer) autopsy() []string {
	k.t.Helper()
	start := time.Now()
	dir, err := os.MkdirTemp(k.l.Dir, "look-")
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() {
		if out, err := exec.Command("sh", "-euc", unlook, "sh", dir).CombinedOutput(); err != nil {
			k.t.Errorf("put %s away: %v: %s", dir, err, out)
		}
	}()
	if out, err := lab.Command(k.t.Context(), "sh", "-euc", look, "sh", k.Disk(), dir).CombinedOutput(); err != nil {
		k.t.Fatalf("open the disk: %v: %s", err, out)
	}
	out, err := lab.Command(k.t.Context(), "unshare", "--mount", "sh", "-euc", examine, "sh", filepath.Join(dir, "raw"), dir, k.l.Hostctl()).CombinedOutput()
	if fat, err := os.ReadFile(filepath.Join(dir, "mnt.fat")); err == nil {
		k.t.Logf("fsck.vfat after the kill: %s", fat)
	}
	k.t.Logf("looked at the disk for %.1f s", time.Since(start).Seconds())
	var problems []string
	if err != nil {
		problems = append(problems, fmt.Sprintf("the disk cannot be examined: %v", err))
	}
	if text := strings.TrimSpace(string(out)); text != "" {
		problems = append(problems, text)
	}
	return problems
}

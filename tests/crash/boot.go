// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/bootloader/bls"
)

// The folders of a recording of a boot write: the root filesystem and /boot, which
// is a partition of its own.
const (
	rootFolder = "sysroot"
	bootFolder = "boot"
)

// bootCheck explores what a power cut during a boot write leaves, and what then boots.
type bootCheck struct {
	firmware firmware
	fat      bool
	seed     uint64
	// judge names what boots from a deployment, and tells what is wrong with that:
	// version is the content of its usr/bin/tool, "" where it is not whole.
	judge func(b booted, err error, version string) (string, error)
	// again, if not nil, gets some of the states, laid out in a new folder.
	again func(lay func(folder string) error) error

	r        *replay
	disk     *fatDisk
	shadow   map[string]shadow // what disk holds
	roots    []map[string]string
	rootSafe int
	boots    []map[string]node
	bootSafe int

	states int
	retry  int            // states until again
	seen   map[string]int // how often each order booted
}

type shadow struct {
	node *inode
	data string
}

// sampled is how many combinations are tried where there are too many for all.
const (
	sampled    = 40
	exhaustive = 1 << 10
)

// run replays a recording and judges every state.
func (b *bootCheck) run(rec *Recording) error {
	b.r = &replay{root: rec.root, disk: rec.before, files: map[int]*file{}, history: map[int]map[*inode][]byte{}, dirty: map[string]string{},
		volumes: []string{rootFolder, bootFolder}}
	b.shadow, b.seen = map[string]shadow{}, map[string]int{}
	if b.fat {
		b.disk = newFAT()
		if err := b.follow(); err != nil {
			return err
		}
		b.disk.sync()
	}
	b.roots, b.boots = []map[string]string{b.rootView()}, []map[string]node{b.bootView()}
	if err := b.visit(true, true); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	syncs := map[int]bool{}
	for _, c := range rec.calls {
		syncs[c.start] = syncs[c.start] || strings.Contains(c.name, "sync")
	}
	for i, c := range rec.calls {
		if syncs[i] {
			b.r.history[i] = b.r.snapshot()
		}
		if _, err := b.r.step(c); err != nil {
			return fmt.Errorf("replay call %d: %w", i, err)
		}
		if err := b.after(c); err != nil {
			return fmt.Errorf("after call %d, %s %s: %w", i, c.name, b.r.describe(c), err)
		}
	}
	return b.r.verify(rec.after)
}

// after takes in what a call changed, and visits the states that are new.
func (b *bootCheck) after(c call) error {
	switch c.name {
	case "close", "open", "openat", "openat2", "lseek", "fcntl", "dup", "dup2", "dup3", "ioctl":
		if !strings.Contains(strings.Join(c.args, ""), "O_CREAT") && !strings.Contains(strings.Join(c.args, ""), "O_TRUNC") {
			return nil
		}
	}
	if c.failed() {
		return nil
	}
	if b.fat {
		if err := b.follow(); err != nil {
			return err
		}
	}
	newRoot, newBoot := false, false
	if v := b.rootView(); !maps.Equal(v, b.roots[len(b.roots)-1]) {
		b.roots, newRoot = append(b.roots, v), true
	}
	if v := b.bootView(); !sameNodes(v, b.boots[len(b.boots)-1]) {
		b.boots, newBoot = append(b.boots, v), true
	}
	if err := b.synced(c); err != nil {
		return err
	}
	if !newRoot && !newBoot {
		return nil
	}
	return b.visit(newRoot, newBoot)
}

// synced notes what a sync made safe.
func (b *bootCheck) synced(c call) error {
	if !strings.Contains(c.name, "sync") {
		return nil
	}
	_, at, err := descriptor(c.args[0])
	if err != nil {
		return err
	}
	rel := b.r.inside(at)
	switch volume := b.r.volume(rel); {
	case c.name == "syncfs" && volume == rootFolder:
		b.rootSafe = len(b.roots) - 1
	case c.name == "syncfs" && volume == bootFolder:
		b.bootSafe = len(b.boots) - 1
		if b.fat {
			b.disk.sync()
		}
	case b.fat && volume == bootFolder && c.name != "syncfs":
		n := b.r.disk.names[rel]
		if n == nil {
			return nil // gone since
		}
		return b.disk.syncFile(below(rel), n.kind == fs.ModeDir)
	}
	return nil
}

func below(rel string) string {
	if rel == bootFolder {
		return "."
	}
	return strings.TrimPrefix(rel, bootFolder+"/")
}

// follow does to the FAT what the last call did to the folder.
func (b *bootCheck) follow() error {
	now := map[string]*inode{}
	for rel, n := range b.r.disk.names {
		if strings.HasPrefix(rel, bootFolder+"/") {
			now[below(rel)] = n
		}
	}
	if err := b.moved(now); err != nil {
		return err
	}
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(b.shadow))) {
		if now[name] == nil {
			if err := b.disk.remove(name); err != nil {
				return err
			}
			delete(b.shadow, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		n := now[name]
		old, ok := b.shadow[name]
		var err error
		switch {
		case ok:
		case n.kind == fs.ModeDir:
			err = b.disk.mkdir(name)
		case n.kind != 0:
			err = errors.New("FAT holds files and directories only")
		default:
			err = b.disk.create(name)
		}
		if err == nil && n.kind == 0 && old.data != string(n.data) {
			err = b.disk.write(name, n.data)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		b.shadow[name] = shadow{n, string(n.data)}
	}
	return nil
}

// moved finds a rename: a file that is under another name than before.
func (b *bootCheck) moved(now map[string]*inode) error {
	for from, old := range b.shadow {
		if now[from] == old.node {
			continue
		}
		for to, n := range now {
			if n != old.node || b.shadow[to].node == n {
				continue
			}
			if n.kind == fs.ModeDir {
				return fmt.Errorf("%s: a directory was renamed", from)
			}
			if there := b.shadow[to]; there.node != nil && now[from] == there.node {
				b.shadow[from], b.shadow[to] = there, old
				return b.disk.exchange(from, to)
			}
			if err := b.disk.rename(from, to); err != nil {
				return err
			}
			delete(b.shadow, from)
			b.shadow[to] = old
			return nil
		}
	}
	return nil
}

// rootView tells, for each way through boot.V to a deployment, what is there.
func (b *bootCheck) rootView() map[string]string {
	out := map[string]string{}
	names := b.r.disk.names
	for v := range 2 {
		link := names[fmt.Sprintf(rootFolder+"/ostree/boot.%d", v)]
		if link == nil || link.kind != fs.ModeSymlink {
			continue
		}
		dir := path.Join(rootFolder, "ostree", string(link.data))
		for rel, n := range names {
			if n.kind != fs.ModeSymlink || !strings.HasPrefix(rel, dir+"/") {
				continue
			}
			arg := fmt.Sprintf("/ostree/boot.%d/%s", v, strings.TrimPrefix(rel, dir+"/"))
			out[arg] = ""
			tree := path.Join(path.Dir(rel), string(n.data))
			tool, etc := names[tree+"/usr/bin/tool"], names[tree+"/etc/fixed.conf"]
			if tool != nil && etc != nil && string(etc.safe) == "fixed" {
				out[arg] = string(tool.safe)
			}
		}
	}
	return out
}

func (b *bootCheck) bootView() map[string]node {
	out := map[string]node{}
	for rel, n := range b.r.disk.names {
		if strings.HasPrefix(rel, bootFolder+"/") {
			out[below(rel)] = node{n.kind, n.data, n.safe}
		}
	}
	return out
}

func sameNodes(a, b map[string]node) bool {
	return maps.EqualFunc(a, b, func(x, y node) bool {
		return x.kind == y.kind && string(x.data) == string(y.data) && string(x.safe) == string(y.safe)
	})
}

// visit judges the states of a power cut now: each filesystem is as it was at a
// moment since it was last synced. Of pairs of such moments only those with a new
// one are left to judge.
func (b *bootCheck) visit(newRoot, newBoot bool) error {
	all, last := b.roots[b.rootSafe:], b.roots[len(b.roots)-1:]
	if b.fat {
		if newBoot {
			last = all
		}
		return b.cutFAT(last)
	}
	for i := b.bootSafe; i < len(b.boots); i++ {
		roots := last
		if !newRoot {
			roots = nil
		}
		if newBoot && i == len(b.boots)-1 {
			roots = all
		}
		if err := b.cutLinked(b.boots[i], roots); err != nil {
			return err
		}
	}
	return nil
}

// cutLinked judges a /boot with a journal: its names are those of one moment, and of
// each file the data that was not synced is there or not.
func (b *bootCheck) cutLinked(names map[string]node, roots []map[string]string) error {
	if len(roots) == 0 {
		return nil
	}
	var open []string
	for name, n := range names {
		if n.kind == 0 && string(n.data) != string(n.safe) {
			open = append(open, name)
		}
	}
	slices.Sort(open)
	sizes := slices.Repeat([]int{2}, len(open))
	return b.combine(sizes, func(pick []int) error {
		v := linkVolume{names: names, lost: func(name string) bool {
			i, found := slices.BinarySearch(open, name)
			return found && pick[i] == 0
		}}
		return b.boot(v, roots)
	})
}

// cutFAT judges a FAT: every sector has one of the contents since it was last
// synced, whatever the others have.
func (b *bootCheck) cutFAT(roots []map[string]string) error {
	open := slices.Sorted(maps.Keys(b.disk.dirty))
	sizes := make([]int, len(open))
	for i, n := range open {
		sizes[i] = len(b.disk.dirty[n]) + 1
	}
	return b.combine(sizes, func(pick []int) error {
		return b.boot(fatVolume{get: func(n int) sector {
			i, found := slices.BinarySearch(open, n)
			if !found || pick[i] == sizes[i]-1 {
				return b.disk.now[n]
			}
			return b.disk.dirty[n][pick[i]]
		}}, roots)
	})
}

// combine calls fn with every choice of one out of each of sizes. Where there are too
// many, these are: all the first, all the last, each alone one way or the other,
// and a sample.
func (b *bootCheck) combine(sizes []int, fn func(pick []int) error) error {
	total := 1
	for _, n := range sizes {
		total = min(total*n, exhaustive+1)
	}
	pick := make([]int, len(sizes))
	if total <= exhaustive {
		for range total {
			if err := fn(pick); err != nil {
				return err
			}
			for i := range pick {
				if pick[i]++; pick[i] < sizes[i] {
					break
				}
				pick[i] = 0
			}
		}
		return nil
	}
	end := make([]int, len(sizes))
	for i, n := range sizes {
		end[i] = n - 1
	}
	tries := [][]int{pick, end}
	rng := rand.New(rand.NewPCG(b.seed, uint64(b.states)))
	for i := range sizes {
		one, other := slices.Clone(pick), slices.Clone(end)
		one[i], other[i] = end[i], 0
		tries = append(tries, one, other)
	}
	for range sampled {
		some := make([]int, len(sizes))
		for i, n := range sizes {
			some[i] = rng.IntN(n)
		}
		tries = append(tries, some)
	}
	for _, p := range tries {
		if err := fn(p); err != nil {
			return err
		}
	}
	return nil
}

func (b *bootCheck) boot(v volume, roots []map[string]string) error {
	got, err := b.firmware(v)
	arg, _ := bls.ParseKargs(got.options).Value("ostree")
	for _, root := range roots {
		b.states++
		name, wrong := b.judge(got, err, root[arg])
		if wrong != nil {
			return fmt.Errorf("%w (boots %q, %v)", wrong, arg, err)
		}
		b.seen[name]++
	}
	if b.retry--; b.again == nil || b.retry > 0 {
		return nil
	}
	b.retry = 1000 + int(b.seed*53+uint64(b.states)*7)%1000
	if err := b.again(func(folder string) error { return b.layOut(folder, v) }); err != nil {
		return fmt.Errorf("again: %w", err)
	}
	return nil
}

// layOut writes the root filesystem as it is now, without what was not synced, and
// a /boot beside it.
func (b *bootCheck) layOut(folder string, v volume) error {
	rest := &disk{names: map[string]*inode{}}
	for rel, n := range b.r.disk.names {
		if rel == bootFolder || b.r.volume(rel) != bootFolder {
			rest.names[rel] = n
		}
	}
	if err := rest.write(folder, true); err != nil {
		return err
	}
	return v.write(path.Join(folder, bootFolder))
}

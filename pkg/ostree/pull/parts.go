// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// A file that takes long to transfer is kept while it arrives, so that neither a
// lost connection nor a killed process costs what was received. The copy is
// tmp/pull-KEY.part: a header of partHeader bytes (four lines, padded with
// spaces: the format, the kernel's boot id, the server's validator, the address)
// and the bytes. It is no truth: what is assembled from it is compared with a
// checksum like any other transfer. The boot id tells that the machine may have
// lost unwritten bytes since. See docs/formats/pull-files.md.
const (
	partPrefix = "pull-"
	partSuffix = ".part"
	partHeader = 4096
	partMagic  = "hostctl part 1"
	partMin    = 2 << 20 // bytes; smaller files start again
	bootIDPath = "/proc/sys/kernel/random/boot_id"
)

// parts is the folder of such copies.
type parts struct {
	dir  *fsx.Dir // the repository's tmp; nil: nothing is kept
	boot string
	log  *slog.Logger

	mu    sync.Mutex
	found map[string]bool // keys that were there at the start
}

// openParts looks for what earlier pulls left and drops what is older than expiry.
func openParts(repo *ostree.Repo, expiry time.Duration, log *slog.Logger) *parts {
	p := &parts{log: log, found: map[string]bool{}}
	boot, err := os.ReadFile(bootIDPath)
	if err != nil {
		return p
	}
	p.boot = strings.TrimSpace(string(boot))
	dir, err := repo.Dir().OpenDir("tmp")
	if err != nil {
		return p
	}
	p.dir = dir
	entries, err := dir.ReadDir(".")
	if err != nil {
		log.Warn("look for interrupted transfers", "error", err)
	}
	for _, e := range entries {
		key, ok := strings.CutPrefix(e.Name, partPrefix)
		key, end := strings.CutSuffix(key, partSuffix)
		if !ok || !end || e.IsDir() {
			continue
		}
		st, err := dir.Lstat(e.Name)
		if err == nil && expiry >= 0 && time.Since(st.Mtime) > expiry {
			p.dropStale(e.Name)
			continue
		}
		p.found[key] = true
	}
	return p
}

// close ends the use of the folder. If the disk was full, all copies go: their
// space is what the next attempt needs.
func (p *parts) close(failure error) {
	if p.dir == nil {
		return
	}
	if ostree.DiskFull(failure) {
		entries, _ := p.dir.ReadDir(".")
		for _, e := range entries {
			if strings.HasPrefix(e.Name, partPrefix) && strings.HasSuffix(e.Name, partSuffix) && !e.IsDir() {
				p.dropStale(e.Name)
			}
		}
	}
	_ = p.dir.Close()
}

// dropStale removes a file that nobody writes.
func (p *parts) dropStale(name string) {
	lock, err := p.dir.Lock(context.Background(), name, false, 0)
	if err != nil {
		return
	}
	_ = p.dir.Remove(name)
	_ = lock.Unlock()
}

// part is one kept file. All methods work on nil, which keeps nothing.
type part struct {
	p    *parts
	key  string
	lock *fsx.Lock
	f    *os.File
	have int64 // bytes of the file, from its start
	tag  string
	url  string
	// fail, once set, ends the keeping but never the transfer.
	fail error
}

// open gives what there is of a file, or nil if another process works on it.
func (p *parts) open(key string) *part {
	if p == nil || p.dir == nil {
		return nil
	}
	pt := &part{p: p, key: key}
	p.mu.Lock()
	found := p.found[key]
	delete(p.found, key)
	p.mu.Unlock()
	if found {
		pt.load()
	}
	return pt
}

func (p *part) name() string { return partPrefix + p.key + partSuffix }

// attach takes the lock and opens the file.
func (p *part) attach() error {
	lock, err := p.p.dir.Lock(context.Background(), p.name(), false, 0)
	if err != nil {
		return err
	}
	f, err := p.p.dir.OpenFile(p.name(), os.O_RDWR, 0)
	if err != nil {
		return errors.Join(err, lock.Unlock())
	}
	p.lock, p.f = lock, f
	return nil
}

// load reads the header of a kept file; one that is of no use counts as empty.
func (p *part) load() {
	if p.fail = p.attach(); p.fail != nil {
		return
	}
	header := make([]byte, partHeader)
	st, err := fsx.FStat(p.f)
	if err != nil || st.Size <= partHeader {
		return
	}
	if _, err := p.f.ReadAt(header, 0); err != nil {
		return
	}
	lines := strings.Split(string(bytes.TrimRight(header, " ")), "\n")
	if len(lines) != 5 || lines[0] != partMagic || lines[1] != p.p.boot {
		return
	}
	p.tag, p.url, p.have = lines[2], lines[3], st.Size-partHeader
}

// size tells how many bytes are there.
func (p *part) size() int64 {
	if p == nil || p.fail != nil {
		return 0
	}
	return p.have
}

// from tells whether the bytes are of that address, and with which validator.
func (p *part) from(at place) (tag string, ok bool) {
	if p.size() == 0 || p.url != at.url().String() {
		return "", false
	}
	return p.tag, true
}

// begin starts the copy anew, if the file is big enough to be worth it.
func (p *part) begin(at place, tag string, size int64) {
	if p == nil || p.fail != nil {
		return
	}
	p.have = 0
	if size < partMin {
		p.drop()
		return
	}
	p.tag, p.url = tag, at.url().String()
	p.fail = p.create()
	if p.fail != nil {
		p.p.log.Warn("keep transfer for resumption", "url", p.url, "error", p.fail)
	}
}

func (p *part) create() error {
	if p.f == nil {
		if err := p.attach(); err != nil {
			return err
		}
	}
	header := fmt.Sprintf("%s\n%s\n%s\n%s\n", partMagic, p.p.boot, p.tag, p.url)
	if len(header) > partHeader || strings.Count(header, "\n") != 4 {
		return fmt.Errorf("%w: address or validator", ostree.ErrInvalid)
	}
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	_, err := p.f.WriteAt(fmt.Appendf(nil, "%-*s", partHeader, header), 0)
	return err
}

// add keeps received bytes.
func (p *part) add(data []byte) {
	if p == nil || p.fail != nil || p.f == nil || len(data) == 0 {
		return
	}
	n, err := p.f.WriteAt(data, partHeader+p.have)
	p.have += int64(n)
	p.fail = err
}

// readAt gives kept bytes.
func (p *part) readAt(b []byte, off int64) (int, error) {
	n, err := p.f.ReadAt(b[:min(int64(len(b)), p.have-off)], partHeader+off)
	if errors.Is(err, io.EOF) && n > 0 {
		err = nil
	}
	return n, err
}

// close ends the use of a copy. It stays only where the transfer was cut short:
// after success it is not needed, and what turned out wrong must not come back.
func (p *part) close(err error) {
	if p == nil {
		return
	}
	if err == nil || errors.Is(err, ostree.ErrCorrupt) {
		p.drop()
	}
	p.release()
}

func (p *part) drop() {
	if p.f != nil {
		_ = p.p.dir.Remove(p.name())
	}
	p.release()
}

func (p *part) release() {
	if p.f != nil {
		_ = p.f.Close()
		_ = p.lock.Unlock()
	}
	p.f, p.lock = nil, nil
}

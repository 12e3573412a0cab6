// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// keyPayloadThreshold is the size in bytes from which on a repository keeps payload
// links: symbolic links, named by the SHA-256 of bare content, to a file object that
// has it. Objects that differ in owner, mode or attributes then share their blocks.
const keyPayloadThreshold = "payload-link-threshold"

// noPayloadLinks is the default threshold: no file is as big.
const noPayloadLinks = math.MaxUint64

// payloadThreshold reads core.payload-link-threshold. Negative means never.
func payloadThreshold(cfg *keyfile.File) (uint64, error) {
	text, err := cfg.StringOr("core", keyPayloadThreshold, "-1")
	if err != nil {
		return 0, err
	}
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n < 0 {
		return noPayloadLinks, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: core.%s %q", ErrInvalid, keyPayloadThreshold, clip(text))
	}
	return n, nil
}

// bareContent tells whether the content of a file object is the bytes of its file
// and may share blocks.
func (m Mode) bareContent() bool {
	return m == ModeBare || m == ModeBareUser || m == ModeBareUserOnly
}

// canReflink tells, after trying it once, whether files of the repository can
// share blocks.
func (t *Txn) canReflink() bool {
	r := t.r
	r.reflinkOnce.Do(func() { r.reflink = t.tryReflink() })
	return r.reflink
}

func (t *Txn) tryReflink() bool {
	src, err := t.r.dir.Open(configName)
	if err != nil {
		return false
	}
	defer src.Close()
	f, err := t.newFile()
	if err != nil {
		return false
	}
	defer f.close()
	return sys.CloneFile(int(f.Fd()), int(src.Fd())) == nil
}

// payload follows the content of a file object that a payload link is to lead to.
// All methods of a nil payload do nothing.
type payload struct {
	t    *Txn
	size int64
	hash hash.Hash
}

// payloadOf gives nil where no link is kept for such a file.
func (t *Txn) payloadOf(h FileHeader, size int64) *payload {
	if h.IsSymlink() || size < 0 || uint64(size) < t.r.opts.payloadThreshold || !t.r.mode.bareContent() || !t.canReflink() {
		return nil
	}
	return &payload{t: t, size: size, hash: sha256.New()}
}

// with gives a writer that also feeds the payload.
func (p *payload) with(w io.Writer) io.Writer {
	if p == nil {
		return w
	}
	return io.MultiWriter(w, p.hash)
}

// follow gives a reader that also feeds the payload.
func (p *payload) follow(r io.Reader) io.Reader {
	if p == nil {
		return r
	}
	return io.TeeReader(r, p.hash)
}

func (p *payload) name() ObjectName {
	return ObjectName{Checksum(p.hash.Sum(nil)), TypePayloadLink}
}

// share has a file that was written, but not named, use the blocks of an object
// with the same content. Where that fails the file keeps blocks of its own.
func (p *payload) share(f *objFile) {
	if p == nil || p.size == 0 {
		return
	}
	link := p.name()
	for r := p.t.r; r != nil; r = r.parent {
		src := p.t.payloadFile(r, link)
		if src == nil {
			continue
		}
		same, err := sys.ShareBlocks(int(f.Fd()), int(src.Fd()), p.size)
		_ = src.Close()
		if err == nil && same {
			return
		}
		p.t.r.opts.log.Debug("content not shared", "payload", link.Checksum.String(), "object", src.Name(), "same", same, "error", err)
	}
}

// payloadFile opens the object that a payload link of r leads to; nil if there is
// none. A link to an object that is gone would keep a better one away: it goes.
func (t *Txn) payloadFile(r *Repo, link ObjectName) *os.File {
	if r == t.r && t.isStaged(link) {
		d, name := t.stagedAt(link)
		if n, ok := readPayloadLink(d, name); ok {
			return t.openPayload(n)
		}
	}
	n, ok := readPayloadLink(r.objects, link.loosePath(r.mode))
	if !ok {
		return nil
	}
	f, err := r.objects.Open(n.loosePath(r.mode))
	if r == t.r && errors.Is(err, fs.ErrNotExist) {
		_ = r.objects.Remove(link.loosePath(r.mode))
	}
	if err != nil {
		return nil
	}
	return f
}

func (t *Txn) openPayload(n ObjectName) *os.File {
	d, name := t.r.objects, n.loosePath(t.r.mode)
	if t.isStaged(n) {
		d, name = t.stagedAt(n)
	}
	f, err := d.Open(name)
	if err != nil {
		return nil
	}
	return f
}

func readPayloadLink(d *fsx.Dir, name string) (ObjectName, bool) {
	target, err := d.Readlink(name)
	if err != nil {
		return ObjectName{}, false
	}
	return payloadTarget(target)
}

// link makes the payload link to an object of this repository, unless there is one
// for the same content.
func (p *payload) link(n ObjectName) error {
	if p == nil {
		return nil
	}
	link, t := p.name(), p.t
	if t.isStaged(link) {
		return nil
	}
	if !t.isStaged(n) {
		// A parent may have it; a link must not leave the repository.
		if here, err := t.r.HasLocal(n); !here || err != nil {
			return err
		}
	}
	if t.payloadLinked(link) {
		return nil
	}
	return t.replaceName(link, func(d *fsx.Dir, name string) error {
		return d.Symlink("../"+n.loosePath(t.r.mode), name)
	})
}

// payloadLinked tells whether the repository has the link, and the object it names.
func (t *Txn) payloadLinked(link ObjectName) bool {
	f := t.payloadFile(t.r, link)
	if f == nil {
		return false
	}
	_ = f.Close()
	return true
}

// linkPayload is payload.link for an object that is stored already.
func (t *Txn) linkPayload(n ObjectName, h FileHeader, content []byte) error {
	p := t.payloadOf(h, int64(len(content)))
	if p == nil {
		return nil
	}
	p.hash.Write(content)
	return p.link(n)
}

// linkPayloadFile is linkPayload for an object that came by a hard link.
func (t *Txn) linkPayloadFile(n ObjectName) error {
	if n.Type != TypeFile || t.r.opts.payloadThreshold == noPayloadLinks || !t.r.mode.bareContent() {
		return nil
	}
	h, size, rc, err := t.OpenFile(n.Checksum)
	if err != nil {
		return err
	}
	defer rc.Close()
	p := t.payloadOf(h, size)
	if p == nil {
		return nil
	}
	if _, err := io.Copy(p.hash, rc); err != nil {
		return fmt.Errorf("read object %s: %w", n, err)
	}
	return p.link(n)
}

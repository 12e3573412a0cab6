// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// sink is where a machine puts objects and finds sources; *ostree.Txn in earnest.
type sink interface {
	WriteMetadataExpected(ctx context.Context, n ostree.ObjectName, data []byte) error
	WriteContentExpected(ctx context.Context, c ostree.Checksum, h ostree.FileHeader, size int64, content io.Reader) error
	OpenFile(c ostree.Checksum) (ostree.FileHeader, int64, io.ReadCloser, error)
}

// machine executes the operations of objects of one part.
type machine struct {
	ctx  context.Context
	to   sink
	tmp  *fsx.Dir
	part *partData
	list *Part
	all  *io.SectionReader // operations of all objects
	ops  *opReader
	next int // object that is due
	buf  []byte
	data blocks // of part
	old  blocks // of source

	sourceSet bool
	sourceSum ostree.Checksum
	source    *source // opened at first use
	ended     bool    // the file that is being written has met its c
}

// newMachine makes a machine for objects of data; it is not safe for concurrent use.
func newMachine(ctx context.Context, to sink, tmp *fsx.Dir, list *Part, data *partData) *machine {
	m := &machine{ctx: ctx, to: to, tmp: tmp, list: list, all: data.ops, buf: make([]byte, copyBuffer)}
	m.ops = newOpReader(data.ops)
	own := *data
	if !data.inMemory() {
		m.data.reset(data.raw, data.at+data.data.Size())
		own.data = io.NewSectionReader(&m.data, data.at, data.data.Size())
	}
	m.part = &own
	return m
}

// run makes object i, whose operations are those from one place to another.
func (m *machine) run(i int, from, to int64) (err error) {
	m.next = i
	m.ops.reset(io.NewSectionReader(m.all, from, to-from))
	defer func() { err = errors.Join(err, m.unsetSource()) }()
	for m.next == i {
		o, err := m.step()
		if err == nil {
			err = m.outside(o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// step reads the next operation.
func (m *machine) step() (op, error) {
	if err := m.ctx.Err(); err != nil {
		return op{}, err
	}
	meta := m.next < m.list.NumObjects() && m.list.Object(m.next).Type.IsMeta()
	return m.ops.next(meta)
}

// outside executes an operation that stands between two objects.
func (m *machine) outside(o op) error {
	switch o.code {
	case opSetSource:
		return m.setSource(o.args[0])
	case opUnsetSource:
		return m.unsetSource()
	case opSplice, opOpen:
	default:
		return fmt.Errorf("%w: operation %c outside of a file", ErrCorrupt, o.code)
	}
	n := m.list.Object(m.next)
	var err error
	switch {
	case o.code == opOpen:
		err = m.build(n, o)
	case n.Type.IsMeta():
		err = m.spliceMeta(n, o)
	default:
		err = m.spliceFile(n, o)
	}
	if err != nil {
		return fmt.Errorf("object %s: %w", n, err)
	}
	m.next++
	return m.unsetSource()
}

func (m *machine) spliceMeta(n ostree.ObjectName, o op) error {
	data, err := m.part.bytes(o.args[1], o.args[0], ostree.MaxMetadataSize)
	if err != nil {
		return err
	}
	return m.to.WriteMetadataExpected(m.ctx, n, data)
}

func (m *machine) spliceFile(n ostree.ObjectName, o op) error {
	h, err := m.part.header(o.args[0], o.args[1])
	if err != nil {
		return err
	}
	size, off := o.args[2], o.args[3]
	if h.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		target, err := m.part.bytes(off, size, maxTarget)
		if err != nil {
			return err
		}
		h.Target = string(target)
		return m.to.WriteContentExpected(m.ctx, n.Checksum, h, 0, eof{})
	}
	content, err := m.part.section(off, size)
	if err != nil {
		return err
	}
	return m.to.WriteContentExpected(m.ctx, n.Checksum, h, int64(size), content)
}

// build makes a file out of the operations up to its c.
func (m *machine) build(n ostree.ObjectName, o op) error {
	if n.Type != ostree.TypeFile {
		return fmt.Errorf("%w: operation o for metadata", ErrCorrupt)
	}
	h, err := m.part.header(o.args[0], o.args[1])
	if err != nil {
		return err
	}
	if h.Mode&syscall.S_IFMT != syscall.S_IFREG || o.args[2] > 1<<62 {
		return fmt.Errorf("%w: operation o with mode %o and size %d", ErrCorrupt, h.Mode, o.args[2])
	}
	m.ended = false
	b := &builder{m: m, size: int64(o.args[2])}
	if err := m.to.WriteContentExpected(m.ctx, n.Checksum, h, b.size, b); err != nil {
		return err
	}
	return m.skip()
}

// skip passes over the rest of a file whose object was there already.
func (m *machine) skip() error {
	for !m.ended {
		o, err := m.inside()
		if err != nil {
			return err
		}
		switch o.code {
		case opSetSource:
			err = m.setSource(o.args[0])
		case opUnsetSource:
			err = m.unsetSource()
		case opClose:
			m.ended = true
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inside reads an operation of an open file.
func (m *machine) inside() (op, error) {
	o, err := m.step()
	if errors.Is(err, io.EOF) {
		return o, fmt.Errorf("%w: part ends inside a file", ErrCorrupt)
	}
	if err == nil && (o.code == opSplice || o.code == opOpen) {
		err = fmt.Errorf("%w: operation %c inside a file", ErrCorrupt, o.code)
	}
	return o, err
}

func (m *machine) setSource(off uint64) error {
	if err := m.unsetSource(); err != nil {
		return err
	}
	sum, err := m.part.sourceSum(off)
	m.sourceSum, m.sourceSet = sum, err == nil
	return err
}

func (m *machine) unsetSource() error {
	m.sourceSet = false
	if m.source == nil {
		return nil
	}
	err := m.source.Close()
	m.source = nil
	return err
}

func (m *machine) openSource() (*source, error) {
	if !m.sourceSet {
		return nil, fmt.Errorf("%w: patch without a source", ErrCorrupt)
	}
	if m.source != nil {
		return m.source, nil
	}
	s, err := openSource(m.to, m.tmp, m.sourceSum)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	m.old.reset(s, s.size)
	m.source = s
	return s, nil
}

// builder is the content of a file as its operations make it.
type builder struct {
	m    *machine
	size int64
	cur  io.Reader // of the current w or B
	err  error
}

// Read fills p if it can: the pieces are often of a few bytes, and each read becomes
// a write.
func (b *builder) Read(p []byte) (total int, err error) {
	for b.err == nil && total < len(p) {
		if b.cur == nil {
			b.err = b.advance()
			continue
		}
		n, err := b.cur.Read(p[total:])
		total += n
		if errors.Is(err, io.EOF) {
			b.cur, err = nil, nil
		}
		b.err = err
	}
	if total > 0 {
		return total, nil
	}
	return 0, b.err
}

// advance executes operations until one gives content or the file ends.
func (b *builder) advance() error {
	m := b.m
	o, err := m.inside()
	if err != nil {
		return err
	}
	switch o.code {
	case opSetSource:
		return m.setSource(o.args[0])
	case opUnsetSource:
		return m.unsetSource()
	case opClose:
		m.ended = true
		return io.EOF
	case opWrite:
		b.cur, err = b.write(o.args[0], o.args[1])
	case opPatch:
		b.cur, err = b.patch(o.args[0], o.args[1])
	}
	return err
}

func (b *builder) write(n, off uint64) (io.Reader, error) {
	if !b.m.sourceSet {
		return b.m.part.section(off, n)
	}
	s, err := b.m.openSource()
	if err != nil {
		return nil, err
	}
	if size := uint64(s.size); off > size || n > size-off {
		return nil, fmt.Errorf("%w: range %d+%d beyond the %d bytes of source %s", ErrCorrupt, off, n, size, b.m.sourceSum)
	}
	return io.NewSectionReader(s, int64(off), int64(n)), nil
}

func (b *builder) patch(off, n uint64) (io.Reader, error) {
	s, err := b.m.openSource()
	if err != nil {
		return nil, err
	}
	data, err := b.m.part.section(off, n)
	if err != nil {
		return nil, err
	}
	return newBspatcher(&b.m.old, s.size, data, b.size, b.m.buf), nil
}

// eof is content of no bytes.
type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

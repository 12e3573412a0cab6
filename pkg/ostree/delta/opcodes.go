// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// The operations of a part.
const (
	opSplice      = 'S' // a whole object from the data
	opOpen        = 'o' // begin a file
	opWrite       = 'w' // append from the source, or from the data if none is set
	opSetSource   = 'r'
	opUnsetSource = 'R'
	opPatch       = 'B' // append the result of a bsdiff patch against the source
	opClose       = 'c' // end the file
)

// op is one operation with its operands, in the order of the format.
type op struct {
	code byte
	args [4]uint64
}

// opReader decodes operations. What an S means depends on the type of the object
// that is due, so the caller tells.
type opReader struct {
	r     *bufio.Reader
	count int
	pos   int64 // of the next byte
}

func newOpReader(ops *io.SectionReader) *opReader {
	return &opReader{r: bufio.NewReaderSize(io.NewSectionReader(ops, 0, ops.Size()), 4096)}
}

// reset goes on with other operations.
func (o *opReader) reset(ops *io.SectionReader) { o.r.Reset(ops); o.count, o.pos = 0, 0 }

func (o *opReader) readByte() (byte, error) {
	b, err := o.r.ReadByte()
	if err == nil {
		o.pos++
	}
	return b, err
}

// next gives io.EOF after the last operation.
func (o *opReader) next(metadata bool) (op, error) {
	code, err := o.readByte()
	if err != nil {
		return op{}, err
	}
	n := 0
	switch code {
	case opSplice:
		n = 4
		if metadata {
			n = 2
		}
	case opOpen:
		n = 3
	case opWrite, opPatch:
		n = 2
	case opSetSource:
		n = 1
	case opUnsetSource, opClose:
	default:
		return op{}, fmt.Errorf("%w: operation %d: unknown opcode %#02x", ErrCorrupt, o.count, code)
	}
	out := op{code: code}
	for i := range n {
		if out.args[i], err = o.operand(); err != nil {
			return out, fmt.Errorf("operation %d (%c): %w", o.count, code, err)
		}
	}
	o.count++
	return out, nil
}

// operand reads an unsigned LEB128 number.
func (o *opReader) operand() (uint64, error) {
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		b, err := o.readByte()
		if errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("%w: operand is cut off", ErrCorrupt)
		}
		if err != nil {
			return 0, err
		}
		if shift == 63 && b > 1 {
			break
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: operand exceeds 64 bits", ErrCorrupt)
}

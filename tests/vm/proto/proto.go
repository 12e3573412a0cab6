// SPDX-License-Identifier: Apache-2.0

// Package proto is what the test harness and its agent inside the virtual
// machine say to each other over a serial line.
//
// A frame is the mark "HVM1", the type (1 byte), the request it belongs to
// (u32), the length of its data (u32), the CRC-32 of type, request and data
// (u32), then the data; numbers are little-endian. Either side may be killed in
// the middle of a frame, so a reader that meets anything else looks for the next
// mark.
package proto

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// Type says what a frame carries.
type Type byte

// Frames of the harness.
const (
	Ping Type = iota + 1 // answered with Hello
	Run                  // Command as JSON; answered with Stdout, Stderr and Exit
	Put                  // File as JSON; then PutData until an empty one; answered with Exit
	PutData
)

// Frames of the agent.
const (
	Hello Type = iota + 64 // Status as JSON: at start, and on Ping
	Stdout
	Stderr
	Exit // ExitStatus as JSON
)

// MaxData bounds the data of a frame in bytes.
const MaxData = 64 << 10

const headerSize = 17

var mark = []byte("HVM1")

// Frame is one message.
type Frame struct {
	Type Type
	ID   uint32 // the request; 0 for Hello and Ping
	Data []byte
}

// Status is the content of Hello.
type Status struct {
	BootID  string  `json:"bootId"`
	Agent   int     `json:"agent"`  // its process, another one after a restart without the kernel
	Uptime  float64 `json:"uptime"` // seconds
	Network string  `json:"network,omitempty"`
}

// Command is the content of Run.
type Command struct {
	Argv    []string `json:"argv"`
	Env     []string `json:"env,omitempty"` // added to the agent's
	Dir     string   `json:"dir,omitempty"`
	Stdin   []byte   `json:"stdin,omitempty"`
	Seconds float64  `json:"seconds,omitempty"` // until it is killed; 0 = never
}

// File is the content of Put.
type File struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"` // permission bits
}

// ExitStatus is the content of Exit.
type ExitStatus struct {
	Code  int    `json:"code"` // 128 + signal number for a killed program
	Error string `json:"error,omitempty"`
}

// Writer writes whole frames; it is safe for several goroutines.
type Writer struct {
	mu sync.Mutex
	w  io.Writer
}

// NewWriter returns a Writer on w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write sends one frame.
func (w *Writer) Write(f Frame) error {
	if len(f.Data) > MaxData {
		return fmt.Errorf("frame of %d bytes is too long", len(f.Data))
	}
	buf := make([]byte, headerSize, headerSize+len(f.Data))
	copy(buf, mark)
	buf[4] = byte(f.Type)
	binary.LittleEndian.PutUint32(buf[5:], f.ID)
	binary.LittleEndian.PutUint32(buf[9:], uint32(len(f.Data)))
	binary.LittleEndian.PutUint32(buf[13:], sum(f))
	buf = append(buf, f.Data...)
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.w.Write(buf)
	return err
}

// WriteJSON sends v as the data of one frame.
func (w *Writer) WriteJSON(t Type, id uint32, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.Write(Frame{Type: t, ID: id, Data: data})
}

func sum(f Frame) uint32 {
	head := binary.LittleEndian.AppendUint32([]byte{byte(f.Type)}, f.ID)
	return crc32.Update(crc32.ChecksumIEEE(head), crc32.IEEETable, f.Data)
}

// Reader reads frames and skips what is none.
type Reader struct{ r *bufio.Reader }

// NewReader returns a Reader on r.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 2*(MaxData+headerSize))}
}

// Read returns the next intact frame.
func (r *Reader) Read() (Frame, error) {
	for {
		f, err := r.try()
		if !errors.Is(err, errNoFrame) {
			return f, err
		}
		if _, err := r.r.Discard(1); err != nil {
			return Frame{}, err
		}
	}
}

var errNoFrame = errors.New("no frame here")

func (r *Reader) try() (Frame, error) {
	head, err := r.r.Peek(1)
	if err != nil {
		return Frame{}, err
	}
	if head[0] != mark[0] {
		return Frame{}, errNoFrame
	}
	head, err = r.r.Peek(headerSize)
	if err != nil {
		return Frame{}, err
	}
	size := binary.LittleEndian.Uint32(head[9:])
	if !bytes.HasPrefix(head, mark) || size > MaxData {
		return Frame{}, errNoFrame
	}
	whole, err := r.r.Peek(headerSize + int(size))
	if err != nil {
		return Frame{}, err
	}
	f := Frame{Type: Type(whole[4]), ID: binary.LittleEndian.Uint32(whole[5:]), Data: bytes.Clone(whole[headerSize:])}
	if sum(f) != binary.LittleEndian.Uint32(whole[13:]) {
		return Frame{}, errNoFrame
	}
	_, err = r.r.Discard(len(whole))
	return f, err
}

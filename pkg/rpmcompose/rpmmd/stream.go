// SPDX-License-Identifier: Apache-2.0

package rpmmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
)

// partSize is how much text is read at once, in bytes: small enough to stay in the processor's caches.
const partSize = 1 << 20

// maxPart bounds a part in which no package starts, in bytes. The largest package of real lists has 2 MB.
const maxPart = 64 << 20

// packageTag is where a list may be cut.
const packageTag = "<package "

// cut reads text and hands it out in parts of about size bytes that end where a package starts. A part in which
// none starts grows until one does. spare gives a buffer to use again, or nil.
func cut(text io.Reader, size int, spare func() []byte, emit func(part)) error {
	p := part{first: true}
	buf := make([]byte, 0, size)
	for {
		var err error
		for len(buf) < cap(buf) && err == nil {
			var n int
			n, err = text.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
		}
		if errors.Is(err, io.EOF) {
			p.text, p.last = buf, true
			emit(p)
			return nil
		}
		if err != nil {
			return err
		}
		at := lastStart(buf)
		if at <= 0 && cap(buf) >= maxPart {
			return fmt.Errorf("offset %d: no package starts in %d bytes: %w", p.from, len(buf), ErrSyntax)
		}
		if at <= 0 {
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
			continue
		}
		next := spare()
		if cap(next) < max(size, 2*(len(buf)-at)) {
			next = make([]byte, 0, max(size, 2*(len(buf)-at)))
		}
		next = append(next[:0], buf[at:]...)
		p.text = buf[:at]
		emit(p)
		p, buf = part{from: p.from + at}, next
	}
}

// lastStart finds a package that starts near the end, but not at the start; 0 or less if there is none.
func lastStart(buf []byte) int {
	for near := 64 << 10; ; near *= 4 {
		from := max(0, len(buf)-near)
		if at := bytes.Index(buf[from:], []byte(packageTag)); at >= 0 && from+at > 0 || from == 0 {
			return from + at
		}
	}
}

// readParts hands the parts of a text to workers in turn, which read them while more is decompressed. A worker
// that was given an error gets no more parts. The error of the text is returned alone: all of it comes before
// any finding about what it says.
func readParts(text io.Reader, size int, workers []func(part) error) (failed bool, err error) {
	queues := make([]chan part, len(workers))
	spare := make(chan []byte, 4*len(workers))
	results := make(chan error, len(workers))
	for i, work := range workers {
		queues[i] = make(chan part, 1)
		go func() {
			var err error
			for p := range queues[i] {
				if err == nil {
					err = work(p)
				}
				select {
				case spare <- p.text[:0]:
				default:
				}
			}
			results <- err
		}()
	}
	take := func() []byte {
		select {
		case b := <-spare:
			return b
		default:
			return nil
		}
	}
	n := 0
	err = cut(text, size, take, func(p part) {
		queues[n%len(queues)] <- p
		n++
	})
	for _, q := range queues {
		close(q)
	}
	for range workers {
		if e := <-results; e != nil {
			failed = true
		}
	}
	return failed, err
}

// readPrimary reads a primary list and gives its parsed form, without digest.
//
// The list is cut at what looks like the start of a package. If every part ends outside of any package, comment
// and CDATA, then so does the text before each cut, and the cuts were right. Otherwise the text is read once
// more in one piece, which settles it and gives messages their offset.
func readPrimary(text io.Reader, again func() ([]byte, error), size int) ([]byte, error) {
	readers := make([]*primaryReader, min(runtime.GOMAXPROCS(0), 4))
	batches := make([][]batch, len(readers))
	workers := make([]func(part) error, len(readers))
	for i := range readers {
		readers[i] = newPrimaryReader()
		workers[i] = func(p part) error {
			b, err := readers[i].read(p)
			batches[i] = append(batches[i], b)
			return err
		}
	}
	failed, err := readParts(text, size, workers)
	if err != nil {
		return nil, err
	}
	if failed {
		return readPrimaryWhole(again)
	}
	var all []batch
	for n := range batches[0] {
		for i := range batches {
			if n < len(batches[i]) {
				all = append(all, batches[i][n])
			}
		}
	}
	t := readers[0].tables
	for i := 1; i < len(readers); i++ {
		t.adopt(readers[i].tables, batches[i])
	}
	return encodeParsed(t, all), nil
}

func readPrimaryWhole(again func() ([]byte, error)) ([]byte, error) {
	text, err := again()
	if err != nil {
		return nil, err
	}
	r := newPrimaryReader()
	b, err := r.read(part{text: text, first: true, last: true})
	if err != nil {
		return nil, err
	}
	return encodeParsed(r.tables, []batch{b}), nil
}

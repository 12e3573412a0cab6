// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
)

// wordedError is a condition in the words that scripts written for libostree look
// for; callers print it without adding to it.
type wordedError struct {
	text string
	cond error
}

func (e *wordedError) Error() string { return e.text }
func (e *wordedError) Unwrap() error { return e.cond }

// worded makes an error that errors.Is finds to be cond and whose text is given.
func worded(cond error, format string, args ...any) error {
	return &wordedError{fmt.Sprintf(format, args...), cond}
}

// checksumError tells what the bytes of an object hash to.
type checksumError struct{ actual Checksum }

func (e *checksumError) Error() string { return ErrCorrupt.Error() + ": checksum " + e.actual.String() }
func (e *checksumError) Unwrap() error { return ErrCorrupt }

// Words gives the text of the first worded error in a chain: what libostree would
// say, without what was added on the way up.
func Words(err error) (text string, ok bool) {
	var w *wordedError
	if !errors.As(err, &w) {
		return "", false
	}
	return w.text, true
}

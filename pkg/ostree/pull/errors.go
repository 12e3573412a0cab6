// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"fmt"
)

// Conditions that callers test for with errors.Is.
var (
	// ErrNotFound: the server has no such file, or no such ref. A *StatusError in
	// the chain names the URL.
	ErrNotFound = errors.New("not found on the remote")
	// ErrNoVerifier: the remote wants signatures and the caller gave no means to
	// check them.
	ErrNoVerifier = errors.New("signature verification is required but not available")
	// ErrSignature: a commit or summary has no signature that the verifier accepts.
	ErrSignature = errors.New("signature verification failed")
	// ErrBinding: a commit belongs to other refs than the one it was pulled through.
	ErrBinding = errors.New("commit is not bound to the ref")
	// ErrDowngrade: the commit is older than what the ref holds now.
	ErrDowngrade = errors.New("commit is older than the current one")
	// ErrUnsupported: the remote is configured in a way that is not handled.
	ErrUnsupported = errors.New("not supported")
	// ErrNoDelta: static deltas are required and there is none that fits.
	ErrNoDelta = errors.New("no static delta")
	// ErrUnconfigured: the administrator must do something first; the text is that
	// of the remote's unconfigured-state.
	ErrUnconfigured = errors.New("remote is not configured")
	// ErrRemoteExists reports that AddRemote met a remote of that name.
	ErrRemoteExists = errors.New("remote exists")
	// ErrNoRemote reports a name that the configuration does not have.
	ErrNoRemote = errors.New("no such remote")
)

// Error is what Pull and FetchSummary return: which remote failed, and why. The
// text of Err alone is what the ostree program prints.
type Error struct {
	Remote string // its name and URL, without passwords
	Err    error
}

func (e *Error) Error() string { return "pull from " + e.Remote + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// condition is a message with a text of its own that is of some kind: scripts
// look for the texts of libostree, callers for the kind.
type condition struct {
	text string
	kind error
}

func (c *condition) Error() string { return c.text }

func (c *condition) Unwrap() error { return c.kind }

func sayf(kind error, format string, args ...any) error {
	return &condition{fmt.Sprintf(format, args...), kind}
}

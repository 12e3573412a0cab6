// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
)

// Code is one row of the table from errors to exit codes; help prints the same rows.
type Code struct {
	Status  int
	Meaning string
	Is      []error // any of them in the chain selects the row
}

// UsageError marks a wrong command line.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }
func (e UsageError) Unwrap() error { return e.Err }

// AnswerError is an exit status that is an answer and no failure: no line on
// standard error goes with it.
type AnswerError struct{ Err error }

func (e AnswerError) Error() string { return e.Err.Error() }
func (e AnswerError) Unwrap() error { return e.Err }

// Codes returns the rows that both programs share; each appends its own. full are
// the errors that mean a full disk, beside those of the system.
func Codes(full ...error) []Code {
	return []Code{
		{0, "success", nil},
		{1, "the operation went wrong; the line on standard error says why", nil},
		{2, "wrong usage", nil},
		{3, "another process holds the lock", []error{fsx.ErrLocked}},
		{4, "not enough space on disk", slices.Concat([]error{syscall.ENOSPC, syscall.EDQUOT}, full)},
		{130, "interrupted; nothing was changed", []error{context.Canceled}},
	}
}

// ExitCode maps an error to its status by the first row that matches.
func ExitCode(err error, table []Code) int {
	if err == nil {
		return 0
	}
	var usage UsageError
	if errors.As(err, &usage) {
		return 2
	}
	for _, row := range table {
		for _, target := range row.Is {
			if errors.Is(err, target) {
				return row.Status
			}
		}
	}
	return 1
}

// Report prints err as the one line that starts with "error:". Further lines of
// its text, such as the output of a program, follow with a bar before them; control
// characters are shown, not sent. Of an [AnswerError] nothing is printed.
func Report(w io.Writer, err error) {
	var answer AnswerError
	if errors.As(err, &answer) {
		return
	}
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	for i, line := range lines {
		lines[i] = Printable(strings.ReplaceAll(line, "\t", "    "))
	}
	fmt.Fprintln(w, "error:", strings.Join(lines, "\n  | "))
}

// CodesHelp formats the table for --help and the man pages.
func CodesHelp(table []Code) string {
	var b strings.Builder
	b.WriteString("Exit status:\n")
	sorted := slices.SortedFunc(slices.Values(table), func(a, b Code) int { return cmp.Compare(a.Status, b.Status) })
	for _, row := range sorted {
		fmt.Fprintf(&b, "  %-3d %s\n", row.Status, row.Meaning)
	}
	return b.String()
}

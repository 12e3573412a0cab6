// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// maxConsole bounds in bytes what ConsoleSince returns.
const maxConsole = 4 << 20

// ConsoleMark returns how many bytes the guest has written to its console so far,
// for ConsoleSince and WaitConsole.
func (v *VM) ConsoleMark() (int64, error) {
	st, err := os.Stat(v.path("console.log"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read console: %w", err)
	}
	return st.Size(), nil
}

// ConsoleSince returns what was written to the console since mark, without
// terminal escapes.
func (v *VM) ConsoleSince(mark int64) (string, error) {
	f, err := os.Open(v.path("console.log"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read console: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, mark, maxConsole))
	if err != nil {
		return "", fmt.Errorf("read console: %w", err)
	}
	return escapes.ReplaceAllString(string(data), ""), nil
}

// WaitConsole waits until text was written to the console since mark. ErrStopped
// where the machine ended before.
func (v *VM) WaitConsole(ctx context.Context, mark int64, text string) error {
	for {
		running := v.running() != nil // before reading: what was written last counts
		got, err := v.ConsoleSince(mark)
		if err != nil || strings.Contains(got, text) {
			return err
		}
		if !running {
			return fmt.Errorf("wait for %q on the console: %w", text, ErrStopped)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %q on the console: %w", text, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/internal/sys"
)

// Boot loaders read /boot without replaying its journal, so a synced but not
// checkpointed change may be invisible, or half visible, to them. Freezing a
// filesystem writes the journal back.

// watchdogTimeout is how long /boot may stay frozen if this process hangs.
const watchdogTimeout = 30 * time.Second

// flushBoot makes what was written to /boot visible to a boot loader.
func (s *Sysroot) flushBoot() error {
	if s.o.TestFreeze {
		return s.testFreeze()
	}
	if err := s.syncBoot(); err != nil || s.o.DisableFsync {
		return err
	}
	own, err := s.bootIsMount()
	if err != nil || !own || len(s.o.FreezeWatchdog) == 0 {
		return err
	}
	if err := s.freezeThaw(); err != nil {
		return fmt.Errorf("flush journal of /boot: %w", err)
	}
	return nil
}

// freezeThaw freezes /boot under the eyes of another process, which thaws it
// should this one be killed in between.
func (s *Sysroot) freezeThaw() (err error) {
	dog, err := startWatchdog(s.o.FreezeWatchdog, s.boot.File())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dog.dismiss()) }()
	fd := s.boot.Fd()
	defer runtime.KeepAlive(s.boot)
	err = sys.Freeze(fd)
	if sys.IsNotSupported(err) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EINVAL) {
		s.log.Debug("/boot cannot be frozen", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	return sys.Thaw(fd)
}

// testFreeze leaves the watchdog alone with a /boot that is not frozen.
func (s *Sysroot) testFreeze() error {
	dog, err := startWatchdog(s.o.FreezeWatchdog, s.boot.File())
	if err != nil {
		return err
	}
	err = errors.Join(dog.stdin.Close(), dog.cmd.Wait())
	return errors.Join(errors.New("During fsfreeze-thaw: aborting due to test-fifreeze"), err) //nolint:staticcheck // libostree's words
}

type watchdog struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func startWatchdog(argv []string, boot *os.File) (*watchdog, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.ExtraFiles = []*os.File{boot}
	cmd.Stderr = os.Stderr // what it says when it had to act
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start thaw watchdog: %w", err)
	}
	w := &watchdog{cmd: cmd, stdin: stdin}
	// Not before it watches: a watchdog that cannot start must not be relied on.
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		return nil, errors.Join(fmt.Errorf("start thaw watchdog: %w", err), w.dismiss())
	}
	return w, nil
}

func (w *watchdog) dismiss() error {
	_, werr := w.stdin.Write([]byte{'.'})
	return errors.Join(werr, w.stdin.Close(), w.cmd.Wait())
}

// ThawWatchdog is the body of the process that Options.FreezeWatchdog starts. It
// reports on out that it watches, and thaws boot (descriptor 3 of that process)
// when in ends or nothing is heard for 30 seconds; acted tells that it came to
// that. A byte from in dismisses it.
func ThawWatchdog(in io.Reader, out io.Writer, boot *os.File) (acted bool, err error) {
	if _, err := out.Write([]byte{'.'}); err != nil {
		return false, err
	}
	heard := make(chan bool, 1)
	go func() {
		n, _ := in.Read(make([]byte, 1))
		heard <- n == 1
	}()
	select {
	case dismissed := <-heard:
		if dismissed {
			return false, nil
		}
	case <-time.After(watchdogTimeout):
	}
	err = sys.Thaw(int(boot.Fd()))
	runtime.KeepAlive(boot)
	if errors.Is(err, syscall.EINVAL) {
		err = nil // was not frozen
	}
	return true, err
}

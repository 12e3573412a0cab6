// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/tests/vm"
)

// GuestURL is where machines of the lab find the repository.
const GuestURL = "http://10.0.2.100"

// Stateroot and Remote are the names that installed machines use.
const (
	Stateroot = "testdistro"
	Remote    = "testdistro"
)

// Server is a running `compose-server serve`.
type Server struct {
	Addr string
	URL  string
	cmd  *exec.Cmd
	once sync.Once
	err  error
}

// Serve starts the composer's HTTP server on a free port of the loopback.
func (l *Lab) Serve(ctx context.Context) (*Server, error) {
	argv := []string{l.ComposeServer(), "serve", "--repo", l.Repo, "--listen", "127.0.0.1:0"}
	fmt.Fprintf(l.Out, "$ %s &\n", l.show(argv))
	cmd := Command(ctx, argv...)
	cmd.Stderr = l.Out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &Server{cmd: cmd}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start server: %w", err), s.Close())
	}
	fmt.Fprintln(l.Out, line)
	_, url, ok := strings.Cut(strings.TrimSpace(line), " on ")
	if !ok {
		return nil, errors.Join(fmt.Errorf("start server: it said %q", line), s.Close())
	}
	s.URL = strings.TrimSuffix(url, "/")
	s.Addr = strings.TrimPrefix(s.URL, "http://")
	if _, _, err := net.SplitHostPort(s.Addr); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close stops the server.
func (s *Server) Close() error {
	s.once.Do(func() {
		_ = s.cmd.Process.Signal(os.Interrupt)
		s.err = s.cmd.Wait()
	})
	return s.err
}

// Rev gives the checksum of a revision of the lab's repository.
func (l *Lab) Rev(rev string) (string, error) {
	out, err := exec.Command("ostree", "--repo="+l.Repo, "rev-parse", rev).Output()
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", rev, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Install makes a sysroot with the first commit, which follows the repository at url.
func (l *Lab) Install(ctx context.Context, sysroot, url string) error {
	return l.install(ctx, sysroot, url, l.Ref+"^")
}

// install deploys a revision. A lab without a key has unsigned commits.
func (l *Lab) install(ctx context.Context, sysroot, url, rev string) error {
	commit, err := l.Rev(rev)
	if err != nil {
		return err
	}
	argv := []string{l.Hostctl(), "install", "--sysroot", sysroot, "--url", url, "--from", l.Repo, "--ref", l.Ref, "--commit", commit,
		"--remote", Remote, "--stateroot", Stateroot}
	if l.KeyFile == "" {
		argv = append(argv, "--no-gpg-verify")
	} else {
		argv = append(argv, "--gpg-import", l.KeyFile)
	}
	argv = append(argv, l.bootArgs()...)
	for _, k := range []string{"root=LABEL=root", "rw", "console=ttyS0", "quiet", "mitigations=off", "audit=0",
		"init_on_alloc=0", "random.trust_cpu=on", "no_timer_check", "cryptomgr.notests"} {
		argv = append(argv, "--karg", k)
	}
	return l.Run(ctx, argv...)
}

// kind tells machines apart that are made beside each other.
func (l *Lab) kind() string {
	s := ""
	for _, part := range []string{l.Boot, l.RootFS} {
		if part != "" {
			s += "-" + part
		}
	}
	return s
}

// Image makes a disk image with the first commit and the harness's agent in it.
func (l *Lab) Image(ctx context.Context) (image string, tools vm.Tools, err error) {
	return l.ImageOf(ctx, l.Ref+"^")
}

// ImageOf is Image with another revision.
func (l *Lab) ImageOf(ctx context.Context, rev string) (image string, tools vm.Tools, err error) {
	name := "sysroot" + l.kind()
	sysroot := filepath.Join(l.Dir, name)
	dir, err := fsx.OpenDir(l.Dir)
	if err != nil {
		return "", tools, err
	}
	defer dir.Close()
	if err := dir.RemoveAll(name); err != nil {
		return "", tools, err
	}
	if err := l.leadToMenu(sysroot); err != nil {
		return "", tools, err
	}
	if err := l.install(ctx, sysroot, GuestURL, rev); err != nil {
		return "", tools, err
	}
	if tools, err = vm.BuildTools(ctx, filepath.Join(l.Dir, "vm")); err != nil {
		return "", tools, err
	}
	root, err := dir.OpenDir(name)
	if err != nil {
		return "", tools, err
	}
	defer root.Close()
	if err := vm.AddAgent(root, Stateroot, tools); err != nil {
		return "", tools, err
	}
	image = filepath.Join(l.Dir, "disk"+l.kind()+".img")
	argv := append([]string{l.ComposeServer(), "image", "--sysroot", sysroot, "--output", image}, l.bootArgs()...)
	if err = l.Run(ctx, argv...); err == nil {
		err = l.convert(ctx, image, sysroot)
	}
	return image, tools, errors.Join(err, dir.RemoveAll(name))
}

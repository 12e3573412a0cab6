// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// smallFile is sent with one write, in bytes; sendfile needs a second one.
const smallFile = 64 << 10

// server is a plain file server in a process of its own, so that what it takes of
// processor and memory is not mixed with what is measured.
type server struct {
	url   string
	cmd   *exec.Cmd
	stdin io.Closer
}

// startServer runs this program as a server of dir.
func startServer(ctx context.Context, dir string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "--serve", dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the file server: %w", err)
	}
	s := &server{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the file server's address: %w", err), s.close())
	}
	s.url = strings.TrimSpace(line)
	return s, nil
}

func (s *server) close() error { return errors.Join(s.stdin.Close(), s.cmd.Wait()) }

// cpu is what the server has taken so far; 0 without a server.
func (s *server) cpu() (time.Duration, error) {
	if s == nil {
		return 0, nil
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may hold anything; utime and stime, in hundredths of a
	// second, are the 14th and 15th field.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, fmt.Errorf("read the file server's processor time: %w", err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

// serve answers GET requests for the files of dir until standard input ends. It
// says where on standard output.
func serve(dir string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Println("http://" + l.Addr().String()); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = l.Close()
	}()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go answer(c, dir)
	}
}

// answer serves one connection. It knows as much of HTTP as the programs ask for:
// no ranges, no conditions.
func answer(c net.Conn, dir string) {
	defer c.Close()
	in, buf := bufio.NewReader(c), make([]byte, 0, smallFile+1<<10)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if req.Method != http.MethodGet || sendFile(c, filepath.Join(dir, path.Clean("/"+req.URL.Path)), buf) != nil || req.Close {
			return
		}
	}
}

func sendFile(c net.Conn, name string, buf []byte) error {
	f, size, err := openFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		return err
	}
	if err != nil {
		return err
	}
	defer f.Close()
	buf = fmt.Appendf(buf[:0], "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", size)
	if size <= smallFile {
		head := len(buf)
		if _, err := io.ReadFull(f, buf[head:head+int(size)]); err != nil {
			return err
		}
		_, err = c.Write(buf[:head+int(size)])
		return err
	}
	if _, err := c.Write(buf); err != nil {
		return err
	}
	_, err = io.CopyN(c, f, size)
	return err
}

// openFile opens without the poller's system calls, which cost more than the file.
func openFile(name string) (*os.File, int64, error) {
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, 0, errors.Join(fs.ErrNotExist, err, syscall.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), st.Size, nil
}

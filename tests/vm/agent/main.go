// SPDX-License-Identifier: Apache-2.0

// Agent runs commands for the test harness inside of a virtual machine:
//
//	agent serve DEVICE        answer on a serial line
//	agent forward ADDRESS     on the host: join stdin and stdout to a TCP address
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/tests/vm/proto"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: agent serve DEVICE | agent forward ADDRESS")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(os.Args[2])
	case "forward":
		err = forward(os.Args[2])
	default:
		err = fmt.Errorf("unknown verb %q", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func serve(device string) error {
	line, err := openLine(device)
	if err != nil {
		return err
	}
	network := "up"
	if err := setUpNetwork(); err != nil {
		network = err.Error()
	}
	for {
		err := proto.NewServer(line, network).Serve(context.Background())
		if !errors.Is(err, io.EOF) {
			return err
		}
		// Nobody is connected to the other end.
		time.Sleep(100 * time.Millisecond)
	}
}

// openLine waits for the device, which the kernel finds in its own time. The
// file is blocking, since a virtual port does not tell its end through polling.
func openLine(device string) (*os.File, error) {
	deadline := time.Now().Add(time.Minute)
	for {
		fd, err := syscall.Open(device, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), device), nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("open %s: %w", device, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// forward copies both ways until the answering side ends.
func forward(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		if c, ok := conn.(*net.TCPConn); ok {
			_ = c.CloseWrite()
		}
	}()
	_, err = io.Copy(os.Stdout, conn)
	return err
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
	"unsafe"
)

// The guest's address in QEMU's user network.
var (
	guestAddress = [4]byte{10, 0, 2, 15}
	guestMask    = [4]byte{255, 255, 255, 0}
)

// setUpNetwork gives the first network card its address, so that the harness
// depends on no network service of the tested system.
func setUpNetwork() error {
	name, err := firstCard(10 * time.Second)
	if err != nil {
		return err
	}
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer syscall.Close(s)
	if err := setAddress(s, name, syscall.SIOCSIFADDR, guestAddress); err != nil {
		return fmt.Errorf("set address of %s: %w", name, err)
	}
	if err := setAddress(s, name, syscall.SIOCSIFNETMASK, guestMask); err != nil {
		return fmt.Errorf("set mask of %s: %w", name, err)
	}
	if err := setUp(s, name); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return nil
}

func firstCard(wait time.Duration) (string, error) {
	for end := time.Now().Add(wait); ; time.Sleep(100 * time.Millisecond) {
		cards, err := net.Interfaces()
		if err != nil {
			return "", err
		}
		for _, c := range cards {
			if c.Flags&net.FlagLoopback == 0 && len(c.HardwareAddr) == 6 {
				return c.Name, nil
			}
		}
		if time.Now().After(end) {
			return "", errors.New("no network card")
		}
	}
}

// ifreq is struct ifreq of linux/if.h.
type ifreq struct {
	name [16]byte
	data [24]byte
}

func setAddress(s int, name string, op uintptr, addr [4]byte) error {
	var r ifreq
	copy(r.name[:15], name)
	binary.NativeEndian.PutUint16(r.data[:], syscall.AF_INET)
	copy(r.data[4:], addr[:])
	return ioctl(s, op, &r)
}

func setUp(s int, name string) error {
	var r ifreq
	copy(r.name[:15], name)
	binary.NativeEndian.PutUint16(r.data[:], syscall.IFF_UP|syscall.IFF_RUNNING)
	return ioctl(s, syscall.SIOCSIFFLAGS, &r)
}

func ioctl(s int, op uintptr, r *ifreq) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), op, uintptr(unsafe.Pointer(r))); errno != 0 {
		return errno
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// ErrCaps: file capabilities in a form that is not understood.
var ErrCaps = errors.New("malformed file capabilities")

// CapabilityXattr is the attribute that holds file capabilities.
const CapabilityXattr = "security.capability"

// IMAXattr is the attribute that holds the signature of a file's content.
// Source: the kernel's Integrity Measurement Architecture, rpm's FILESIGNATURES.
const IMAXattr = "security.ima"

// capNames are the capabilities by number, from linux/capability.h.
var capNames = [...]string{"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
	"setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
	"sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
	"sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
	"mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
	"checkpoint_restore"}

type capSets struct{ effective, permitted, inheritable uint64 }

// EncodeCaps turns the text form of cap_from_text(3), such as
// "cap_net_raw,cap_net_admin=ep", into the value of security.capability,
// revision 2 of struct vfs_cap_data. No capability at all gives nil.
func EncodeCaps(text string) ([]byte, error) {
	var s capSets
	for clause := range strings.FieldsSeq(text) {
		if err := s.apply(strings.ToLower(clause)); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
	}
	if s.permitted|s.inheritable == 0 {
		return nil, nil
	}
	magic := uint32(0x02000000)
	if s.effective != 0 {
		// A file has one effective bit for all.
		if s.effective != s.permitted|s.inheritable {
			return nil, fmt.Errorf("%q: effective for some only: %w", text, ErrCaps)
		}
		magic |= 1
	}
	b := binary.LittleEndian.AppendUint32(nil, magic)
	for shift := 0; shift < 64; shift += 32 {
		b = binary.LittleEndian.AppendUint32(b, uint32(s.permitted>>shift))
		b = binary.LittleEndian.AppendUint32(b, uint32(s.inheritable>>shift))
	}
	return b, nil
}

func (s *capSets) apply(clause string) error {
	at := strings.IndexAny(clause, "=+-")
	if at < 0 {
		return ErrCaps
	}
	caps, err := parseCapList(clause[:at])
	if err != nil {
		return err
	}
	if at == 0 && clause[0] != '=' {
		return ErrCaps
	}
	for rest := clause[at:]; rest != ""; {
		op := rest[0]
		rest = rest[1:]
		n := strings.IndexAny(rest, "=+-")
		if n < 0 {
			n = len(rest)
		}
		if err := s.change(op, caps, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func (s *capSets) change(op byte, caps uint64, flags string) error {
	var e, p, i uint64
	for _, c := range flags {
		switch c {
		case 'e':
			e = caps
		case 'p':
			p = caps
		case 'i':
			i = caps
		default:
			return ErrCaps
		}
	}
	switch op {
	case '=':
		s.effective, s.permitted, s.inheritable = s.effective&^caps|e, s.permitted&^caps|p, s.inheritable&^caps|i
	case '+':
		s.effective, s.permitted, s.inheritable = s.effective|e, s.permitted|p, s.inheritable|i
	case '-':
		s.effective, s.permitted, s.inheritable = s.effective&^e, s.permitted&^p, s.inheritable&^i
	}
	return nil
}

func parseCapList(list string) (uint64, error) {
	if list == "" || list == "all" {
		return 1<<len(capNames) - 1, nil
	}
	var set uint64
	for name := range strings.SplitSeq(list, ",") {
		found := false
		for n, known := range capNames {
			if name == "cap_"+known {
				set |= 1 << n
				found = true
			}
		}
		if !found {
			return 0, fmt.Errorf("capability %q: %w", name, ErrCaps)
		}
	}
	return set, nil
}

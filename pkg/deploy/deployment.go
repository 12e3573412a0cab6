// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/etcmerge"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// Deployment is one bootable tree: a checkout of a commit with its own /etc.
// Stateroot, Checksum and Serial identify it.
type Deployment struct {
	Stateroot    string          `json:"stateroot"`
	Checksum     ostree.Checksum `json:"checksum"`
	Serial       int             `json:"serial"` // tells deployments of one commit apart
	BootChecksum string          `json:"bootChecksum"`
	BootSerial   int             `json:"bootSerial"` // tells deployments of one BootChecksum apart

	Index   int       `json:"index"` // position in the boot order, 0 is the default
	Version string    `json:"version,omitempty"`
	Time    time.Time `json:"timestamp"` // of the commit
	Title   string    `json:"title,omitempty"`
	Kargs   bls.Kargs `json:"kargs"` // without ostree=
	Origin  Origin    `json:"origin"`
	UKI     bool      `json:"uki,omitempty"` // it boots a unified kernel image

	Booted             bool `json:"booted"`
	Staged             bool `json:"staged"`
	Pinned             bool `json:"pinned"`
	FinalizationLocked bool `json:"finalizationLocked,omitempty"`
	// EtcPolicy is what a staged deployment's merge of /etc will follow.
	EtcPolicy *etcmerge.Policy `json:"etcPolicy,omitempty"`
	// Unlocked is how /usr was made writable; "" means that it was not.
	Unlocked UnlockMode `json:"unlocked,omitempty"`
	// BootedWell tells that a boot of it was found good.
	BootedWell bool `json:"bootedWell,omitempty"`

	// overlays are checksums of overlay initrds, or initrd lines of other forms;
	// extra are unknown BLS keys. Another tool's are kept as they are.
	overlays []string
	extra    []bls.Field
}

// Name returns CHECKSUM.SERIAL, the name of the deployment's directory.
func (d Deployment) Name() string { return fmt.Sprintf("%s.%d", d.Checksum, d.Serial) }

// Dir returns the deployment's directory relative to the sysroot.
func (d Deployment) Dir() string { return path.Join(deployDir(d.Stateroot), d.Name()) }

// Same reports whether both are the same deployment on disk.
func (d Deployment) Same(o Deployment) bool {
	return d.Stateroot == o.Stateroot && d.Checksum == o.Checksum && d.Serial == o.Serial
}

// bootDir returns where below /boot the kernel is.
func (d Deployment) bootDir() string { return "ostree/" + d.Stateroot + "-" + d.BootChecksum }

// bootLink returns the value of ostree= for boot version v.
func (d Deployment) bootLink(v int) string {
	return fmt.Sprintf("/ostree/boot.%d/%s/%s/%d", v, d.Stateroot, d.BootChecksum, d.BootSerial)
}

func stateDir(stateroot string) string  { return path.Join("ostree/deploy", stateroot) }
func deployDir(stateroot string) string { return path.Join(stateDir(stateroot), "deploy") }

// parseName splits CHECKSUM.SERIAL.
func parseName(name string) (ostree.Checksum, int, error) {
	sum, serial, ok := strings.Cut(name, ".")
	if !ok {
		return ostree.Checksum{}, 0, fmt.Errorf("deployment name %q: no serial", name)
	}
	c, err := ostree.ParseChecksum(sum)
	if err != nil {
		return ostree.Checksum{}, 0, fmt.Errorf("deployment name %q: %w", name, err)
	}
	n, err := parseSerial(serial)
	if err != nil {
		return ostree.Checksum{}, 0, fmt.Errorf("deployment name %q: %w", name, err)
	}
	return c, n, nil
}

func parseSerial(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("serial %q is no decimal number", s)
	}
	return int(n), nil
}

// bootTarget is a parsed ostree= argument.
type bootTarget struct {
	version            int
	stateroot, bootsum string
	serial             int
}

func (b bootTarget) link() string {
	return fmt.Sprintf("ostree/boot.%d/%s/%s/%d", b.version, b.stateroot, b.bootsum, b.serial)
}

// parseBootLink reads /ostree/boot.V/STATEROOT/BOOTCSUM/BOOTSERIAL.
func parseBootLink(s string) (bootTarget, error) {
	bad := func() (bootTarget, error) { return bootTarget{}, fmt.Errorf("ostree= argument %q: bad form", s) }
	parts := strings.Split(strings.TrimSuffix(s, "/"), "/")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "ostree" || !validStateroot(parts[3]) || !isSHA256(parts[4]) {
		return bad()
	}
	n, err := parseSerial(parts[5])
	if err != nil {
		return bad()
	}
	t := bootTarget{stateroot: parts[3], bootsum: parts[4], serial: n}
	switch parts[2] {
	case "boot.0":
	case "boot.1":
		t.version = 1
	default:
		return bad()
	}
	return t, nil
}

func isSHA256(s string) bool {
	_, err := ostree.ParseChecksum(s)
	return err == nil
}

// validStateroot allows what is safe as a directory name and in a ref.
func validStateroot(s string) bool {
	return len(s) <= 200 && regexp.MustCompile(`^[A-Za-z0-9_][-._A-Za-z0-9]*$`).MatchString(s)
}

// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"errors"
	"fmt"

	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// ErrNotSupported reports a setting that asks for what the kernel or the filesystem
// can't do. Booting on in another mode would silently drop a protection that the
// owner of the machine asked for.
var ErrNotSupported = errors.New("boot mode not supported")

// Config is what prepare-root.conf says. The zero value is the format's default.
type Config struct {
	// ReadOnlySysroot makes the physical root read-only at /sysroot; nil
	// leaves the decision to the repository's configuration.
	ReadOnlySysroot *bool
	// TransientEtc puts a memory overlay over the deployment's default /usr/etc.
	TransientEtc bool
	// TransientRoot puts a memory overlay over the whole deployment,
	// TransientRootReadOnly one that stays read-only.
	TransientRoot, TransientRootReadOnly bool
	Composefs                            Composefs
}

// Use says whether something is used.
type Use uint8

// The ways; Maybe is where it is there.
const (
	No Use = iota
	Maybe
	Yes
)

// Composefs says how the root is made of the deployment's composefs image.
type Composefs struct {
	Use Use
	// Verity has the kernel check every file against the digest in the image, by
	// fs-verity. Signed does so for the image, too, against the digest in the commit,
	// which a key in KeyPath has signed.
	Verity, Signed bool
	KeyPath        string // of ed25519 keys; "" means DefaultKeyPath
}

// DefaultKeyPath is where the initramfs has the keys for signed composefs images.
const DefaultKeyPath = "/etc/ostree/initramfs-root-binding.key"

// Keys is the file with the keys.
func (c Composefs) Keys() string {
	if c.KeyPath == "" {
		return DefaultKeyPath
	}
	return c.KeyPath
}

// set takes the value of [composefs] enabled.
func (c *Composefs) set(value string) error {
	switch value {
	case "signed":
		c.Use, c.Verity, c.Signed = Yes, true, true
		return nil
	case "verity":
		c.Use, c.Verity, c.Signed = Yes, true, false
		return nil
	}
	use, err := parseUse(value)
	if err != nil {
		return err
	}
	c.Use, c.Verity, c.Signed = use, false, false
	return nil
}

// override takes the kernel argument ostree.prepare-root.composefs=. Only "signed"
// asks for signatures then, and what the configuration says of fs-verity stays, as
// libostree has it.
func (c *Composefs) override(value string) error {
	if value == "signed" {
		return c.set(value)
	}
	use, err := parseUse(value)
	if err != nil {
		return err
	}
	c.Use, c.Signed = use, false
	return nil
}

func parseUse(s string) (Use, error) {
	switch s {
	case "yes", "true", "1":
		return Yes, nil
	case "no", "false", "0":
		return No, nil
	case "maybe":
		return Maybe, nil
	}
	return No, fmt.Errorf("%q is none of yes, no, maybe, signed, verity", s)
}

// ParseConfig reads the vendor's prepare-root.conf and the administrator's
// override; either may be nil. A key of the override replaces the vendor's.
// Unknown keys are left alone, since the file is shared with other programs
// and grows with them.
func ParseConfig(vendor, override []byte) (Config, error) {
	var c Config
	for _, src := range []struct {
		name string
		data []byte
	}{{"vendor", vendor}, {"override", override}} {
		f, err := keyfile.Parse(src.data)
		if err != nil {
			return Config{}, fmt.Errorf("parse %s prepare-root.conf: %w", src.name, err)
		}
		if err := c.apply(f); err != nil {
			return Config{}, fmt.Errorf("%s prepare-root.conf: %w", src.name, err)
		}
	}
	if c.TransientRoot && c.TransientRootReadOnly {
		return Config{}, errors.New("prepare-root.conf: [root] has both transient and transient-ro")
	}
	return c, nil
}

func (c *Config) apply(f *keyfile.File) error {
	var err error
	if _, ok := f.Get("sysroot", "readonly"); ok {
		ro, err := f.GetBool("sysroot", "readonly")
		if err != nil {
			return err
		}
		c.ReadOnlySysroot = &ro
	}
	if c.TransientEtc, err = f.BoolOr("etc", "transient", c.TransientEtc); err != nil {
		return err
	}
	if c.TransientRoot, err = f.BoolOr("root", "transient", c.TransientRoot); err != nil {
		return err
	}
	if c.TransientRootReadOnly, err = f.BoolOr("root", "transient-ro", c.TransientRootReadOnly); err != nil {
		return err
	}
	if _, ok := f.Get("composefs", "enabled"); ok {
		enabled, err := f.GetString("composefs", "enabled")
		if err == nil {
			err = c.Composefs.set(enabled)
		}
		if err != nil {
			return fmt.Errorf("[composefs] enabled: %w", err)
		}
	}
	c.Composefs.KeyPath, err = f.StringOr("composefs", "keypath", c.Composefs.KeyPath)
	return err
}

// transientRoot is for both kinds.
func (c Config) transientRoot() bool { return c.TransientRoot || c.TransientRootReadOnly }

// legacyReadOnly reads [sysroot] readonly of a repository configuration, where
// systems older than prepare-root.conf keep it.
func legacyReadOnly(repoConfig []byte) (bool, error) {
	f, err := keyfile.Parse(repoConfig)
	if err != nil {
		return false, fmt.Errorf("parse repository config: %w", err)
	}
	ro, err := f.BoolOr("sysroot", "readonly", false)
	if err != nil {
		return false, fmt.Errorf("repository config: %w", err)
	}
	return ro, nil
}

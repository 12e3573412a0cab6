// SPDX-License-Identifier: Apache-2.0

package prepareroot

import (
	"errors"
	"fmt"

	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// ErrNotSupported reports a setting that asks for a boot mode which this
// program does not implement. Booting on in another mode would silently drop a
// protection that the owner of the machine asked for.
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
	// Composefs is the text of [composefs] enabled, or of the kernel argument
	// ostree.prepare-root.composefs= that overrides it.
	Composefs string
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
	c.Composefs, err = f.StringOr("composefs", "enabled", c.Composefs)
	return err
}

// check refuses what Plan can't carry out.
func (c Config) check() error {
	if c.TransientRootReadOnly {
		return fmt.Errorf("[root] transient-ro: %w", ErrNotSupported)
	}
	switch c.Composefs {
	case "", "no", "false", "0", "maybe":
		return nil
	}
	return fmt.Errorf("composefs %q: %w", c.Composefs, ErrNotSupported)
}

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

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"

	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// ConfigValue gives a value of the config, without the escapes of the file. An
// absent group or key is an error wrapping ErrNotFound.
func (r *Repo) ConfigValue(group, key string) (string, error) {
	if _, ok := r.cfg.Get(group, key); ok {
		return r.cfg.GetString(group, key)
	}
	if !r.cfg.HasGroup(group) {
		return "", worded(ErrNotFound, "Key file does not have group “%s”", clip(group))
	}
	return "", worded(ErrNotFound, "Key file does not have key “%s” in group “%s”", clip(key), clip(group))
}

// SetConfigValue sets one value in the config file, durably; the file gets it with
// escapes. The open Repo goes on with the settings that it has: also values that the
// next Open will refuse are written, the mode among them, so that a config can be
// changed and repaired.
func (r *Repo) SetConfigValue(group, key, value string) error {
	return r.editConfig(func(cfg *keyfile.File) (bool, error) { return true, cfg.SetString(group, key, value) })
}

// UnsetConfigValue removes one value from the config file; an absent one is no
// error.
func (r *Repo) UnsetConfigValue(group, key string) error {
	return r.editConfig(func(cfg *keyfile.File) (bool, error) { return cfg.Remove(group, key), nil })
}

// editConfig changes the file as it is now, which may be newer than what was read
// at Open.
func (r *Repo) editConfig(change func(*keyfile.File) (changed bool, err error)) error {
	data, err := r.dir.ReadFile(configName, maxConfig)
	if err != nil {
		return err
	}
	cfg, err := keyfile.Parse(data)
	if err != nil {
		return fmt.Errorf("parse config: %w", err)
	}
	changed, err := change(cfg)
	if err != nil || !changed {
		return err
	}
	if err := r.dir.WriteFileAtomic(configName, cfg.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write config: %w", err)
	}
	return nil
}

// enableInConfig sets a switch in the file unless it is on.
func (r *Repo) enableInConfig(group, key string) error {
	return r.editConfig(func(cfg *keyfile.File) (bool, error) {
		on, err := cfg.BoolOr(group, key, false)
		var bad *keyfile.ValueError
		if on || err != nil && !errors.As(err, &bad) {
			return false, err
		}
		return true, cfg.SetBool(group, key, true)
	})
}

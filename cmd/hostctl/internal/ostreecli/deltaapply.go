// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree/delta"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

func deltaApplyOffline() *verb {
	keys := &signKeys{}
	return &verb{
		name: "apply-offline", summary: "Apply static delta file",
		opts: []option{keys.typeOption(0), keys.fileOption(), keys.dirOption()},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) < 1 {
				return failf("PATH must be specified")
			}
			verify, err := deltaCheck(c, keys, c.args[1:])
			if err != nil {
				return err
			}
			path, file := c.args[0], ""
			st, err := os.Stat(path)
			if err != nil {
				return err
			}
			if !st.IsDir() {
				path, file = filepath.Dir(path), filepath.Base(path)
			}
			dir, err := fsx.OpenDir(path)
			if err != nil {
				return err
			}
			defer dir.Close()
			d, err := delta.ApplyOffline(ctx, c.repo, dir, delta.OfflineOptions{Superblock: file, Verify: verify})
			switch {
			case errors.Is(err, delta.ErrNoSource) && d != nil:
				return failf("Commit %s, which is the delta source, is not in repository", d.Name.From)
			case errors.Is(err, delta.ErrFallback):
				return failf("Cannot execute delta offline: contains nonempty http fallback entries")
			}
			return err
		},
	}
}

// deltaCheck gives the signature check of apply-offline: unsigned deltas pass, and
// without any key so do signed ones, unless core.sign-verify-deltas forbids that.
func deltaCheck(c *call, keys *signKeys, args []string) (func(*delta.Delta) error, error) {
	must, err := c.repo.Config().BoolOr("core", "sign-verify-deltas", false)
	if err != nil {
		return nil, err
	}
	v, err := keys.verifier(args)
	if err != nil {
		if len(args) > 0 || keys.file.set || keys.dir.set || sign.CheckType(keys.name()) != nil {
			return nil, err
		}
		v = nil // the system trusts no keys
	}
	return func(d *delta.Delta) error {
		switch {
		case !d.Signed:
			return nil
		case v == nil && must:
			return failf("Key is mandatory to check delta signature")
		case v == nil:
			return nil
		}
		_, err := verifyDelta(v, d)
		return err
	}, nil
}

func verifyDelta(v *sign.Verifier, d *delta.Delta) (sign.Match, error) {
	if !d.Signed {
		return sign.Match{}, failf("no signatures in static-delta")
	}
	key := sign.MetadataKey(v.Type())
	if len(sign.Signatures(d.Signatures, key)) == 0 {
		return sign.Match{}, failf("no signature for '%s' in static-delta superblock", key)
	}
	return v.VerifyDict(d.SignedData, d.Signatures)
}

func deltaVerify() *verb {
	keys := &signKeys{}
	return &verb{
		name: "verify", args: "STATIC-DELTA-FILE [KEY-ID...]", summary: "Verify static delta signatures",
		opts: []option{keys.typeOption(0), keys.fileOption(), keys.dirOption()},
		run: func(_ context.Context, c *call) error {
			if len(c.args) < 1 {
				return failf("DELTA must be specified")
			}
			if err := sign.CheckType(keys.name()); err != nil {
				c.printf("Sign-type not supported\n")
				return err
			}
			v, err := keys.verifier(c.args[1:])
			if err != nil {
				return err
			}
			d, dir, err := c.loadDelta(c.args[0])
			if err == nil {
				_, err = verifyDelta(v, d)
				err = errors.Join(err, dir.Close())
			}
			if err != nil {
				c.printf("Verification fails\n")
				return err
			}
			c.printf("Verification OK\n")
			return nil
		},
	}
}

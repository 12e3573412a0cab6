// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// skew is how far a clock may be behind that of the builder without a word.
const skew = 10 * time.Minute

// hint adds to an error of a pull what to do about it: a clock that is wrong shows as
// certificates and signatures that are not valid, a full disk as a number of bytes.
// newest is the time of the commit that the host runs, zero if not known.
func hint(err error, now, newest time.Time) error {
	switch {
	case ostree.DiskFull(err):
		return fmt.Errorf("%w; \"hostctl cleanup\" frees what nothing needs", err)
	case !aboutTime(err):
		return err
	case now.Add(skew).Before(newest):
		return fmt.Errorf("%w; the clock of this machine says %s, but it runs a system of %s: set the clock", err, stamp(now), stamp(newest))
	}
	return fmt.Errorf("%w; if the clock of this machine is wrong, that is why: it says %s", err, stamp(now))
}

// aboutTime reports an error that a wrong clock can cause.
func aboutTime(err error) bool {
	var cert x509.CertificateInvalidError
	if errors.As(err, &cert) && cert.Reason == x509.Expired {
		return true
	}
	for _, target := range []error{sign.ErrExpired, sign.ErrKeyExpired, pull.ErrExpired} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// maxIdle is how long after the newest commit, in years, a clock is believed: those
// without a battery begin anywhere, and often decades ahead.
const maxIdle = 10

// clockWarning warns of a commit that is newer than the clock allows, or decades older.
func clockWarning(commit, now time.Time) string {
	if commit.IsZero() || !commit.After(now.Add(skew)) && now.Before(commit.AddDate(maxIdle, 0, 0)) {
		return ""
	}
	return fmt.Sprintf("the new commit is of %s, but the clock of this machine says %s: one of the two clocks is wrong", stamp(commit), stamp(now))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

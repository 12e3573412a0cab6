// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// MaxOutstanding is the largest sensible Network.Outstanding: each request has
// buffers of its own, and memory is bounded.
const MaxOutstanding = 64

// number reads a key that holds a number from lo to hi.
func (r *remoteReader) number(key string, lo, hi int64) (n int64, found bool) {
	cfg := r.has(key)
	if cfg == nil {
		return 0, false
	}
	n, err := cfg.GetInt(r.group, key)
	if err == nil && (n < lo || n > hi) {
		err = fmt.Errorf("%w: key %s of group %q: %d is not within %d and %d", ostree.ErrInvalid, key, r.group, n, lo, hi)
	}
	r.err = errors.Join(r.err, err)
	return n, err == nil
}

// network reads how transfers from a remote are tuned. The keys have the names of
// libostree's pull options; libostree itself takes those from its callers only.
func (r *remoteReader) network() Network {
	var n Network
	if v, ok := r.number("low-speed-limit-bytes", 0, math.MaxUint32); ok {
		n.LowSpeedBytes = orOff(v)
	}
	if v, ok := r.number("low-speed-time-seconds", 0, math.MaxInt32); ok {
		n.LowSpeedTime = time.Duration(orOff(v)) * time.Second
	}
	if v, ok := r.number("network-retries", 0, math.MaxInt32); ok {
		n.Retries = int(orOff(v))
	}
	if v, ok := r.number("max-outstanding-fetcher-requests", 1, MaxOutstanding); ok {
		n.Outstanding = int(v)
	}
	n.FailOnNetworkErrors = !r.bool("retry-all-network-errors", true)
	return n
}

// orOff writes the zero of a configuration as the fields of Network have it.
func orOff(v int64) int64 {
	if v == 0 {
		return -1
	}
	return v
}

// or takes from the remote's configuration what the request leaves open.
func (n Network) or(remote Network) Network {
	if n.Outstanding == 0 {
		n.Outstanding = remote.Outstanding
	}
	if n.Retries == 0 {
		n.Retries = remote.Retries
	}
	if n.LowSpeedBytes == 0 {
		n.LowSpeedBytes = remote.LowSpeedBytes
	}
	if n.LowSpeedTime == 0 {
		n.LowSpeedTime = remote.LowSpeedTime
	}
	n.FailOnNetworkErrors = n.FailOnNetworkErrors || remote.FailOnNetworkErrors
	return n
}

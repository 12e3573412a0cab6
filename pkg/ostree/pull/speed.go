// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"time"
)

// speed ends a transfer that delivers too little for too long. Only the time
// spent waiting for the network counts, not the time that storing takes.
type speed struct {
	limit   int64 // bytes per second
	window  time.Duration
	cancel  context.CancelCauseFunc
	timer   *time.Timer // made by the first read that waits
	began   time.Time   // zero between two such reads
	waited  time.Duration
	got     int64
	tooSlow *atomic.Bool
}

func (s *speed) stalled() bool { return s.tooSlow != nil && s.tooSlow.Load() }

// watched tells whether slow transfers are ended at all.
func (n Network) watched() bool { return n.LowSpeedBytes >= 0 && n.LowSpeedTime >= 0 }

// headerTimeout is how long a server may take to answer, 0 for ever.
func (n Network) headerTimeout() time.Duration {
	if !n.watched() {
		return 0
	}
	return max(n.LowSpeedTime, n.ConnectTimeout)
}

func (s *speed) start(n Network, cancel context.CancelCauseFunc) {
	s.stop()
	*s = speed{}
	if n.watched() {
		*s = speed{limit: n.LowSpeedBytes, window: n.LowSpeedTime, cancel: cancel}
	}
}

func (s *speed) stop() {
	if s.timer != nil {
		s.timer.Stop()
	}
}

// before arms the timer that ends a read without any data. A read that does not wait
// needs no call.
func (s *speed) before() {
	if s.cancel == nil {
		return
	}
	s.began = time.Now()
	if s.timer != nil {
		s.timer.Reset(s.window)
		return
	}
	tooSlow, cancel := new(atomic.Bool), s.cancel
	s.tooSlow = tooSlow
	s.timer = time.AfterFunc(s.window, func() {
		tooSlow.Store(true)
		cancel(errStalled)
	})
}

// after judges the average over each window.
func (s *speed) after(n int) error {
	s.got += int64(n)
	if s.began.IsZero() {
		return nil
	}
	s.timer.Stop()
	s.waited += time.Since(s.began)
	s.began = time.Time{}
	if s.waited < s.window {
		return nil
	}
	slow := float64(s.got) < float64(s.limit)*s.waited.Seconds()
	s.waited, s.got = 0, 0
	if slow {
		s.tooSlow.Store(true)
		return errStalled
	}
	return nil
}

// isCertificate tells errors of TLS that no retry cures.
func isCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host)
}

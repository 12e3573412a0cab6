// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

const (
	mirrorlistPrefix = "mirrorlist="
	maxMirrorlist    = 1 << 20 // bytes
	maxMirrors       = 64      // of a list; the rest is ignored
)

// parseMirrorlist reads a text file of one URL a line; empty lines, comments and
// what is no http or https URL are passed over.
func parseMirrorlist(data []byte) []*url.URL {
	var out []*url.URL
	for line := range strings.SplitSeq(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		u, err := url.Parse(line)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			continue
		}
		if out = append(out, u); len(out) == maxMirrors {
			break
		}
	}
	return out
}

// bases turns a configured location into the addresses to try, in order.
func (h *httpSource) bases(ctx context.Context, where string) ([]*url.URL, error) {
	list, ok := strings.CutPrefix(where, mirrorlistPrefix)
	if !ok {
		u, err := webURL(where)
		if err != nil {
			return nil, err
		}
		return []*url.URL{u}, nil
	}
	u, err := webURL(list)
	if err != nil {
		return nil, err
	}
	f, err := h.getURL(ctx, u, request{max: maxMirrorlist})
	if err != nil {
		return nil, fmt.Errorf("While fetching mirrorlist '%s': %w", u.Redacted(), err) //nolint:staticcheck // ST1005: the words scripts know
	}
	mirrors := h.firstAlive(ctx, parseMirrorlist(f.data))
	if len(mirrors) == 0 {
		return nil, sayf(ErrNotFound, "No valid mirrors were found in mirrorlist '%s'", u.Redacted())
	}
	return mirrors, nil
}

// firstAlive drops mirrors from the front until one serves a config: every
// request begins with the first one, so that one should work.
func (h *httpSource) firstAlive(ctx context.Context, mirrors []*url.URL) []*url.URL {
	for i, m := range mirrors {
		_, err := h.getURL(ctx, m.JoinPath("config"), request{max: keyfile.MaxSize})
		if err == nil {
			return mirrors[i:]
		}
		h.log.Info("skip mirror", "url", m.Redacted(), "error", err)
	}
	return nil
}

// webURL parses an http or https URL.
func webURL(where string) (*url.URL, error) {
	u, err := url.Parse(where)
	if err != nil {
		return nil, fmt.Errorf("parse url %q: %w", clip(where), errors.Unwrap(err))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, sayf(ErrUnsupported, "Invalid URI scheme in %s; only http and https are supported here", clip(where))
	}
	return u, nil
}

// SPDX-License-Identifier: Apache-2.0

package assemble

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// ErrLoop: symbolic links of packages form a loop.
var ErrLoop = errors.New("symbolic links form a loop")

// maxLinks is what the kernel follows in one lookup.
const maxLinks = 40

// links are the symbolic links of all packages by path, relative to the root.
type links struct {
	targets map[string]string
	cache   map[string]string
}

// resolve follows every link of a relative path as the kernel would with the
// tree as its root, so ".." at the top stays there. A path that is in no
// package is fine: it is where a directory will be made.
func (l *links) resolve(p string) (string, error) {
	if p == "." || p == "" {
		return ".", nil
	}
	if r, ok := l.cache[p]; ok {
		return r, nil
	}
	budget := maxLinks
	r, err := l.follow(p, &budget)
	if err == nil {
		l.cache[p] = r
	}
	return r, err
}

func (l *links) follow(p string, budget *int) (string, error) {
	done := "."
	rest := strings.Split(p, "/")
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		target, ok := l.targets[next]
		if !ok {
			done = next
			continue
		}
		if *budget--; *budget < 0 {
			return "", fmt.Errorf("/%s: %w", p, ErrLoop)
		}
		if strings.HasPrefix(target, "/") {
			done = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done, nil
}

// SPDX-License-Identifier: Apache-2.0

package distro

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// How long the cache keeps what no build uses any more, and what an interrupted
// build left behind.
const (
	keepUnused   = 14 * 24 * time.Hour
	keepLeftover = 24 * time.Hour
)

// used names the cache entries of this build, relative to the cache.
func used(plan *Plan, jobs []job) map[string]bool {
	m := map[string]bool{}
	for _, st := range plan.States {
		for _, p := range st.Packages {
			m[filepath.Join("debs", p.SHA256+".deb")] = true
		}
	}
	for _, j := range jobs {
		m[filepath.Join("rpms", j.key)] = true
	}
	return m
}

// trimCache marks the used entries as young and removes old ones.
func trimCache(cache string, used map[string]bool, now time.Time) error {
	for name := range used {
		if err := os.Chtimes(filepath.Join(cache, name), now, now); err != nil {
			return err
		}
	}
	for _, folder := range []string{"debs", "rpms", "."} {
		entries, err := os.ReadDir(filepath.Join(cache, folder))
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := filepath.Join(folder, e.Name())
			limit := keepUnused
			if leftover(e.Name()) {
				limit = keepLeftover
			} else if folder == "." || used[name] {
				continue
			}
			info, err := e.Info()
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if now.Sub(info.ModTime()) < limit {
				continue
			}
			if err := os.RemoveAll(filepath.Join(cache, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func leftover(name string) bool {
	for _, prefix := range []string{"work-", "db-", "incoming-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

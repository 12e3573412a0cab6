// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"fmt"
	"path"
	"strings"

	"github.com/hostctl/hostctl/pkg/etcmerge"
)

// The group of the repository's config with the settings of a sysroot, beside
// libostree's [sysroot].
const settingsGroup = "hostctl"

// EtcConflicts says what an upgrade does about conflicts in /etc.
type EtcConflicts string

// The ways. KeepLocal keeps the local side and saves the new default beside it;
// FailOnConflict stops before anything is staged.
const (
	KeepLocal      EtcConflicts = "keep"
	FailOnConflict EtcConflicts = "fail"
)

// Settings are the defaults of a sysroot for what a command line does not say.
type Settings struct {
	EtcConflicts EtcConflicts `json:"etcConflicts"`         // etc-conflicts
	EtcReplace   []string     `json:"etcReplace,omitempty"` // etc-replace, relative to /etc
	// Keep (keep) is how many deployments of the stateroot to keep, 2 or more; pinned
	// ones and the one that last booted well come on top.
	Keep int `json:"keep"`
	// KeepDays (keep-days) drops those beyond the first two whose commit is so much older than
	// the newest, see Retention.MaxAge; 0: none.
	KeepDays int `json:"keepDays,omitempty"`
}

// Settings reads the settings from the repository's config.
func (s *Sysroot) Settings() (Settings, error) {
	c := Settings{EtcConflicts: KeepLocal, Keep: 2}
	cfg := s.repo.Config()
	mode, err := cfg.StringOr(settingsGroup, "etc-conflicts", string(KeepLocal))
	if err != nil {
		return c, fmt.Errorf("read settings: %w", err)
	}
	if c.EtcConflicts, err = ParseEtcConflicts(mode); err != nil {
		return c, fmt.Errorf("read settings: [%s] etc-conflicts: %w", settingsGroup, err)
	}
	if _, ok := cfg.Get(settingsGroup, "etc-replace"); ok {
		list, err := cfg.GetStrings(settingsGroup, "etc-replace")
		if err != nil {
			return c, fmt.Errorf("read settings: %w", err)
		}
		if c.EtcReplace, err = EtcPaths(list); err != nil {
			return c, fmt.Errorf("read settings: [%s] etc-replace: %w", settingsGroup, err)
		}
	}
	for _, n := range []struct {
		key      string
		at       *int
		min, max int64
	}{{"keep", &c.Keep, 2, maxKeep}, {"keep-days", &c.KeepDays, 0, 36500}} {
		v, err := cfg.IntOr(settingsGroup, n.key, int64(*n.at))
		if err != nil {
			return c, fmt.Errorf("read settings: %w", err)
		}
		if v < n.min || v > n.max {
			return c, fmt.Errorf("read settings: [%s] %s: %d is not from %d to %d", settingsGroup, n.key, v, n.min, n.max)
		}
		*n.at = int(v)
	}
	return c, nil
}

// EtcPolicy is the policy for the merge of /etc that the settings ask for.
func (c Settings) EtcPolicy() etcmerge.Policy {
	return etcmerge.Policy{SaveNew: true, Replace: c.EtcReplace}
}

// ParseEtcConflicts reads "keep" or "fail".
func ParseEtcConflicts(s string) (EtcConflicts, error) {
	if m := EtcConflicts(s); m == KeepLocal || m == FailOnConflict {
		return m, nil
	}
	return "", fmt.Errorf("%q is neither %q nor %q", s, KeepLocal, FailOnConflict)
}

// EtcPaths makes absolute paths below /etc relative to it.
func EtcPaths(list []string) ([]string, error) {
	var out []string
	for _, arg := range list {
		p, ok := strings.CutPrefix(path.Clean(arg), "/etc/")
		if !ok {
			return nil, fmt.Errorf("%q is not a path below /etc", arg)
		}
		out = append(out, p)
	}
	return out, nil
}

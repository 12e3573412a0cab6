// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/hostctl/hostctl/pkg/etcmerge"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// Keys of the staged record that libostree does not know and passes over. A record
// without them, by libostree or an older version, means its ways: conflicts in /etc
// go to the local side, and the retention is that of the program that finalises.
const (
	keySaveNew = "hostctl-etc-save-new" // b
	keyReplace = "hostctl-etc-replace"  // as
	keyOlder   = "hostctl-keep-older"   // t
	keyMaxAge  = "hostctl-keep-seconds" // t
)

func (r stagedRecord) encodePolicy(g *gvariant.Dict) {
	if r.etc.SaveNew {
		g.Set(keySaveNew, gvariant.Bool(true))
	}
	if len(r.etc.Replace) > 0 {
		g.Set(keyReplace, gvariant.Strings(r.etc.Replace))
	}
	if r.retention != nil {
		g.Set(keyOlder, gvariant.Uint64(uint64(r.retention.Older)))
		g.Set(keyMaxAge, gvariant.Uint64(uint64(r.retention.MaxAge/time.Second)))
	}
}

func (r *stagedRecord) decodePolicy(g gvariant.Dict) error {
	var ok bool
	if _, has := g.Get(keySaveNew); has {
		if r.etc.SaveNew, ok = g.Bool(keySaveNew); !ok {
			return fmt.Errorf("%w: %s is no boolean", ErrInvalidStateFile, keySaveNew)
		}
	}
	if _, has := g.Get(keyReplace); has {
		if r.etc.Replace, ok = g.Strings(keyReplace); !ok || !validReplace(r.etc) {
			return fmt.Errorf("%w: %s is no list of paths", ErrInvalidStateFile, keyReplace)
		}
	}
	if _, has := g.Get(keyOlder); has {
		older, ok1 := g.Uint64(keyOlder)
		age, ok2 := g.Uint64(keyMaxAge)
		if !ok1 || !ok2 || older > maxKeep || age > math.MaxInt64/uint64(time.Second) {
			return fmt.Errorf("%w: bad %s or %s", ErrInvalidStateFile, keyOlder, keyMaxAge)
		}
		r.retention = &Retention{Older: int(older), MaxAge: time.Duration(age) * time.Second}
	}
	return nil
}

// retain completes what was recorded by what is known now.
func (r stagedRecord) retain(now Retention) Retention {
	if r.retention != nil {
		now.Older, now.MaxAge = r.retention.Older, r.retention.MaxAge
	}
	return now
}

func validReplace(p etcmerge.Policy) bool {
	for _, name := range p.Replace {
		if !fs.ValidPath(name) || name == "." {
			return false
		}
	}
	return true
}

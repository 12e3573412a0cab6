// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"fmt"

	"github.com/hostctl/hostctl/internal/fsx"
)

// Etc is a deployment's /etc beside the defaults that it began with.
type Etc struct {
	Defaults *fsx.Dir // usr/etc
	Live     *fsx.Dir // etc
}

// OpenEtc opens the /etc of a deployment that is written; a staged one has none
// before the machine shuts down. The caller closes it.
func (s *Sysroot) OpenEtc(d Deployment) (e Etc, err error) {
	if e.Defaults, err = s.dir.OpenDir(d.Dir() + "/usr/etc"); err != nil {
		return Etc{}, fmt.Errorf("open the default /etc: %w", err)
	}
	if e.Live, err = s.dir.OpenDir(d.Dir() + "/etc"); err != nil {
		return Etc{}, errors.Join(fmt.Errorf("open /etc: %w", err), e.Defaults.Close())
	}
	return e, nil
}

// Close closes both directories.
func (e Etc) Close() error { return errors.Join(e.Defaults.Close(), e.Live.Close()) }

// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"errors"
	"fmt"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// judge is the unit that ends a trial well.
const judge = "hostctl-boot-success.service"

// tries is how often commit may be booted until it proves good; 0 where it cannot:
// a trial that nothing ends would leave a good system in the end.
func (j *job) tries(commit ostree.Checksum) (int, error) {
	n, err := j.s.Tries(j.st, commit, j.o.Tries)
	if n == 0 || err != nil {
		return 0, err
	}
	ends, err := endsTrials(j.s.Repo(), commit)
	if err != nil {
		return 0, err
	}
	if !ends {
		if j.o.Tries > 0 {
			j.res.Warnings = append(j.res.Warnings, fmt.Sprintf("no trial: the new tree does not start %s, which would end it", judge))
		}
		return 0, nil
	}
	if j.o.Tries > n {
		j.res.Warnings = append(j.res.Warnings, fmt.Sprintf("tries: %d, not %d: this boot loader boots a new tree no more often on trial", n, j.o.Tries))
	}
	return n, nil
}

// endsTrials tells whether the tree starts the judge with its defaults.
func endsTrials(repo *ostree.Repo, commit ostree.Checksum) (bool, error) {
	for _, dir := range []string{"/usr/etc/systemd/system", "/usr/lib/systemd/system"} {
		_, err := repo.Lookup(commit, dir+"/multi-user.target.wants/"+judge)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, ostree.ErrNotFound) && !errors.Is(err, ostree.ErrNotDir) {
			return false, fmt.Errorf("look for %s: %w", judge, err)
		}
	}
	return false, nil
}

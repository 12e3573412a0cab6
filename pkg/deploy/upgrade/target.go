// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
)

// retarget completes spec by what the host follows now, as rpm-ostree rebase
// does: REMOTE:REF stands for itself, REF is another ref of the same remote,
// REMOTE: the same ref of another remote, and :REF a ref of the repository itself.
func retarget(current, spec string) (string, error) {
	var remote, ref string
	if current != "" {
		var err error
		if remote, ref, err = ostree.SplitRefspec(current); err != nil {
			return "", err
		}
	}
	before, after, found := strings.Cut(spec, ":")
	switch {
	case !found:
		ref = before
	case after == "":
		remote = before
	default:
		remote, ref = before, after
	}
	if ref == "" {
		return "", fmt.Errorf("%q names no ref: %w", spec, ErrNoOrigin)
	}
	full := ref
	if remote != "" {
		full = remote + ":" + ref
	}
	_, _, err := ostree.SplitRefspec(full)
	return full, err
}

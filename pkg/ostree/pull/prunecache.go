// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// PruneCache drops cached summaries of remotes that are not configured any more.
// It belongs to a prune of the repository.
func (s Remotes) PruneCache() error {
	const root = "tmp/cache/" + cacheDir
	entries, err := s.Repo.Dir().ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("prune summary cache: %w", err)
	}
	names, err := s.List()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || slices.Contains(names, strings.TrimSuffix(e.Name, ".sig")) {
			continue
		}
		if err := s.Repo.Dir().Remove(root + "/" + e.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("prune summary cache: %w", err)
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"maps"
	"slices"
	"strings"
)

// nearest returns the candidate closest to word, or "" where none is close
// enough to be worth suggesting. Underscores count as hyphens.
func nearest(word string, candidates []string) string {
	if len(word) > 64 {
		return ""
	}
	word = strings.ReplaceAll(strings.ToLower(word), "_", "-")
	best, bestCost := "", len(word)/3+1
	for _, c := range candidates {
		if cost := distance(word, c); cost < bestCost {
			best, bestCost = c, cost
		}
	}
	return best
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours that turn a into b.
func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

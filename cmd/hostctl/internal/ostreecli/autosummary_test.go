// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// summaryFiles tells which of the two files are there.
func summaryFiles(t *testing.T, s *side, repo string) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(s.dir, repo, "summary")); err != nil {
		return "none"
	}
	if _, err := os.Stat(filepath.Join(s.dir, repo, "summary.sig")); err != nil {
		return "unsigned"
	}
	return "signed"
}

// listed gives the refs that the summary names, with their commits.
func listed(t *testing.T, s *side) (refs []string) {
	t.Helper()
	for line := range strings.Lines(s.run(t, "summary", "--repo=repo", "-v").Out) {
		if name, ok := strings.CutPrefix(line, "* "); ok || len(strings.TrimSpace(line)) == 64 {
			refs = append(refs, name)
		}
	}
	return refs
}

// What rewrites a signed summary drops its signature, what does not leaves both: a
// signature never stays that does not fit. The same as with libostree, with and
// without core.auto-update-summary.
func TestSummaryAfterSigning(t *testing.T) {
	t.Parallel()
	const pin = " --timestamp=@1700000000 --owner-uid=0 --owner-gid=0 --no-xattrs -s x"
	verbs := []string{
		"commit --repo=repo -b a" + pin + " tree",
		"commit --repo=repo -b b --sign-type=dummy --sign=dummy" + pin + " tree",
		"commit --repo=repo --orphan" + pin + " tree",
		"refs --repo=repo a --create=other",
		"refs --repo=repo -A a --create=same",
		"sign --repo=repo --sign-type=dummy a dummy",
		"sign --repo=repo --sign-type=dummy -d a dummy",
		"refs --repo=repo --delete other",
		"reset --repo=repo a a",
		"prune --repo=repo --refs-only",
		"static-delta generate --repo=repo --empty b",
		"static-delta reindex --repo=repo",
		"pull-local --repo=repo other from",
		"remote add --repo=repo up http://127.0.0.1:9/",
		"fsck --repo=repo -q",
		"config --repo=repo set core.fsync false",
	}
	for _, auto := range []string{"true", "false"} {
		t.Run("auto="+auto, func(t *testing.T) {
			t.Parallel()
			real, ours := sides(t, func(s *side) { s.write(t, "tree/file", "content") })
			both := []*side{real, ours}
			for _, s := range both {
				s.env = append(s.env, "OSTREE_DUMMY_SIGN_ENABLED=1")
				s.must(t, "init", "--repo=repo", "--mode=archive")
				s.must(t, "init", "--repo=other", "--mode=archive")
				s.must(t, strings.Fields("commit --repo=other -b from"+pin+" tree")...)
				s.must(t, strings.Fields("commit --repo=repo -b a"+pin+" tree")...)
				s.must(t, "config", "--repo=repo", "set", "core.auto-update-summary", auto)
				s.must(t, "init", "--repo=strict", "--mode=archive")
				s.must(t, "init", "--repo=plain", "--mode=archive")
				s.must(t, "remote", "add", "--repo=plain", "--no-gpg-verify", "up", "file://"+s.dir+"/repo")
				s.must(t, "remote", "add", "--repo=strict", "--no-gpg-verify", "--set=sign-verify-summary=dummy", "--set=verification-dummy-key=dummy", "up", "file://"+s.dir+"/repo")
			}
			verbs := verbs
			if auto == "false" {
				verbs = verbs[:4] // none of them writes the summary
			}
			for _, verb := range verbs {
				var state [2]string
				for i, s := range both {
					s.must(t, "summary", "--repo=repo", "-u", "--sign-type=dummy", "--sign=dummy")
					if got := summaryFiles(t, s, "repo"); got != "signed" {
						t.Fatalf("after signing: %s", got)
					}
					s.must(t, strings.Fields(verb)...)
					state[i] = summaryFiles(t, s, "repo")
				}
				if state[0] != state[1] {
					t.Errorf("summary after ostree %s: libostree %q, ours %q", verb, state[0], state[1])
				}
				if diff := cmp.Diff(listed(t, real), listed(t, ours)); diff != "" {
					t.Errorf("refs in the summary after ostree %s (-libostree +ours)\n%s", verb, diff)
				}
				// Both programs as clients of what each wrote.
				for i, s := range both {
					for _, client := range both {
						if got := client.run(t, "--repo="+filepath.Join(s.dir, "strict"), "pull", "up", "a"); (got.Code == 0) != (state[i] == "signed") {
							t.Errorf("pull from a %s repository after ostree %s by %s: %+v", state[i], verb, client.program, got)
						}
						client.must(t, "--repo="+filepath.Join(s.dir, "plain"), "pull", "up", "a")
					}
				}
			}
		})
	}
}

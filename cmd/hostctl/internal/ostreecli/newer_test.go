// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"crypto/ed25519"
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
)

// newer lists the options that later versions of libostree have, and our own.
func newer() map[string][]string {
	return map[string][]string{
		"checkout": {"composefs", "composefs-noverity"},
		"commit":   {"sign-from-file"},
		"fsck":     {"repair"},
		"pull":     {"disable-retry-on-network-errors", "low-speed-limit-bytes", "low-speed-time-seconds", "max-outstanding-fetcher-requests"},
		"refs":     {"revision"},
		"show":     {"print-hex", "list-metadata-keys", "list-detached-metadata-keys"},
		"summary":  {"list-metadata-keys", "print-metadata-key"},
	}
}

// helpOf finds the verb in a text that shows its options.
var helpOf = regexp.MustCompile(`(?m)^Usage:\n  ostree (\S+) \[OPTION`)

// withoutNewer drops the newer options from the help of a verb, and the width of the
// columns, which depends on them.
func withoutNewer(text string) string {
	m := helpOf.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	drop := newer()[m[1]]
	if len(drop) == 0 {
		return text
	}
	var out []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		isNewer := slices.ContainsFunc(words[:min(len(words), 2)], func(w string) bool {
			name, ok := strings.CutPrefix(w, "--")
			name = strings.FieldsFunc(name+"=", func(r rune) bool { return r == '=' || r == '[' })[0]
			return ok && slices.Contains(drop, name)
		})
		if !isNewer {
			out = append(out, strings.Join(words, " "))
		}
	}
	return strings.Join(out, "\n")
}

// wants runs the program and compares what it prints.
func (s *side) wants(t *testing.T, out string, args ...string) {
	t.Helper()
	if o := s.run(t, args...); o.Code != 0 || o.Out != out {
		t.Errorf("ostree %v: %+v, want %q", args, o, out)
	}
}

// refuses runs the program and looks for a text in its message.
func (s *side) refuses(t *testing.T, message string, args ...string) {
	t.Helper()
	if o := s.run(t, args...); o.Code != 1 || !strings.Contains(o.Err, message) {
		t.Errorf("ostree %v: %+v, want %q", args, o, message)
	}
}

// TestNewerOptions covers options of later versions, with what the older one writes.
func TestNewerOptions(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, func(s *side) {
		withRepo(t)(s)
		s.must(t, "--repo=src", "commit", "-b", "keys", "--tree=ref=main", "--add-metadata=bytes=[byte 0x00,0xab]", "--add-metadata=num=uint32 5",
			"--add-metadata-string=version=3", "--add-detached-metadata-string=z=1", "--add-detached-metadata-string=a=2")
		s.must(t, "--repo=src", "summary", "-u")
	})
	rev := strings.TrimSpace(real.run(t, "--repo=src", "rev-parse", "main").Out)
	keys := strings.TrimSpace(real.run(t, "--repo=src", "rev-parse", "keys").Out)
	ours.wants(t, "bytes\nnum\nostree.ref-binding\nversion\n", "--repo=src", "show", "--list-metadata-keys", "keys")
	ours.wants(t, "a\nz\n", "--repo=src", "show", "--list-detached-metadata-keys", "keys")
	ours.refuses(t, "No detached metadata", "--repo=src", "show", "--list-detached-metadata-keys", "main")
	ours.wants(t, "00ab\n", "--repo=src", "show", "--print-hex", "--print-metadata-key=bytes", "keys")
	for _, key := range []string{"num", "version"} {
		plain := real.run(t, "--repo=src", "show", "--print-metadata-key="+key, "keys")
		ours.wants(t, plain.Out, "--repo=src", "show", "--print-hex", "--print-metadata-key="+key, "keys")
	}
	ours.wants(t, "keys\t"+keys+"\nmain\t"+rev+"\n", "--repo=src", "refs", "-r")
	ours.must(t, "--repo=src", "refs", "--collections", "--create=org.example.X:main", "main")
	ours.wants(t, "(org.example.X, main)\t"+rev+"\n", "--repo=src", "refs", "--collections", "--revision", "org.example.X")

	list := ours.run(t, "--repo=src", "summary", "--list-metadata-keys").Out
	view := real.run(t, "--repo=src", "summary", "--view").Out
	if !strings.Contains(list, "ostree.summary.mode\n") {
		t.Errorf("keys of the summary: %q", list)
	}
	for key := range strings.Lines(list) {
		if key = strings.TrimSpace(key); !strings.Contains(view, "("+key+"): ") && !strings.Contains(view, "\n"+key+": ") {
			t.Errorf("libostree does not show %s", key)
		}
	}
	ours.wants(t, "'archive-z2'\n", "--repo=src", "summary", "--print-metadata-key=ostree.summary.mode")
	ours.refuses(t, "No such metadata key 'x'", "--repo=src", "summary", "--print-metadata-key=x")
}

// TestSignFromFile signs with keys of a file.
func TestSignFromFile(t *testing.T) {
	t.Parallel()
	_, ours := sides(t, withRepo(t))
	public, secret, err := ed25519.GenerateKey(nil)
	testutil.Must(t, err)
	ours.write(t, "secret", base64.StdEncoding.EncodeToString(secret)+"\n")
	ours.must(t, "--repo=src", "commit", "-b", "signed", "--tree=ref=main", "--sign-from-file=secret", "--sign-type=ed25519")
	// libostree of Debian is built without this type.
	verify := []string{"--repo=src", "sign", "--verify", "signed"}
	ours.must(t, append(verify, base64.StdEncoding.EncodeToString(public))...)
	public[0] ^= 1
	if o := ours.run(t, append(verify, base64.StdEncoding.EncodeToString(public))...); o.Code == 0 {
		t.Errorf("another key: %+v", o)
	}
	ours.refuses(t, "nosuch", "--repo=src", "commit", "-b", "other", "--tree=ref=main", "--sign-from-file=nosuch")
}

// TestCheckoutComposefs writes images; that of a commit which records the digest has it.
func TestCheckoutComposefs(t *testing.T) {
	t.Parallel()
	_, ours := sides(t, withRepo(t))
	ours.must(t, "--repo=src", "commit", "-b", "recorded", "--tree=ref=main", "--generate-composefs-metadata")
	ours.must(t, "--repo=src", "commit", "-b", "wrong", "--tree=ref=main", "--add-metadata=ostree.composefs.digest.v0=[byte 1, 2]")
	ours.write(t, "old", "what was there")
	for _, args := range [][]string{{"--composefs", "main", "a"}, {"--composefs", "recorded", "old"}, {"--composefs-noverity", "recorded", "plain"}, {"--composefs-noverity", "wrong", "plain2"}} {
		ours.must(t, append([]string{"--repo=src", "checkout"}, args...)...)
	}
	image := ours.content(t, "a")
	if len(image) < 4096 || image != ours.content(t, "old") || image == ours.content(t, "plain") || ours.content(t, "plain") != ours.content(t, "plain2") {
		t.Error("the images are not as expected")
	}
	if st, err := os.Stat(filepath.Join(ours.dir, "a")); err != nil || st.Mode() != 0o644 {
		t.Errorf("%v %v", st, err)
	}
	ours.refuses(t, "another digest", "--repo=src", "checkout", "--composefs", "wrong", "bad")
	for _, option := range []string{"-H", "--whiteouts", "--skip-list=x", "--subpath=/usr", "-U", "--from-stdin"} {
		ours.refuses(t, "--composefs", "--repo=src", "checkout", "--composefs", option, "main", "bad")
	}
	if names, err := filepath.Glob(filepath.Join(ours.dir, "*bad*")); err != nil || len(names) > 0 {
		t.Errorf("left over: %q %v", names, err)
	}
	if names, err := filepath.Glob(filepath.Join(ours.dir, ".tmp*")); err != nil || len(names) > 0 {
		t.Errorf("left over: %q %v", names, err)
	}
}

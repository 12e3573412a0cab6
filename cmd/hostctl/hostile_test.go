// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/hostctl/hostctl/internal/testutil"
)

// What a remote calls a version, and what a new default of /etc says, has no effect on
// the terminal, whichever verb prints it.
func TestVerbsOfHostileVersions(t *testing.T) {
	t.Parallel()
	root := host(t)
	const evil = "\x1b[2J\u202e\u009b31m"
	testutil.Run(t, "sh", "-c", "printf 'a\\033[2J\\n' >"+etcFile(t, root, "app.conf"))
	var all strings.Builder
	verb := func(args ...string) {
		t.Helper()
		if code := run(t.Context(), append(args, "--sysroot="+root), &all, &all); code != 0 {
			t.Fatalf("hostctl %q: status %d\n%q", args, code, &all)
		}
	}
	release(t, root, "2"+evil, map[string]string{"app.conf": "b\x1b[2J\n"})
	verb("upgrade", "--check")
	verb("upgrade")
	verb("status", "--diff")
	verb("status", "--json")
	verb("kargs", "--append=a=b")
	verb("kargs")
	verb("pin", "0")
	verb("pin", "0", "--undo")
	verb("rollback")
	verb("rollback")
	verb("set-default", "1")
	release(t, root, "3"+evil, nil)
	verb("upgrade", "--keep=4")
	verb("rollback", "--block")
	verb("upgrade")
	var st stateReport
	testutil.Must(t, json.Unmarshal([]byte(call(t, root, 0, "status", "--json")), &st))
	verb("unblock", st.Blocked[0].Checksum.String())
	verb("config-diff", "/etc")
	verb("undeploy", "1")
	verb("cleanup", "--keep=2")
	verb("cleanup", "--rollback")
	verb("deploy", "2"+evil)
	out := all.String()
	for line := range strings.Lines(out) {
		bad := func(r rune) bool { return !unicode.IsPrint(r) && r != '\t' && r != '\n' }
		if i := strings.IndexFunc(line, bad); i >= 0 {
			t.Errorf("%q", line)
		}
	}
	for _, want := range []string{"Dropped: ", "No longer pinned: ", "Blocked: ", "No longer blocked: ", "Default for the next boot: ", "+b", `"version": "2\u001b[2J\u202e\u009b31m"`} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing says %q", want)
		}
	}
	if n := strings.Count(out, `\x1b[2J\u202e\u009b31m`); n < 15 {
		t.Errorf("%d versions shown in\n%s", n, out)
	}
}

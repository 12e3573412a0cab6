// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/testutil"
)

func TestRunScripts(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"lib/check/required.d/20-ok.sh":      "echo fine",
		"lib/check/required.d/10-red.sh":     "echo one; echo two >&2; exit 3",
		"lib/check/required.d/.hidden.sh":    "exit 9",
		"lib/check/required.d/README":        "exit 9",
		"etc/check/required.d/30-program":    "#!/bin/sh\nprintf 'no end'",
		"etc/check/required.d/40-long.sh":    "head -c 100000 /dev/zero | tr '\\0' x; exit 1",
		"etc/check/required.d/50-slow.sh":    "echo waiting; sleep 60 & wait",
		"etc/check/required.d/link.sh/x.txt": "",
	} {
		p := filepath.Join(root, name)
		testutil.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		testutil.Must(t, os.WriteFile(p, []byte(text), mode))
	}
	var out bytes.Buffer
	o := CheckOptions{Dirs: []string{root + "/lib", root + "/etc", root + "/none"}, Output: &out, Timeout: 3 * time.Second}
	start := time.Now()
	failed, err := RunScripts(t.Context(), ScriptsRequired, o)
	testutil.Must(t, err)
	if time.Since(start) > 30*time.Second {
		t.Error("what a script started was waited for")
	}
	if len(failed) != 3 {
		t.Fatal(failed)
	}
	if got, want := failed[0].Error(), "health check 10-red.sh failed: exit status 3: one\ntwo"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := failed[1].Error(); len(got) > keptOutput+100 {
		t.Errorf("%d bytes are kept", len(got))
	}
	if got, want := failed[2].Error(), "health check 50-slow.sh failed: not finished after 3s: waiting"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var ce *CheckError
	if !errors.As(failed[0], &ce) || ce.Script != root+"/lib/check/required.d/10-red.sh" {
		t.Error(ce)
	}
	if !strings.HasPrefix(out.String(), "10-red.sh: one\n10-red.sh: two\n20-ok.sh: fine\n30-program: no end\n40-long.sh: xxx") {
		t.Errorf("%.200s", out.String())
	}
	if failed, err := RunScripts(t.Context(), ScriptsGreen, o); err != nil || failed != nil {
		t.Error(failed, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSourceDateEpochVariable(t *testing.T) {
	t.Parallel()
	if got, err := sourceDateEpoch(""); got != nil || err != nil {
		t.Errorf("not set: %v, %v", got, err)
	}
	if got, err := sourceDateEpoch("1700000000"); err != nil || got.Unix() != 1700000000 {
		t.Errorf("set: %v, %v", got, err)
	}
	for _, bad := range []string{"x", "-1", "1.5", " 1", "4294967296", "0x10"} {
		if _, err := sourceDateEpoch(bad); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestScriptRulesAreShown(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rules.toml")
	if err := os.WriteFile(file, []byte("[[rule]]\npackage = 'mine'\naction = 'tolerate'\nreason = 'it is mine'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"internal", "scriptlets", "--script-rules", file}, &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	first, rest, _ := strings.Cut(out.String(), "\n")
	if first != `tolerate package "mine" section "" containing "": it is mine` || !strings.Contains(rest, `skip package "grubby*"`) {
		t.Errorf("got\n%s", out.String())
	}
	if code := run(context.Background(), []string{"internal", "scriptlets", "/nowhere.rpm"}, &out, &errs); code == 0 {
		t.Error("a missing package is no error")
	}
}

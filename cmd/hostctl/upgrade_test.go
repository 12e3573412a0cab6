// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"unicode"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/deploy/upgrade"
	"github.com/hostctl/hostctl/pkg/rpmcompose/pkglist"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// What a commit and its packages are called has no effect on the terminal.
func TestUpgradeOfHostileNames(t *testing.T) {
	t.Parallel()
	const evil = "x\x1b[31m\r\x07\u202e\n  fake"
	p := pkglist.Package{Name: evil, EVR: rpm.EVR{Version: evil, Release: "1"}, Arch: evil}
	c := upgrade.Commit{Version: evil, EndOfLife: evil, EndOfLifeRebase: evil}
	res := upgrade.Result{Refspec: evil, Current: c, New: c, Staged: true, Blocked: &deploy.Blocked{Reason: evil}, Warnings: []string{evil},
		Packages: &pkglist.Diff{Upgraded: []pkglist.Pair{{Old: p, New: p}}, Downgraded: []pkglist.Pair{{Old: p, New: p}}, Removed: []pkglist.Package{p}, Added: []pkglist.Package{p}}}
	var out strings.Builder
	a := &app{App: cli.App{Out: &out, Err: &out}}
	a.printWarnings(res.Warnings)
	a.printResult(res)
	a.printRefused(res)
	res.Blocked = nil
	if err := a.unchanged(upgradeFlags{}, res); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 || strings.HasPrefix(line, "  fake") {
			t.Errorf("%q", line)
		}
	}
	if n := strings.Count(out.String(), "fake"); n < 12 {
		t.Errorf("%d names in\n%s", n, &out)
	}
}

// SPDX-License-Identifier: Apache-2.0

package scripts_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// luaHelperArg makes the test's own program the interpreter of Lua.
const luaHelperArg = "lua-helper"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == luaHelperArg {
		if err := scripts.ServeLua(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func luaHelper(t *testing.T) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{self, luaHelperArg}
}

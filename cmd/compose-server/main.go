// SPDX-License-Identifier: Apache-2.0

// compose-server composes RPM packages into OSTree commits and serves them.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// SPDX-License-Identifier: Apache-2.0

// hostctl updates a host as one image: it pulls trees, merges /etc, switches
// the boot entry and rolls back.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// SPDX-License-Identifier: Apache-2.0

// hostctl updates a host as one image: it pulls trees, merges /etc, switches
// the boot entry and rolls back.
package main

import (
	"context"
	"os"

	"github.com/hostctl/hostctl/cmd/hostctl/internal/ostreecli"
)

func main() {
	if args, ok := ostreecli.Invoked(os.Args); ok {
		os.Exit(ostreecli.Main(context.Background(), args))
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/rpmcompose"
)

// app is what every verb shares.
type app struct{ cli.App }

// codes is the table from errors to exit statuses; help prints the same rows.
func codes() []ui.Code {
	return append(ui.Codes(ostree.ErrNoSpace),
		ui.Code{Status: 77, Meaning: "nothing changed (with --unchanged-exit-77)", Is: []error{rpmcompose.ErrUnchanged}})
}

func run(ctx context.Context, args []string, out, errw io.Writer) int {
	a := &app{cli.App{Out: out, Err: errw}}
	return a.Run(ctx, a.root(), codes(), args)
}

func (a *app) root() *cobra.Command {
	cmd := a.Root(&cobra.Command{
		Use:   "compose-server",
		Short: "Compose RPM packages into OSTree commits, serve them, build disk images",
		Long: `compose-server turns a treefile and yum repositories into a versioned,
content-addressed OSTree commit, serves the repository over HTTP and builds
bootable disk images from it.`,
	}, codes())
	internal := &cobra.Command{Use: "internal", Hidden: true}
	internal.AddCommand(cli.ManCmd(), a.luaCmd(), a.scriptletsCmd())
	cmd.AddCommand(a.treeCmd(), a.diffCmd(), a.sbomCmd(), a.extensionsCmd(), a.depsolveCmd(), a.treefileCmd(),
		a.serveCmd(), a.imageCmd(), a.containerEncapsulateCmd(), a.containerUnencapsulateCmd(), internal)
	return cmd
}

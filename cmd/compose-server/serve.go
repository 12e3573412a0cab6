// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/composed"
	"github.com/hostctl/hostctl/internal/fsx"
)

func (a *app) serveCmd() *cobra.Command {
	var repo, listen string
	cmd := &cobra.Command{
		Use:   "serve --repo DIR",
		Short: "Serve an OSTree repository over HTTP",
		Long: `Serve an archive repository read-only, so that hostctl, ostree, rpm-ostree and
bootc can pull from it. The address that it listens on is printed once it
answers; stop it with Ctrl-C.`,
		Example: "  compose-server serve --repo /srv/repo --listen 127.0.0.1:8080",
		Args:    cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := fsx.OpenDir(repo)
			if err != nil {
				return fmt.Errorf("open repository: %w", err)
			}
			defer dir.Close()
			h := composed.Handler(dir, a.Log())
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			a.Line("Serving %s on http://%s/", repo, l.Addr())
			return composed.Serve(cmd.Context(), l, h, a.Log())
		},
	}
	cmd.Flags().StringVar(&repo, "repo", "", "repository to serve")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address and port; port 0 picks a free one")
	_ = cmd.MarkFlagRequired("repo")
	return cmd
}

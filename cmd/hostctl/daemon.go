// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/hostd"
	"github.com/hostctl/hostctl/pkg/deploy"
)

// daemonCmd is what the message bus starts.
func (a *app) daemonCmd() *cobra.Command {
	var idle time.Duration
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Offer the state of the host on the system bus",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withSysroot(false, func(s *deploy.Sysroot) error {
				conn, err := dbus.ConnectSystemBus(dbus.WithContext(cmd.Context()))
				if err != nil {
					return fmt.Errorf("connect to the system bus: %w", err)
				}
				defer conn.Close()
				return hostd.Serve(cmd.Context(), hostd.Options{Conn: conn, Load: s.Load, Path: a.sysroot, IdleExit: idle, Logger: a.Log()})
			})
		},
	}
	cmd.Flags().DurationVar(&idle, "idle-exit", time.Minute, "end when nobody asked for so long; 0 stays")
	return cmd
}

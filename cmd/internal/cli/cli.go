// SPDX-License-Identifier: Apache-2.0

// Package cli is what the two programs' command lines share: the flags for
// messages and progress, usage errors, exit codes, manual pages.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"golang.org/x/term"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/internal/version"
)

// App is what every verb of a program shares.
type App struct {
	Out, Err io.Writer
	verbose  bool
	style    string
	printErr error // the first failure of Line, Text and PrintJSON
}

// Root fills in what a program's top command has besides Use, Short and Long:
// the shared flags, strict arguments, and the exit codes in its help.
func (a *App) Root(cmd *cobra.Command, codes []ui.Code) *cobra.Command {
	cmd.Long += "\n\n" + ui.CodesHelp(codes)
	cmd.Version = version.String()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.Args = knownCommand
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.PersistentPreRunE = checkFlags
	cmd.SuggestionsMinimumDistance = 2
	cmd.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "log details to standard error")
	cmd.PersistentFlags().StringVar(&a.style, "progress", "auto", "how to show progress: auto, tty, plain or none")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return ui.UsageError{Err: err} })
	return cmd
}

// Run executes a program's top command and returns its exit status. The first
// interrupt cancels, the second ends the process.
func (a *App) Run(ctx context.Context, cmd *cobra.Command, codes []ui.Code, args []string) int {
	ctx, stop := ui.Interruptible(ctx, a.Err)
	defer stop()
	cmd.SetArgs(args)
	cmd.SetOut(a.Out)
	cmd.SetErr(a.Err)
	err := cmd.ExecuteContext(ctx)
	if err == nil && a.printErr != nil {
		err = fmt.Errorf("print the answer: %w", a.printErr)
	}
	if err != nil {
		ui.Report(a.Err, err)
	}
	return ui.ExitCode(err, codes)
}

// Log writes to standard error: warnings, or everything with --verbose.
func (a *App) Log() *slog.Logger {
	level := slog.LevelWarn
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: level}))
}

// Progress renders on standard error in the style of --progress.
func (a *App) Progress() progress.Func {
	f, ok := a.Err.(*os.File)
	return ui.New(a.Err, ui.Style(a.style), ok && term.IsTerminal(int(f.Fd()))).Func()
}

// NoArgs refuses arguments.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return ui.UsageError{Err: fmt.Errorf("%s takes no arguments, got %q", cmd.CommandPath(), args[0])}
}

// OneArg asks for one argument, called what in the message.
func OneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return ui.UsageError{Err: fmt.Errorf("%s: give %s (see %s --help)", cmd.CommandPath(), what, cmd.CommandPath())}
	}
}

// ManCmd is the hidden verb with which packaging makes the manual pages.
func ManCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into DIR",
		Args:  OneArg("a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return doc.GenManTree(cmd.Root(), &doc.GenManHeader{Section: "8", Source: "hostctl"}, args[0])
		},
	}
}

// knownCommand is the argument check of the program itself, whose only argument
// is a verb.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "see " + cmd.Name() + " --help"
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		hint = fmt.Sprintf("did you mean %q?", s[0])
	}
	return ui.UsageError{Err: fmt.Errorf("unknown command %q (%s)", args[0], hint)}
}

// checkFlags makes cobra's checks of flags usage errors.
func checkFlags(cmd *cobra.Command, _ []string) error {
	if err := errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil {
		return ui.UsageError{Err: err}
	}
	return nil
}

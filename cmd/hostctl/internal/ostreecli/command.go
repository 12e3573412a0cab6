// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command describes the program as a verb of another one, for that one's help,
// manual pages and completion. Main runs it, before the other program parses
// anything.
func Command() *cobra.Command {
	cmd := describe(&verb{name: "ostree", args: "COMMAND", summary: "Work on repositories with the commands and options of ostree", subs: verbs(), use: repoUnused})
	return cmd
}

func describe(v *verb) *cobra.Command {
	cmd := &cobra.Command{
		Use:                strings.TrimSpace(v.name + " " + v.args),
		Short:              v.summary,
		Hidden:             v.hidden,
		DisableFlagParsing: true,
		ValidArgsFunction:  completeOptions,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("options go behind the verb: hostctl ostree VERB [OPTION…]")
		},
	}
	c := &call{v: v}
	if _, err := c.parse(nil); err != nil {
		return cmd
	}
	for i := range c.opts {
		addFlag(cmd, &c.opts[i])
	}
	for _, s := range v.subs {
		cmd.AddCommand(describe(s))
	}
	return cmd
}

// addFlag registers an option for documentation; its value is never read.
func addFlag(cmd *cobra.Command, o *option) {
	short := ""
	if o.short != 0 {
		short = string(rune(o.short))
	}
	help := o.help
	if o.arg != "" {
		help += " (`" + o.arg + "`)"
	}
	if o.takesValue() {
		cmd.Flags().StringP(o.long, short, "", help)
	} else {
		cmd.Flags().BoolP(o.long, short, false, help)
	}
	if o.hidden {
		_ = cmd.Flags().MarkHidden(o.long)
	}
}

// completeOptions offers the options of a command; other words are files.
func completeOptions(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	if !strings.HasPrefix(word, "-") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return flagNames(cmd), cobra.ShellCompDirectiveNoFileComp
}

func flagNames(cmd *cobra.Command) []string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name+"\t"+f.Usage)
		}
	})
	return names
}

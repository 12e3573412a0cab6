// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/rpmcompose"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

func (a *app) treefileCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "treefile",
		Short: "Check, flatten and convert treefiles",
		Args:  cli.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.treefileCheckCmd(), a.treefileShowCmd(), a.treefileConvertCmd())
	return cmd
}

// loadFlags decide how a treefile is read.
type loadFlags struct {
	arch      string
	variables map[string]string
}

func (f *loadFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.arch, "arch", "x86_64", "architecture to read the treefile for")
	fl.StringToStringVar(&f.variables, "variable", nil, "NAME=VALUE for the treefile's ${NAME} and conditions")
}

func (f loadFlags) load(name string) (*treefile.Manifest, error) {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("open folder of treefile: %w", err)
	}
	return treefile.Load(root.FS(), filepath.Base(name), f.options())
}

func (f loadFlags) options() treefile.Options {
	vars := map[string]treefile.Value{}
	for k, v := range f.variables {
		vars[k] = treefile.ParseValue(v)
	}
	return treefile.Options{Basearch: f.arch, Variables: vars}
}

func (a *app) treefileCheckCmd() *cobra.Command {
	var f loadFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check TREEFILE…",
		Short: "Say whether treefiles are sound",
		Long: `Read treefiles with everything they include and refer to. Everything that is wrong
is said with file, line and key; of a file that cannot be parsed, the first
defect. The exit status is 1 if any treefile is not sound.`,
		Example: "  compose-server treefile check manifest.yaml\n  compose-server treefile check --json *.toml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return ui.UsageError{Err: fmt.Errorf("%s: give one or more treefiles", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.treefileCheck(args, f, asJSON) },
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	return cmd
}

// checkReport is what check tells about one treefile.
type checkReport struct {
	Treefile string         `json:"treefile"`
	OK       bool           `json:"ok"`
	Ref      string         `json:"ref,omitempty"`
	Packages int            `json:"packages"`
	Files    []string       `json:"files,omitempty"`
	Findings []checkFinding `json:"findings,omitempty"`
}

type checkFinding struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	text    string
}

func (a *app) treefileCheck(names []string, f loadFlags, asJSON bool) error {
	var reports []checkReport
	bad := 0
	for _, name := range names {
		r := f.check(name)
		if !r.OK {
			bad++
		}
		reports = append(reports, r)
	}
	if asJSON {
		if err := a.PrintJSON(reports); err != nil {
			return err
		}
	} else {
		a.printChecks(reports)
	}
	if bad > 0 {
		return fmt.Errorf("%w: %d of %d", rpmcompose.ErrTreefile, bad, len(names))
	}
	return nil
}

func (f loadFlags) check(name string) checkReport {
	r := checkReport{Treefile: name}
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		r.Findings = []checkFinding{findingOf(fmt.Errorf("open folder of treefile: %w", err))}
		return r
	}
	defer func() { _ = root.Close() }()
	m, found := treefile.CheckAll(root.FS(), filepath.Base(name), f.options())
	for _, err := range found {
		r.Findings = append(r.Findings, findingOf(err))
	}
	if m != nil {
		r.OK, r.Ref, r.Packages, r.Files = true, m.Ref, len(m.Packages), m.Sources
	}
	return r
}

func findingOf(err error) checkFinding {
	var defect *treefile.Error
	if !errors.As(err, &defect) {
		return checkFinding{Message: err.Error(), text: err.Error()}
	}
	msg := defect.Msg
	if defect.Err != nil {
		msg += ": " + defect.Err.Error()
	}
	return checkFinding{defect.File, defect.Line, defect.Key, msg, defect.Hint, defect.Error()}
}

func (a *app) printChecks(reports []checkReport) {
	for _, r := range reports {
		for _, f := range r.Findings {
			a.Line("%s", filepath.Join(filepath.Dir(r.Treefile), f.text))
		}
		if r.OK {
			a.Line("%s: sound; ref %s, %d packages asked for, %d files", r.Treefile, r.Ref, r.Packages, len(r.Files))
		}
	}
}

func (a *app) treefileShowCmd() *cobra.Command {
	var f loadFlags
	var asJSON, defaults bool
	var format string
	cmd := &cobra.Command{
		Use:   "show TREEFILE",
		Short: "Print a treefile with its includes merged",
		Long: `Print what a treefile says once its includes, conditions and variables are
resolved for one architecture. Behind every value stand the file and the line
that it comes from; --json has them as fields.`,
		Args: cli.OneArg("one treefile"),
		RunE: func(_ *cobra.Command, args []string) error {
			m, err := f.load(args[0])
			if err != nil {
				return err
			}
			flat, err := m.Flat(defaults)
			if err != nil {
				return err
			}
			if asJSON {
				return a.PrintJSON(map[string]any{"treefile": args[0], "basearch": m.Basearch, "files": m.Sources, "values": flat.Entries()})
			}
			return a.printDocument(flat, format, treefile.EncodeOptions{Origins: true})
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list of values with their origins as JSON")
	cmd.Flags().BoolVar(&defaults, "defaults", false, "also print the keys that no file sets")
	cmd.Flags().StringVar(&format, "format", "toml", "notation: toml, yaml or json (which has no comments)")
	return cmd
}

func (a *app) printDocument(d *treefile.Document, format string, o treefile.EncodeOptions) error {
	text, err := d.Encode(treefile.Format(strings.ToLower(format)), o)
	if err != nil {
		return err
	}
	_, err = a.Out.Write(text)
	return err
}

func (a *app) treefileConvertCmd() *cobra.Command {
	var f loadFlags
	var flatten, force bool
	var format, output string
	cmd := &cobra.Command{
		Use:   "convert TREEFILE",
		Short: "Write a treefile in another notation",
		Long: `Write one treefile in another notation: TOML, YAML or JSON. Keys keep their
order, old spellings become today's, and comments of YAML are kept in TOML.
Files that it includes stay as they are: a treefile of one notation may include
those of another.

With --flatten the result is one treefile without includes and variables, for
one architecture. Keep it in the folder of TREEFILE: the names of files in it are
relative to that folder.`,
		Example: `  compose-server treefile convert manifest.yaml -o manifest.toml
  compose-server treefile convert manifest.yaml --flatten --to json`,
		Args: cli.OneArg("one treefile"),
		RunE: func(_ *cobra.Command, args []string) error {
			format, err := targetFormat(format, output)
			if err != nil {
				return err
			}
			d, err := f.document(args[0], flatten)
			if err != nil {
				return err
			}
			if output == "" {
				return a.printDocument(d, format, treefile.EncodeOptions{})
			}
			text, err := d.Encode(treefile.Format(format), treefile.EncodeOptions{})
			if err != nil {
				return err
			}
			return writeNew(output, text, force)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&flatten, "flatten", false, "merge includes and resolve variables")
	cmd.Flags().StringVar(&format, "to", "", "notation: toml, yaml or json (default: from the output's name, else toml)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write instead of standard output")
	cmd.Flags().BoolVar(&force, "force", false, "replace the output if it exists")
	return cmd
}

func targetFormat(format, output string) (string, error) {
	if format != "" || output == "" {
		if format == "" {
			format = string(treefile.TOML)
		}
		return strings.ToLower(format), nil
	}
	f, err := treefile.FormatOf(output)
	return string(f), err
}

func (f loadFlags) document(name string, flatten bool) (*treefile.Document, error) {
	if flatten {
		m, err := f.load(name)
		if err != nil {
			return nil, err
		}
		return m.Flat(false)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read treefile: %w", err)
	}
	return treefile.Parse(name, data)
}

// writeNew does not replace a file unless it was told to.
func writeNew(name string, data []byte, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if !force {
		flags |= os.O_EXCL
	}
	file, err := os.OpenFile(name, flags, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write %s: it exists (use --force to replace it)", name)
	}
	if err != nil {
		return fmt.Errorf("write treefile: %w", err)
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}

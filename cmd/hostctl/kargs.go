// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/cmd/hostctl/internal/ostreecli"
	"github.com/hostctl/hostctl/cmd/internal/cli"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/deploy/upgrade"
)

// errKarg reports an argument that cannot be changed the way it was asked for.
var errKarg = errors.New("kernel argument")

// kargEdits are changes of a kernel command line, in the order in which they are
// done.
type kargEdits struct {
	proc                    bool // begin from /proc/cmdline
	deletes, deletePresent  []string
	replaces                []string
	appends, appendsMissing []string
	editor                  bool
}

func (e kargEdits) empty() bool {
	return !e.proc && !e.editor && len(e.deletes)+len(e.deletePresent)+len(e.replaces)+len(e.appends)+len(e.appendsMissing) == 0
}

type kargsFlags struct {
	upgradeFlags
	kargEdits
	index       int
	source, set string
	unset       bool
}

// owner is what the flags ask for in the name of a source; nil for nothing.
func (f kargsFlags) owner(cmd *cobra.Command) (*deploy.OwnerKargs, error) {
	set := cmd.Flags().Changed("set")
	if !set && !f.unset {
		return nil, nil
	}
	if f.source == "" {
		return nil, ui.UsageError{Err: errors.New("--set and --unset need --source NAME")}
	}
	if !f.empty() {
		return nil, ui.UsageError{Err: errors.New("--set and --unset do not go with other changes")}
	}
	return &deploy.OwnerKargs{Name: f.source, Kargs: bls.ParseKargs(f.set), Forget: f.unset}, nil
}

func (a *app) kargsCmd() *cobra.Command {
	var f kargsFlags
	cmd := &cobra.Command{
		Use:   "kargs",
		Short: "Show or change the kernel arguments of the next boot",
		Long: `Without options show the kernel arguments of the deployment that boots next. With
them make a new deployment of the same tree with other arguments: the old one
stays for a rollback. Changes are done in this order: delete, replace, append,
editor. Arguments that the tree brings in /usr/lib/bootc/kargs.d come and go with it.

With --source a program has arguments of its own: --set replaces those that it set
before, and no others. Upgrades carry them along, and bootc knows them, too.`,
		Example: `  hostctl kargs --append=console=ttyS0 --delete=quiet
  hostctl kargs --replace=mitigations=off
  hostctl kargs --replace=console=ttyS0=ttyS1
  hostctl kargs --source=tuned --set="isolcpus=1-3 nohz_full=1-3"`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			owner, err := f.owner(cmd)
			if err != nil {
				return err
			}
			if f.empty() && owner == nil {
				return a.showKargs(cmd.Context(), f)
			}
			return a.changeKargs(cmd.Context(), f, owner)
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringArrayVar(&f.appends, "append", nil, "add `ARG`, also where one of the name is there")
	fl.StringArrayVar(&f.appendsMissing, "append-if-missing", nil, "add `ARG` unless exactly that is there")
	fl.StringArrayVar(&f.deletes, "delete", nil, "remove `ARG`: NAME where there is one of it, or NAME=VALUE")
	fl.StringArrayVar(&f.deletePresent, "delete-if-present", nil, "remove `ARG` if it is there")
	fl.StringArrayVar(&f.replaces, "replace", nil, "give an argument another value, `NAME=NEW` or NAME=OLD=NEW")
	fl.BoolVar(&f.editor, "editor", false, "change the arguments in $VISUAL or $EDITOR")
	fl.BoolVar(&f.proc, "import-proc-cmdline", false, "begin from the arguments of the running kernel")
	fl.StringVar(&f.source, "source", "", "show the arguments that `NAME` set, or change them with --set or --unset")
	fl.StringVar(&f.set, "set", "", "give the source these `ARGS` and no others")
	fl.BoolVar(&f.unset, "unset", false, "forget the source and its arguments")
	cmd.MarkFlagsMutuallyExclusive("set", "unset")
	fl.IntVar(&f.index, "deploy-index", -1, "begin from the deployment with this `INDEX` in status, the first being 0")
	return cmd
}

// kargsReport is what --json prints.
type kargsReport struct {
	Index      int       `json:"index"`
	Deployment string    `json:"deployment"` // CHECKSUM.SERIAL
	Staged     bool      `json:"staged"`
	Kargs      bls.Kargs `json:"kargs"`
	// Sources are programs that set some of the arguments.
	Sources []deploy.OwnerKargs `json:"sources,omitempty"`
}

func (a *app) showKargs(ctx context.Context, f kargsFlags) error {
	return a.withSysroot(false, func(s *deploy.Sysroot) error {
		st, err := s.Load(ctx)
		if err != nil {
			return err
		}
		i := max(f.index, 0)
		if i >= len(st.Deployments) {
			return fmt.Errorf("index %d of %d: %w", i, len(st.Deployments), deploy.ErrNoDeployment)
		}
		d := st.Deployments[i]
		if f.asJSON {
			return a.PrintJSON(kargsReport{Index: i, Deployment: d.Name(), Staged: d.Staged, Kargs: d.Kargs, Sources: d.Owners()})
		}
		if f.source == "" {
			a.Line("%v", d.Kargs)
			return nil
		}
		for _, o := range d.Owners() {
			if o.Name == f.source {
				a.Line("%v", o.Kargs)
				return nil
			}
		}
		return fmt.Errorf("%w: none of %s is set by %q", errKarg, d.Name(), f.source)
	})
}

func (a *app) changeKargs(ctx context.Context, f kargsFlags, owner *deploy.OwnerKargs) error {
	o, err := a.upgradeOptions(f.upgradeFlags)
	if err != nil {
		return err
	}
	o.Kargs = func(k bls.Kargs) (bls.Kargs, error) { return f.apply(ctx, k) }
	o.Owner = owner
	var res upgrade.Result
	err = a.withSysroot(true, func(s *deploy.Sysroot) (err error) {
		res, err = upgrade.SetKargs(ctx, s, f.index, o)
		return err
	})
	if errors.Is(err, errKarg) {
		return ui.UsageError{Err: err}
	}
	if err != nil {
		return err
	}
	switch {
	case f.asJSON:
		if err := a.PrintJSON(res); err != nil {
			return err
		}
	case res.Unchanged:
		a.Line("No change.")
	default:
		a.printEtc(res.Etc)
		a.Line("Kernel arguments: %s", res.Deployment.Kargs)
		if res.Staged {
			a.Line("Staged; they take effect at the next restart.")
		}
	}
	if res.Unchanged {
		if f.unchanged77 {
			return errUnchanged
		}
		return nil
	}
	return a.rebootIf(ctx, f.reboot)
}

// apply does the edits.
func (e kargEdits) apply(ctx context.Context, k bls.Kargs) (bls.Kargs, error) {
	var err error
	if e.proc {
		if k, err = runningKargs(); err != nil {
			return nil, err
		}
	}
	if k, err = e.change(k); err != nil || !e.editor {
		return k, err
	}
	text, err := ostreecli.Edit(ctx, k.String()+"\n\n# These are the kernel arguments of the next boot. Lines that begin with # do not\n# count; an empty text changes nothing.\n")
	if err != nil {
		return nil, err
	}
	return editedKargs(text)
}

// change does the edits that need nobody.
func (e kargEdits) change(k bls.Kargs) (bls.Kargs, error) {
	for _, arg := range append(slices.Clone(e.deletes), e.deletePresent...) {
		out, ok := k.Delete(arg)
		_, named := k.Value(arg)
		present := slices.Contains(k, arg) || named
		switch {
		case ok:
			k = out
		case present:
			return nil, fmt.Errorf("%w %q: there are several; give the value, too", errKarg, arg)
		case !slices.Contains(e.deletePresent, arg):
			return nil, fmt.Errorf("%w %q: there is none; see \"hostctl kargs\"", errKarg, arg)
		}
	}
	for _, arg := range e.replaces {
		var err error
		if k, err = replaceKarg(k, arg); err != nil {
			return nil, err
		}
	}
	for _, arg := range e.appendsMissing {
		if !slices.Contains(k, arg) {
			k = k.Append(arg)
		}
	}
	return k.Append(e.appends...), nil
}

// replaceKarg takes NAME=OLD=NEW where NAME=OLD is there, otherwise NAME=NEW, whose
// NEW may have more = signs, where the name is there once.
func replaceKarg(k bls.Kargs, arg string) (bls.Kargs, error) {
	name, value, _ := strings.Cut(arg, "=")
	if from, to, ok := strings.Cut(value, "="); ok {
		if i := slices.Index(k, name+"="+from); i >= 0 {
			k = slices.Clone(k)
			k[i] = name + "=" + to
			return k, nil
		}
	}
	n := 0
	for _, a := range k {
		if own, _, _ := strings.Cut(a, "="); own == name {
			n++
		}
	}
	switch n {
	case 0:
		return nil, fmt.Errorf("%w %q: there is none to replace; use --append", errKarg, name)
	case 1:
		return k.Replace(arg), nil
	}
	return nil, fmt.Errorf("%w %q: there are %d; write NAME=OLD=NEW", errKarg, name, n)
}

// runningKargs are those of the running kernel.
func runningKargs() (bls.Kargs, error) {
	data, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	return bls.RunningKargs(string(data)), nil
}

// editedKargs reads what an editor left.
func editedKargs(text string) (bls.Kargs, error) {
	var k bls.Kargs
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			k = append(k, bls.ParseKargs(line)...)
		}
	}
	if len(k) == 0 {
		return nil, fmt.Errorf("%w list is empty: nothing was changed", errKarg)
	}
	return k, nil
}

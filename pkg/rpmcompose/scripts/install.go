// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/failpoint"
	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// ErrUnsupported: a script needs something that a composed tree cannot give.
var ErrUnsupported = errors.New("not supported")

// InstallOptions are those of Install; the zero value is usable.
type InstallOptions struct {
	// Filter is the one that the packages were imported with.
	Filter importer.Filter
	// Rules are the exceptions; nil means DefaultRules. An empty list means none.
	Rules []Rule
	// Owners are the owners, modes and capabilities to set, from the assembly.
	Owners []assemble.Owner
	// AllowUnknownOwners gives root what belongs to a user that no package makes,
	// with a warning, instead of failing.
	AllowUnknownOwners bool
	// NoSysusers leaves the accounts as the packages ship them.
	NoSysusers bool
	// NoScripts runs no script; accounts and owners are made.
	NoScripts bool
	// Macros are what rpm.expand and scripts with macros see, by name; they stand
	// beside the usual directories (_bindir and so on).
	Macros   map[string]string
	Progress progress.Func // task "scripts", counted in steps
}

// Done is one step that ran or was skipped.
type Done struct {
	Name     string // PACKAGE.KIND
	Package  string
	Duration time.Duration
	Output   string // its last part
	Cut      bool   // earlier output was dropped
	Skipped  string // the reason, where it did not run
	Failed   string // the error, where there was one; the last step's unless it was tolerated
}

// WriteTo writes what happened and the output, for a person to read.
func (d *Done) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	switch {
	case d.Skipped != "":
		fmt.Fprintf(&b, "== %s: not run: %s\n", d.Name, d.Skipped)
	case d.Failed != "":
		fmt.Fprintf(&b, "== %s: %s\n", d.Name, d.Failed)
	default:
		fmt.Fprintf(&b, "== %s: %.2f s\n", d.Name, d.Duration.Seconds())
	}
	if d.Cut {
		b.WriteString("[earlier output was dropped]\n")
	}
	b.WriteString(d.Output)
	if d.Output != "" && !strings.HasSuffix(d.Output, "\n") {
		b.WriteByte('\n')
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// Report tells what Install did.
type Report struct {
	Steps              []Done
	Sysusers, Owners   time.Duration
	UnknownOwners      []string
	OwnersSet, Scripts int
}

// Install runs what an installation of packages into an empty tree runs, in
// this order: directories of /var from tmpfiles.d, accounts from sysusers.d,
// %pretrans (Lua only), for each package the %triggerprein it sets off and its
// %pre, owners and modes and capabilities, then for each package %post and the
// %triggerin it sets off, all %posttrans, file triggers and transaction file
// triggers. pkgs is in the order of installation.
//
// The first failure ends it, with an error that names the package, the script,
// its exit status and its last lines.
func Install(ctx context.Context, s *Sandbox, pkgs []*rpm.Package, o InstallOptions) (*Report, error) {
	rules := o.Rules
	if rules == nil {
		rules = DefaultRules()
	}
	in := &installer{s: s, o: o, log: s.o.Logger, rep: &Report{}}
	var steps []Step
	if !o.NoScripts {
		steps = Plan(pkgs, o.Filter, rules)
	}
	if err := in.accounts(); err != nil {
		return in.rep, err
	}
	o.Progress.Emit(progress.Event{Task: "scripts", Kind: progress.Begin, Total: int64(len(steps))})
	owned := false
	for i := range steps {
		if steps[i].Phase > PhasePre && !owned {
			owned = true
			if err := in.owners(); err != nil {
				return in.rep, err
			}
		}
		if err := in.step(ctx, &steps[i]); err != nil {
			return in.rep, err
		}
		o.Progress.Emit(progress.Event{Task: "scripts", Kind: progress.Update, Done: int64(i + 1), Total: int64(len(steps)), Text: steps[i].Name()})
	}
	if !owned {
		if err := in.owners(); err != nil {
			return in.rep, err
		}
	}
	o.Progress.Emit(progress.Event{Task: "scripts", Kind: progress.End, Done: int64(len(steps)), Total: int64(len(steps))})
	return in.rep, nil
}

type installer struct {
	s   *Sandbox
	o   InstallOptions
	log *slog.Logger
	rep *Report
}

func (in *installer) accounts() error {
	if err := makeVar(in.s.Root(), nil); err != nil {
		return fmt.Errorf("make directories of /var: %w", err)
	}
	if in.o.NoSysusers {
		return nil
	}
	start := time.Now()
	err := Sysusers(in.s.Root())
	in.rep.Sysusers = time.Since(start)
	return err
}

func (in *installer) owners() error {
	start := time.Now()
	ids, err := LoadIDs(in.s.Root())
	if err != nil {
		return err
	}
	unknown, err := ApplyOwners(in.s.Root(), in.o.Owners, ids)
	in.rep.Owners, in.rep.UnknownOwners, in.rep.OwnersSet = time.Since(start), unknown, len(in.o.Owners)
	if err != nil {
		return err
	}
	if len(unknown) > 0 && !in.o.AllowUnknownOwners {
		return fmt.Errorf("set owners: no package makes these accounts: %s", strings.Join(unknown, "; "))
	}
	for _, u := range unknown {
		in.log.Warn("account does not exist, root owns the file", "account", u)
	}
	if err := makeVar(in.s.Root(), ids); err != nil {
		return fmt.Errorf("make directories of /var: %w", err)
	}
	return nil
}

func (in *installer) step(ctx context.Context, st *Step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if st.Skip != nil {
		in.log.Info("script is not run", "script", st.Name(), "reason", st.Skip.Reason)
		in.rep.Steps = append(in.rep.Steps, Done{Name: st.Name(), Package: st.Package, Skipped: st.Skip.Reason})
		return nil
	}
	if err := failpoint.Hit("scripts." + st.Kind); err != nil {
		return err
	}
	out, err := in.run(ctx, st)
	done := Done{Name: st.Name(), Package: st.Package, Duration: out.Duration, Output: out.Text, Cut: out.Truncated}
	if err != nil {
		done.Failed = err.Error()
	}
	if err != nil && st.Tolerate != nil && ctx.Err() == nil && !errors.Is(err, ErrTreeDamaged) {
		in.log.Warn("script failed", "script", st.Name(), "error", err, "reason", st.Tolerate.Reason)
		err = nil
	}
	in.rep.Steps = append(in.rep.Steps, done)
	in.rep.Scripts++
	if err != nil {
		return fmt.Errorf("package %s: %%%s: %w", st.NEVRA, st.Kind, err)
	}
	return nil
}

// scriptText is what a script's text becomes before it runs.
func scriptText(st *Step, macros map[string]string) (string, error) {
	if st.Flags&rpm.ScriptQFormat != 0 {
		return "", fmt.Errorf("script with a query format: %w", ErrUnsupported)
	}
	if st.Flags&rpm.ScriptExpand == 0 {
		return st.Body, nil
	}
	body := expandMacros(st.Body, macros)
	if strings.Contains(body, "%{") || strings.Contains(body, "%(") {
		return "", fmt.Errorf("script with macros that have no value here: %w", ErrUnsupported)
	}
	return body, nil
}

func (in *installer) run(ctx context.Context, st *Step) (Output, error) {
	body, err := scriptText(st, in.o.Macros)
	if err != nil {
		return Output{}, err
	}
	if len(st.Interp) > 0 && st.Interp[0] == rpm.LuaInterp {
		return in.lua(ctx, st, body)
	}
	c := Command{Name: st.Name(), Args: st.Interp}
	if len(c.Args) == 0 {
		c.Args = []string{"/bin/sh"}
	}
	// As rpm does it: a program without a script gets no arguments either.
	if body != "" {
		c.Script, c.ScriptIndex = []byte(body), len(c.Args)
		c.Args = append(append([]string{}, c.Args...), st.Args...)
	}
	if len(st.Stdin) > 0 {
		c.Stdin = strings.NewReader(strings.Join(st.Stdin, "\n") + "\n")
	}
	return in.s.Run(ctx, c)
}

// directories are the macros that scripts use, with the values of the
// distributions that this composer serves.
var directories = map[string]string{"_prefix": "/usr", "_exec_prefix": "/usr", "_bindir": "/usr/bin", "_sbindir": "/usr/sbin",
	"_libdir": "/usr/lib64", "_libexecdir": "/usr/libexec", "_datadir": "/usr/share", "_sysconfdir": "/etc",
	"_localstatedir": "/var", "_sharedstatedir": "/var/lib", "_includedir": "/usr/include", "_mandir": "/usr/share/man",
	"_infodir": "/usr/share/info", "_docdir": "/usr/share/doc", "_tmppath": "/var/tmp", "_rundir": "/run",
	"_unitdir": "/usr/lib/systemd/system", "_presetdir": "/usr/lib/systemd/system-preset", "_tmpfilesdir": "/usr/lib/tmpfiles.d",
	"_sysusersdir": "/usr/lib/sysusers.d", "_udevrulesdir": "/usr/lib/udev/rules.d", "nil": ""}

// expandMacros replaces %{name}, %{?name} and %name for the macros that are known,
// those given or directories; %{?name} of an unknown one is empty, everything
// else stays.
func expandMacros(s string, macros map[string]string) string {
	value := func(name string) (string, bool) {
		if v, ok := macros[name]; ok {
			return v, true
		}
		v, ok := directories[name]
		return v, ok
	}
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			break
		}
		b.WriteString(s[:i])
		s = s[i:]
		name, n := macroName(s)
		optional := strings.HasPrefix(name, "?")
		v, ok := value(strings.TrimPrefix(name, "?"))
		switch {
		case strings.HasPrefix(s, "%%"):
			b.WriteByte('%')
			n = 2
		case ok && n > 0:
			b.WriteString(v)
		case optional && n > 0:
		default:
			n = 1
			b.WriteByte('%')
		}
		s = s[n:]
	}
	b.WriteString(s)
	return b.String()
}

// macroName reads the macro call at the start of s: its name and its length.
func macroName(s string) (string, int) {
	if strings.HasPrefix(s, "%{") {
		if end := strings.IndexByte(s, '}'); end > 0 {
			return s[2:end], end + 1
		}
		return "", 0
	}
	n := 1
	for n < len(s) && (s[n] == '_' || s[n] >= 'a' && s[n] <= 'z' || s[n] >= 'A' && s[n] <= 'Z' || n > 1 && s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return s[1:n], n
}

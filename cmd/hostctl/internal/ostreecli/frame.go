// SPDX-License-Identifier: Apache-2.0

// Package ostreecli is the plumbing command line of repositories: libostree's
// verbs, with its options, output and exit codes, so that scripts written for it
// run unchanged. Every verb has a file; frame.go finds the verb, options.go and
// help.go follow GLib's option parser, repo.go opens the repository.
package ostreecli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// Streams are what the program talks to. Interactive says that Out is a terminal.
type Streams struct {
	In          io.Reader
	Out, Err    io.Writer
	Interactive bool
}

// repoUse says what a verb needs of --repo.
type repoUse uint8

const (
	repoOpen   repoUse = iota // open it before the verb runs
	repoUnused                // there is no such option
	repoPath                  // only find its path: call.path
)

// verb is one command. A verb with subs only dispatches.
type verb struct {
	name, args, summary string
	use                 repoUse
	hidden              bool
	opts                []option
	// prepare may check the options and change how the repository is opened.
	prepare func(*call, *ostree.Options) error
	run     func(context.Context, *call) error
	subs    []*verb
	// badSub replaces the message of a dispatching verb that got no or an unknown
	// subcommand ("" for none), usage its help page.
	badSub func(name string) error
	usage  func() string
	// title and width change the list of subs in the help: the name that it is headed
	// by and the width of its first column.
	title string
	width int
}

// errNoVerb is what run of a dispatching verb answers where a subcommand is needed.
var errNoVerb = errors.New("no subcommand")

// call is one run of a verb.
type call struct {
	Streams
	prog    string // the name that help and messages show
	v       *verb
	opts    []option // of the verb, with the global ones
	args    []string // without options
	path    string   // of the repository
	tree    string   // the root of the system whose /etc counts; "" for this one
	repo    *ostree.Repo
	verbose bool
	close   []func() error
}

// Invoked tells whether argv runs this program, called by the name ostree or as a
// verb of another, and gives its arguments, argv[0] first.
func Invoked(argv []string) (args []string, ok bool) {
	if len(argv) > 1 && argv[1] == "internal" {
		return nil, false // the other program's, which this one starts by its path
	}
	if len(argv) > 0 && filepath.Base(argv[0]) == "ostree" {
		return argv, true
	}
	if len(argv) > 1 && argv[1] == "ostree" {
		return append([]string{argv[0] + " ostree"}, argv[2:]...), true
	}
	return nil, false
}

// Main runs the program on the process's own streams and gives its exit status.
// args[0] is the name to show.
func Main(ctx context.Context, args []string) int {
	ctx, stop := ui.Interruptible(ctx, os.Stderr)
	defer stop()
	return Run(ctx, args, Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Interactive: term.IsTerminal(int(os.Stdout.Fd()))})
}

// Run runs the program and gives its exit status. Output to Out is buffered, but
// never overtaken by output to Err.
func Run(ctx context.Context, args []string, s Streams) int {
	out := bufio.NewWriterSize(s.Out, 64<<10)
	s.Out, s.Err = out, &orderedWriter{s.Err, out}
	err := dispatch(ctx, args[0], args[1:], s)
	if ferr := out.Flush(); err == nil && ferr != nil {
		err = fmt.Errorf("write output: %w", ferr)
	}
	if err == nil {
		return 0
	}
	red, plain := "", ""
	if s.Interactive {
		red, plain = "\x1b[31m\x1b[1m", "\x1b[22m\x1b[0m"
	}
	fmt.Fprintf(s.Err, "%serror:%s %s\n", red, plain, message(err))
	return 1
}

// orderedWriter flushes standard output before anything goes to standard error.
type orderedWriter struct {
	io.Writer
	out *bufio.Writer
}

func (w *orderedWriter) Write(p []byte) (int, error) {
	if err := w.out.Flush(); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}

// dispatch takes the first argument that is no option as the verb, wherever it
// stands.
func dispatch(ctx context.Context, prog string, args []string, s Streams) error {
	all := verbs()
	v, rest := pick(all, args)
	if v != nil {
		return v.call(ctx, prog+" "+v.name, rest, s)
	}
	if path, ok := external(rest.name()); ok {
		return execExternal(path, args)
	}
	c := &call{Streams: s, prog: prog, v: &verb{args: "COMMAND", summary: commandList("Builtin Commands:", all, 0), use: repoUnused}}
	_, err := c.parse(rest.args())
	if errors.Is(err, errHelp) || errors.Is(err, errVersion) {
		return c.inform(err)
	}
	if err == nil && rest.name() == "" {
		err = failf("No command specified")
	} else if err == nil {
		err = failf("Unknown command '%s'", rest.name())
	}
	fmt.Fprint(s.Err, c.helpPage())
	return err
}

// picked are the arguments without the one that names the command; the first
// element is that name, "" if there was none.
type picked []string

func (p picked) name() string   { return p[0] }
func (p picked) args() []string { return p[1:] }

// pick finds the command among vs that the first non-option names; nil if none.
func pick(vs []*verb, args []string) (*verb, picked) {
	p := picked{""}
	for _, a := range args {
		if p[0] == "" && !strings.HasPrefix(a, "-") {
			p[0] = a
			continue
		}
		p = append(p, a)
	}
	for _, v := range vs {
		if v.name == p[0] {
			return v, p
		}
	}
	return nil, p
}

// call runs a verb, or the subcommand that its arguments name.
func (v *verb) call(ctx context.Context, prog string, rest picked, s Streams) (err error) {
	if v.subs != nil {
		return v.callSub(ctx, prog, rest.args(), s)
	}
	c := &call{Streams: s, prog: prog, v: v}
	defer func() {
		for i := len(c.close) - 1; i >= 0; i-- {
			err = errors.Join(err, c.close[i]())
		}
	}()
	if c.args, err = c.parse(rest.args()); err != nil {
		return c.inform(err)
	}
	if err := c.openRepo(); err != nil {
		return err
	}
	return v.run(ctx, c)
}

func (v *verb) callSub(ctx context.Context, prog string, args []string, s Streams) error {
	sub, rest := pick(v.subs, args)
	if sub != nil {
		return sub.call(ctx, prog+" "+sub.name, rest, s)
	}
	title := cmp.Or(v.title, v.name)
	summary := commandList(fmt.Sprintf("%s\n\nBuiltin \"%s\" Commands:", v.summary, title), v.subs, v.width)
	c := &call{Streams: s, prog: prog, v: &verb{args: cmp.Or(v.args, "COMMAND"), summary: summary, opts: v.opts, use: repoUnused, usage: v.usage}}
	_, err := c.parse(rest.args())
	if errors.Is(err, errHelp) || errors.Is(err, errVersion) {
		return c.inform(err)
	}
	if err == nil && v.run != nil {
		if err = v.run(ctx, c); err == nil {
			return nil
		}
		if errors.Is(err, errNoVerb) {
			err = nil
		}
	}
	switch {
	case err != nil:
	case v.badSub != nil:
		err = v.badSub(rest.name())
	case rest.name() == "":
		err = failf("No %q subcommand specified", title)
	default:
		err = failf("Unknown %q subcommand '%s'", title, rest.name())
	}
	fmt.Fprint(s.Err, c.helpPage())
	return err
}

// parse reads the options of the verb and the global ones.
func (c *call) parse(args []string) ([]string, error) {
	var version bool
	c.opts = nil
	if c.v.use != repoUnused {
		c.opts = append(c.opts, option{long: "repo", arg: "PATH", dst: &c.path, help: "Path to OSTree repository (defaults to current directory or /sysroot/ostree/repo)"})
	}
	c.opts = append(c.opts, c.v.opts...)
	short := byte('v')
	if findShort(c.opts, short) != nil {
		short = 0 // summary has taken it
	}
	c.opts = append(c.opts,
		option{long: "verbose", short: short, dst: &c.verbose, help: "Print debug information during command processing"},
		option{long: "version", dst: &version, help: "Print version information and exit"})
	rest, err := parseOptions(c.opts, args)
	if err == nil && version {
		err = errVersion
	}
	return rest, err
}

// inform answers --help and --version; other errors stay.
func (c *call) inform(err error) error {
	switch {
	case errors.Is(err, errHelp):
		_, err = io.WriteString(c.Out, c.helpPage())
	case errors.Is(err, errVersion):
		_, err = io.WriteString(c.Out, versionText())
	}
	return err
}

func (c *call) helpPage() string {
	if c.v.usage != nil {
		return c.v.usage()
	}
	return helpPage(c.prog, c.v.args, c.v.summary, c.opts)
}

// usageError prints the help page on standard error and gives the message.
func (c *call) usageError(msg string) error {
	fmt.Fprintf(c.Err, "%s\n", c.helpPage())
	return errors.New(msg)
}

// printf writes to standard output.
func (c *call) printf(format string, args ...any) { fmt.Fprintf(c.Out, format, args...) }

// flush makes what was printed visible before a long task.
func (c *call) flush() {
	if f, ok := c.Out.(*bufio.Writer); ok {
		_ = f.Flush() // an error stays with the writer, and Run reports it
	}
}

// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
)

func TestLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		e    progress.Event
		want string
	}{
		{progress.Event{Task: "Receiving objects", Done: 25, Total: 35, Bytes: 2_400_000}, "Receiving objects: 71% (25/35) 2.4 MB"},
		{progress.Event{Task: "Receiving metadata", Done: 7}, "Receiving metadata: 7"},
		{progress.Event{Task: "Checkout", Kind: progress.End}, "Checkout: done"},
		{progress.Event{Task: "Fetch", Bytes: 10, TotalBytes: 2000, Text: "bash"}, "Fetch: 10 B of 2.0 kB bash"},
		{progress.Event{Task: "Fetch", Done: 1, Text: "\x1b[2Jx\n"}, `Fetch: 1 \x1b[2Jx\n`},
	} {
		if got := Line(tt.e); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_999: "1.0 MB", 5e12: "5.0 TB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestRendererPlainIsQuietBetweenIntervals(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := New(&out, StyleAuto, false)
	clock := time.Unix(0, 0)
	r.now = func() time.Time { return clock }
	r.event(progress.Event{Task: "T", Kind: progress.Begin})
	for i := range 100 {
		clock = clock.Add(150 * time.Millisecond)
		r.event(progress.Event{Task: "T", Kind: progress.Update, Done: int64(i), Total: 100})
	}
	r.event(progress.Event{Kind: progress.Message, Text: "hello\r"})
	r.event(progress.Event{Task: "T", Kind: progress.End, Done: 100, Total: 100})
	want := "T: 66% (66/100)\nhello\\r\nT: 100% (100/100)\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestRendererTTYRedraws(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := New(&out, StyleAuto, true)
	r.event(progress.Event{Task: "T", Kind: progress.Begin})
	r.event(progress.Event{Kind: progress.Message, Text: "m"})
	r.event(progress.Event{Task: "T", Kind: progress.End})
	if want := "\r\x1b[KT\r\x1b[Km\n\r\x1b[KT: done\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	special := errors.New("special")
	table := append(Codes(), Code{77, "nothing changed", []error{special}})
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{fmt.Errorf("a: %w", special), 77},
		{&fs.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}, 4},
		{fmt.Errorf("pull: %w", context.Canceled), 130},
		{UsageError{errors.New("bad flag")}, 2},
	} {
		if got := ExitCode(tt.err, table); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.err, got, tt.want)
		}
	}
	if help := CodesHelp(table); !strings.Contains(help, "  77  nothing changed") {
		t.Errorf("help:\n%s", help)
	}
}

func TestReportIsOneErrorLine(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	Report(&out, fmt.Errorf("run tool: exit status 1; last output:\nfirst\nerror: second\n"))
	want := "error: run tool: exit status 1; last output:\n  | first\n  | error: second\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestReportIsSafe(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	Report(&out, errors.New("read \x1b[2Jx\ty"))
	if want := "error: read \\x1b[2Jx    y\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	out.Reset()
	answer := fmt.Errorf("wrapped: %w", AnswerError{errors.New("differs")})
	if Report(&out, answer); out.Len() > 0 || ExitCode(answer, Codes()) != 1 {
		t.Errorf("an answer: %q", out.String())
	}
}

func TestCodesOfAFullDisk(t *testing.T) {
	t.Parallel()
	reserve := errors.New("reserve")
	if got := ExitCode(fmt.Errorf("pull: %w", reserve), Codes(reserve)); got != 4 {
		t.Errorf("exit code %d, want 4", got)
	}
	if got := ExitCode(reserve, Codes()); got != 1 {
		t.Errorf("exit code %d, want 1", got)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain – Ünïcode\\": "plain – Ünïcode\\", "a\nb\x1b[1m": `a\nb\x1b[1m`, "\xff\u202e\u200b": `\xff\u202e\u200b`, "it's'": "it's'", "a\u00a0b": `a\u00a0b`,
		"\ufffd": "\ufffd",
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a-b 1.5": "a-b 1.5", "1.5": "1.5", "1)": `1\)`, ">x": `\>x`, "- x": `\- x`, "12. x": `12\. x`, "<b>&": `&lt;b>&amp;`, "[a](b) *c* `d`": "\\[a\\](b) \\*c\\* \\`d\\`", "a\n# b": `a\\n\# b`, "x|y": `x\|y`,
	} {
		if got := Markdown(in); got != want {
			t.Errorf("Markdown(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"/usr/a b": "`/usr/a b`", "a`b``c": "```a`b``c```", "`": "`` ` ``", "": "`  `", "a|b\n": "`a\\|b\\n`"} {
		if got := MarkdownCode(in); got != want {
			t.Errorf("MarkdownCode(%q) = %q, want %q", in, got, want)
		}
	}
}

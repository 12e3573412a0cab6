// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParseOptions(t *testing.T) {
	t.Parallel()
	type result struct {
		flag, other bool
		word        string
		list        []string
		number      int
		maybe       string
	}
	for _, c := range []struct {
		args string
		want result
		rest string
		err  string
	}{
		{args: "a --flag b", want: result{flag: true}, rest: "a b"},
		{args: "-fo x", want: result{flag: true, other: true}, rest: "x"},
		{args: "--word=a --word b", want: result{word: "b"}},
		{args: "--word=", want: result{}},
		{args: "-w a -f", want: result{word: "a", flag: true}},
		{args: "-fw a", want: result{word: "a", flag: true}},
		{args: "-wf a", want: result{word: "a", flag: true}},
		{args: "-ww a b", err: "Error parsing option -w"},
		{args: "--list 1 --list=2", want: result{list: []string{"1", "2"}}},
		{args: "--number=-5", want: result{number: -5}},
		{args: "--number 0x10", want: result{number: 16}},
		{args: "--number 3000000000", err: "Integer value “3000000000” for --number out of range"},
		{args: "--number 1a", err: "Cannot parse integer value “1a” for --number"},
		{args: "--flag=x", want: result{flag: true}},
		{args: "--maybe a", want: result{maybe: "none"}, rest: "a"},
		{args: "--maybe=a", want: result{maybe: "a"}},
		{args: "-- --flag -- x", rest: "--flag -- x"},
		{args: "- -f", want: result{flag: true}, rest: "-"},
		{args: "--word", err: "Missing argument for --word"},
		{args: "-w", err: "Missing argument for -w"},
		{args: "--wor=a", err: "Unknown option --wor=a"},
		{args: "-fx", err: "Unknown option -fx"},
		{args: "--help --nope", err: "help"},
		{args: "--nope --help", err: "Unknown option --nope"},
		{args: "-fh", err: "help"},
	} {
		var got result
		opts := []option{
			{long: "flag", short: 'f', dst: &got.flag},
			{long: "other", short: 'o', dst: &got.other},
			{long: "word", short: 'w', dst: &got.word},
			{long: "list", dst: &got.list},
			{long: "number", dst: &got.number},
			{long: "maybe", optional: true, dst: func(v string) error {
				if got.maybe = v; v == "" {
					got.maybe = "none"
				}
				return nil
			}},
		}
		rest, err := parseOptions(opts, strings.Fields(c.args))
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%s: %v, want %s", c.args, err, c.err)
			}
			continue
		}
		same := got.flag == c.want.flag && got.other == c.want.other && got.word == c.want.word && got.number == c.want.number &&
			got.maybe == c.want.maybe && slices.Equal(got.list, c.want.list)
		if err != nil || !same || strings.Join(rest, " ") != c.rest {
			t.Errorf("%s: %+v, rest %q, %v; want %+v, rest %q", c.args, got, rest, err, c.want, c.rest)
		}
	}
}

func TestParseBool(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{"1": true, "true": true, "yes": true, "0": false, "false": false, "no": false, "none": false} {
		if got, err := parseBool(s); err != nil || got != want {
			t.Errorf("parseBool(%q) = %t, %v", s, got, err)
		}
	}
	if _, err := parseBool("maybe"); err == nil {
		t.Error("maybe is no policy")
	}
}

func TestInvoked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		argv, want string
		ok         bool
	}{
		{"ostree refs", "ostree refs", true},
		{"/usr/bin/ostree refs", "/usr/bin/ostree refs", true},
		{"hostctl ostree refs", "hostctl ostree|refs", true},
		{"hostctl status", "", false},
		{"hostctl", "", false},
	} {
		args, ok := Invoked(strings.Fields(c.argv))
		got := strings.Join(args, " ")
		if ok && args[0] == "hostctl ostree" {
			got = strings.Join(args, "|")
		}
		if ok != c.ok || got != c.want {
			t.Errorf("Invoked(%s) = %q, %t", c.argv, got, ok)
		}
	}
}

// TestCommandTree finds options that the other program's manual would lack.
func TestCommandTree(t *testing.T) {
	t.Parallel()
	cmd := Command()
	for _, path := range [][]string{{"commit"}, {"remote", "add"}, {"static-delta", "generate"}} {
		sub, _, err := cmd.Find(path)
		if err != nil || sub.Name() != path[len(path)-1] || sub.Flags().Lookup("repo") == nil {
			t.Errorf("find %v: %v, %v", path, sub.Name(), err)
		}
	}
	if names := flagNames(cmd.Commands()[2]); len(names) == 0 {
		t.Error("no options to complete")
	}
	if err := cmd.RunE(cmd, nil); err == nil || errors.Is(err, errHelp) {
		t.Errorf("options before the verb: %v", err)
	}
}

// TestEditor has both programs ask for the message.
func TestEditor(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, func(s *side) {
		s.write(t, "t/f", "1\n")
		s.write(t, "msg", "\nedited subject  \n\n# no\nline\n\nend\n\n")
		s.write(t, "ed", "cat $3 >> seen; cat msg > $3\n")
		s.write(t, "empty", "# nothing\n")
		s.must(t, "init", "--repo=r", "--mode=archive")
	})
	compare(t, real, ours, []step{{args: "--repo=r commit -b m -e t"}})
	for _, s := range []*side{real, ours} {
		s.env = append(s.env, "EDITOR=sh ed 1 2", "TERM=dumb")
	}
	compare(t, real, ours, []step{
		{args: "--repo=r commit -b m -e --timestamp=@5 -s sub -m body t", file: "seen"},
		{args: "--repo=r show m"},
	})
	for _, s := range []*side{real, ours} {
		s.env = append(s.env, "EDITOR=cp empty")
	}
	compare(t, real, ours, []step{{args: "--repo=r commit -b m -e t"}})
}

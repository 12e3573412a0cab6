// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"os"
	"os/exec"
	"strings"
)

const editorHint = `
# Please enter the commit message for your changes. The first line will
# become the subject, and the remainder the body. Lines starting
# with '#' will be ignored, and an empty message aborts the commit.`

// edit asks for subject and description in the user's editor.
func (m *committer) edit(ctx context.Context) error {
	text := editorHint
	if m.o.branch.set {
		text += "\n#\n# Branch: " + m.o.branch.value
	}
	if m.o.subject != "" {
		text += "\n" + m.o.subject
	}
	out, err := m.runEditor(ctx, text+"\n")
	if err != nil {
		return err
	}
	m.o.subject, m.o.body = messageOf(out)
	if m.o.subject == "" {
		return failf("Aborting commit due to empty commit subject.")
	}
	return nil
}

// messageOf takes the subject and the body out of an edited text.
func messageOf(s string) (subject, body string) {
	var lines []string
	for line := range strings.SplitSeq(s, "\n") {
		line = strings.TrimRight(line, " \t\r\v\f")
		switch {
		case strings.HasPrefix(line, "#") || line == "" && len(lines) == 0:
		case subject == "":
			subject = line
		default:
			lines = append(lines, line)
		}
	}
	return subject, strings.TrimRight(strings.Join(lines, "\n"), " \t\r\n\v\f")
}

// editorCommand follows the same variables as git.
func editorCommand() (string, error) {
	dumb := os.Getenv("TERM") == "" || os.Getenv("TERM") == "dumb"
	editor := os.Getenv("OSTREE_EDITOR")
	if editor == "" && !dumb {
		editor = os.Getenv("VISUAL")
	}
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	switch {
	case editor != "":
		return editor, nil
	case dumb:
		return "", failf("Terminal is dumb, but EDITOR unset")
	}
	return "vi", nil
}

func (m *committer) runEditor(ctx context.Context, text string) (string, error) {
	m.flush()
	return Edit(ctx, text)
}

// Edit has the user change a text in an editor on the process's own streams, and
// gives the result.
func Edit(ctx context.Context, text string) (string, error) {
	editor, err := editorCommand()
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp("", ".ostree-message-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // a scratch file
	_, err = f.WriteString(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", err
	}
	// The variable may hold options, so that a shell takes it apart.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", editor+` "$1"`, "sh", f.Name())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", failf("There was a problem with the editor '%s': %w", editor, err)
	}
	data, err := os.ReadFile(f.Name())
	return string(data), err
}

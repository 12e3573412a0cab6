// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/hostctl/hostctl/internal/ui"
)

// Line prints one line of a verb's answer. Verbs print through Line, Text, Warn and
// PrintJSON only, so that nothing which comes from a commit, a repository or the network
// has an effect on the terminal: control characters show as text. What keeps it from
// being printed is the error of the whole command.
func (a *App) Line(format string, args ...any) {
	a.print(ui.Printable(fmt.Sprintf(format, args...)) + "\n")
}

// Text prints lines that may hold tabs, such as those of a diff.
func (a *App) Text(text string) {
	for line := range strings.Lines(text) {
		columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		for i, c := range columns {
			columns[i] = ui.Printable(c)
		}
		a.print(strings.Join(columns, "\t") + "\n")
	}
}

// Warn prints a line on standard error.
func (a *App) Warn(format string, args ...any) {
	fmt.Fprintln(a.Err, "warning:", ui.Printable(fmt.Sprintf(format, args...)))
}

// PrintJSON prints v as JSON in which control characters are escaped, those that JSON
// would allow, too.
func (a *App) PrintJSON(v any) error {
	var data, b strings.Builder
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	for _, r := range data.String() {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	a.print(b.String())
	return nil
}

func (a *App) print(s string) {
	_, err := fmt.Fprint(a.Out, s)
	a.printErr = cmp.Or(a.printErr, err)
}

// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/testutil"
)

// A command sees and changes neither what is hidden from it nor what stands for
// another file, and the changes of the others can be looked at.
func TestHiddenAndShown(t *testing.T) {
	t.Parallel()
	root, work, _ := testTree(t)
	testutil.Must(t, root.MkdirAll("var/keep", 0o755))
	testutil.Must(t, root.WriteFile("var/gone", []byte("secret\n"), 0o644))
	var changed []string
	o := Options{Changes: func(upper *fsx.Dir) error {
		list, err := upper.ReadDir("usr/share/data")
		for _, e := range list {
			changed = append(changed, e.Name)
		}
		return err
	}}
	testutil.Must(t, With(t.Context(), root, work, o, func(ctx context.Context, s *Sandbox) error {
		out, err := s.Run(ctx, Command{
			Args: []string{"/usr/bin/sh", "-c", "cat /usr/share/data/a; stat -c %a /usr/share/data/a; echo /var/*; echo x > /var/new; echo x > /usr/share/data/a;" +
				"echo new > /usr/share/data/c; echo kept > /var/keep/file; exit 0"},
			Hide: []string{"var"}, Keep: []string{"var/keep"}, Show: []ShownFile{{Name: "usr/share/data/a", Mode: 0o640, Data: []byte("shown\n")}},
		})
		if !strings.HasPrefix(out.Text, "shown\n640\n/var/keep\n") || strings.Count(out.Text, "Read-only file system") != 2 {
			t.Errorf("output %q", out.Text)
		}
		return err
	}))
	if !slices.Equal(changed, []string{"c"}) {
		t.Errorf("changes %q", changed)
	}
	for name, want := range map[string]string{"usr/share/data/a": "cached\n", "var/gone": "secret\n", "var/keep/file": "kept\n", "usr/share/data/c": "new\n"} {
		if data, err := root.ReadFile(name, 100); string(data) != want {
			t.Errorf("%s holds %q, %v", name, data, err)
		}
	}
	refused := errors.New("refused")
	o.Changes = func(*fsx.Dir) error { return refused }
	err := With(t.Context(), root, work, o, func(_ context.Context, s *Sandbox) error { return s.Root().Remove("usr/share/data/b") })
	if ok, _ := root.Exists("usr/share/data/b"); !ok || !errors.Is(err, refused) {
		t.Errorf("refused changes: file is there: %t, %v", ok, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/tests/lab"
)

// runFolder does in a folder what runMachine does in a machine.
func runFolder(ctx context.Context, l *lab.Lab) (err error) {
	dir, err := fsx.OpenDir(l.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	const name = "quick"
	if err := dir.RemoveAll(name); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.RemoveAll(name)) }()
	sysroot := filepath.Join(l.Dir, name)
	say("Serve the repository")
	srv, err := l.Serve(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	say("Install v1 into a folder")
	if err := l.Install(ctx, sysroot, srv.URL); err != nil {
		return err
	}
	hostctl := func(args ...string) []string {
		return append([]string{l.Hostctl(), "--sysroot", sysroot}, args...)
	}
	first, err := l.Rev(l.Ref + "^")
	if err != nil {
		return err
	}
	etc := filepath.Join(sysroot, "ostree/deploy", lab.Stateroot, "deploy", first+".0", "etc")
	if err := all(ctx, l,
		hostctl("status"),
		[]string{"ostree", "admin", "status", "--sysroot=" + sysroot}); err != nil {
		return err
	}
	say("Local state: edit, add and remove files in /etc")
	if err := errors.Join(appendLine(filepath.Join(etc, l.EditFile), "# my own line"),
		os.WriteFile(filepath.Join(etc, "added-by-me"), []byte("hello\n"), 0o644), os.Remove(filepath.Join(etc, l.RemoveFile))); err != nil {
		return err
	}
	say("Upgrade to v2 over HTTP")
	if err := all(ctx, l, hostctl("upgrade", "--check"), hostctl("upgrade"), hostctl("status")); err != nil {
		return err
	}
	say("Roll back, and clean up")
	return all(ctx, l, hostctl("rollback"), hostctl("status"), hostctl("cleanup"),
		[]string{"ostree", "admin", "status", "--sysroot=" + sysroot})
}

func all(ctx context.Context, l *lab.Lab, commands ...[]string) error {
	for _, c := range commands {
		if err := l.Run(ctx, c...); err != nil {
			return err
		}
	}
	return nil
}

func appendLine(name, line string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

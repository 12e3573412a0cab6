// SPDX-License-Identifier: Apache-2.0

package postprocess

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// finalizeWait is how long output may stay open after a cancelled hook was killed.
const finalizeWait = 10 * time.Second

// finalize runs the programs of finalize.d, as the last step and on the composing
// machine, not in the sandbox: the current directory is the tree in its final
// layout, and RPMOSTREE_WORKDIR names the treefile's folder. Their changes go to
// an overlay first, since the tree shares files with the package cache. Source:
// rpm-ostree's treefile documentation, "associated directories".
func (r *runner) finalize(ctx context.Context, work *fsx.Dir) error {
	if len(r.o.Finalize) == 0 {
		return nil
	}
	err := scripts.With(ctx, r.root, work, r.o.Sandbox, func(ctx context.Context, s *scripts.Sandbox) error {
		for _, hook := range r.o.Finalize {
			if err := r.hook(ctx, s.Root(), work, hook); err != nil {
				return fmt.Errorf("%s: %w", hook.Name, err)
			}
		}
		return nil
	})
	// The sandbox made scratch directories in var, which must be empty.
	return errors.Join(err, r.root.RemoveAll("var/tmp"), r.root.RemoveAll("var/lib"))
}

func (r *runner) hook(ctx context.Context, tree, work *fsx.Dir, hook Script) error {
	const name = "finalize-hook"
	if err := work.WriteFile(name, hook.Body, 0o700); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, work.Path()+"/"+name)
	// The overlay is mounted in a namespace of its own; its handle leads there.
	cmd.Dir = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), tree.Fd())
	cmd.Env = append(os.Environ(), "RPMOSTREE_WORKDIR="+r.o.TreefileDir, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.o.Sandbox.SourceDateEpoch))
	cmd.WaitDelay = finalizeWait
	out, err := cmd.CombinedOutput()
	if rmErr := work.Remove(name); rmErr != nil {
		return errors.Join(err, rmErr)
	}
	if len(out) > scripts.DefaultMaxOutput {
		out = out[len(out)-scripts.DefaultMaxOutput:]
	}
	if err != nil {
		return errors.Join(err, fmt.Errorf("its output: %s", out))
	}
	r.log.Debug("finalize hook", "name", hook.Name, "output", string(out))
	return nil
}

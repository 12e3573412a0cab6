// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// CopyOptions are passed to skopeo.
type CopyOptions struct {
	// AuthFile has the credentials of registries; "" means skopeo's default.
	AuthFile string
}

// Copy copies an image with the program skopeo, which knows all transports and obeys
// the machine's policy (containers-policy.json(5)).
func Copy(ctx context.Context, from, to Reference, o CopyOptions) error {
	args := []string{"copy", "--quiet"}
	if to.Transport == "docker" {
		// Registries list the digest that Encapsulate gave.
		args = append(args, "--preserve-digests")
	}
	if o.AuthFile != "" {
		args = append(args, "--authfile", o.AuthFile)
	}
	cmd := exec.CommandContext(ctx, "skopeo", append(args, from.String(), to.String())...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("copy %s to %s: %w; install skopeo, or write to oci:DIR or oci-archive:FILE", from, to, err)
	}
	if err != nil {
		text := strings.TrimSpace(stderr.String())
		return fmt.Errorf("copy %s to %s: %w: %s", from, to, err, text[strings.LastIndexByte(text, '\n')+1:])
	}
	return nil
}

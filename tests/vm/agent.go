// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"

	"github.com/hostctl/hostctl/internal/fsx"
)

// Tools are the programs that the harness builds for itself.
type Tools struct {
	Agent string // path of the static agent binary
}

// BuildTools compiles the agent into dir.
func BuildTools(ctx context.Context, dir string) (Tools, error) {
	out := filepath.Join(dir, "vm-agent")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out,
		"github.com/hostctl/hostctl/tests/vm/agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return Tools{}, fmt.Errorf("build agent: %w: %s", err, msg)
	}
	return Tools{Agent: out}, nil
}

const agentUnit = `[Unit]
Description=Agent of the test harness
After=basic.target
[Service]
ExecStart=/var/lib/hostctl-vm/agent serve /dev/virtio-ports/` + portName + `
Restart=always
RestartSec=1
KillMode=process
Environment=HOME=/root
WorkingDirectory=/
[Install]
WantedBy=multi-user.target
`

const unitName = "hostctl-vm-agent.service"

// AddAgent puts the agent into every deployment of a stateroot of a sysroot
// that is about to become an image: its binary into the stateroot's /var, its
// unit into /etc, from where the /etc merge carries it to later deployments.
func AddAgent(sysroot *fsx.Dir, stateroot string, tools Tools) error {
	base := path.Join("ostree/deploy", stateroot)
	program, err := os.ReadFile(tools.Agent)
	if err != nil {
		return fmt.Errorf("add agent: %w", err)
	}
	dir := path.Join(base, "var/lib/hostctl-vm")
	if err := sysroot.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("add agent: %w", err)
	}
	if err := sysroot.WriteFileAtomic(path.Join(dir, "agent"), program, 0o755); err != nil {
		return fmt.Errorf("add agent: %w", err)
	}
	list, err := sysroot.ReadDir(path.Join(base, "deploy"))
	if err != nil {
		return fmt.Errorf("add agent: %w", err)
	}
	for _, d := range list {
		if !d.IsDir() {
			continue
		}
		if err := addUnit(sysroot, path.Join(base, "deploy", d.Name, "etc/systemd/system")); err != nil {
			return fmt.Errorf("add agent: %w", err)
		}
	}
	return nil
}

func addUnit(sysroot *fsx.Dir, units string) error {
	wants := path.Join(units, "multi-user.target.wants")
	if err := sysroot.MkdirAll(wants, 0o755); err != nil {
		return err
	}
	if err := sysroot.WriteFileAtomic(path.Join(units, unitName), []byte(agentUnit), 0o644); err != nil {
		return err
	}
	return sysroot.SymlinkAtomic("../"+unitName, path.Join(wants, unitName))
}

// PutBytes is Put for content in memory.
func (v *VM) PutBytes(ctx context.Context, path string, mode uint32, content []byte) error {
	return v.Put(ctx, path, mode, bytes.NewReader(content))
}

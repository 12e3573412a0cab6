// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"context"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/postprocess"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpmdb"
	"github.com/hostctl/hostctl/pkg/rpmcompose/scripts"
)

// finish runs the scriptlets and the post-processing and finds the labels; the
// caller closes the root of what it returns.
func (r *run) finish(ctx context.Context, work *fsx.Dir, pkgs []localPackage, asm *assemble.Result) (_ composed, err error) {
	c := composed{devino: asm.DevIno, packages: pkgs, timestamp: commitTime(pkgs, r.env.Epoch, r.prev)}
	if c.version, err = r.version(c.timestamp); err != nil {
		return c, err
	}
	if c.root, err = work.OpenDir(rootName); err != nil {
		return c, err
	}
	defer func() {
		if err != nil {
			c.root.Close()
		}
	}()
	sandbox := scripts.Options{Timeout: r.env.ScriptTimeout, SourceDateEpoch: int64(c.timestamp), Logger: r.env.Log, LuaHelper: r.env.LuaHelper}
	if err := r.scriptlets(ctx, work, c.root, pkgs, asm, sandbox); err != nil {
		return c, err
	}
	if err = r.checkListed(c.root); err != nil {
		return c, err
	}
	if c.kernel, err = r.postprocess(ctx, work, c, asm, sandbox); err != nil {
		return c, err
	}
	if c.composefs, err = r.wantsComposefs(c.root); err != nil {
		return c, err
	}
	c.label, err = r.labels(c.root)
	return c, err
}

// version is the one that was asked for, or the next after the parent's.
func (r *run) version(timestamp uint64) (string, error) {
	m := r.plan.manifest
	if r.env.Version != "" || m.AutomaticVersionPrefix == "" {
		return r.env.Version, nil
	}
	return nextVersion(m.AutomaticVersionPrefix, m.AutomaticVersionSuffix, r.prev.version, time.Unix(int64(timestamp), 0))
}

func (r *run) postprocess(ctx context.Context, work *fsx.Dir, c composed, asm *assemble.Result, sandbox scripts.Options) (kernel string, err error) {
	o, err := postprocess.FromManifest(r.plan.manifest)
	if err != nil {
		return "", err
	}
	o.NoInitramfs = o.NoInitramfs || r.env.NoInitramfs
	o.TreefileDir = r.env.TreefileDir
	o.Version, o.Owned, o.Sandbox, o.Logger, o.Progress = c.version, asm.Owned, sandbox, r.env.Log, r.env.Progress
	if o.KernelCache, err = r.kernelCache(); err != nil {
		return "", err
	}
	defer o.KernelCache.Close()
	o.Links = c.devino
	installed := make([]rpmdb.Installed, len(c.packages))
	color := installColor(c.packages)
	for i, p := range c.packages {
		installed[i] = rpmdb.Installed{Package: p.pkg, InstallTime: time.Unix(int64(c.timestamp), 0), InstallColor: color, FileStates: asm.States[i]}
	}
	o.WriteRPMDB = func(ctx context.Context, dir *fsx.Dir) error { return rpmdb.Write(ctx, dir, installed) }
	start := time.Now()
	done, err := postprocess.Run(ctx, c.root, work, o)
	if err != nil {
		return "", err
	}
	for _, d := range done.Dropped {
		r.env.Log.Warn("left out of the tree", "path", d)
	}
	for _, t := range done.Timings {
		r.res.Steps = append(r.res.Steps, Step{Name: "  " + t.Part, Took: t.Duration})
	}
	detail := "kernel " + done.Kernel
	if done.KernelCached {
		detail += ", its files from the cache"
	}
	r.res.step("postprocess", start, "%s", detail)
	return done.Kernel, nil
}

// kernelCacheName is the directory of the cache with the files that were made for
// kernels.
const kernelCacheName = "kernel-files"

func (r *run) kernelCache() (*fsx.Dir, error) {
	if err := r.env.Cache.MkdirAll(kernelCacheName, 0o755); err != nil {
		return nil, err
	}
	return r.env.Cache.OpenDir(kernelCacheName)
}

// installColor is what rpm notes for a transaction with programs of both word
// sizes: 3, and 0 otherwise.
func installColor(pkgs []localPackage) uint32 {
	var colors uint32
	for _, p := range pkgs {
		for _, f := range p.pkg.Files() {
			colors |= f.Color
		}
	}
	if colors == 3 {
		return 3
	}
	return 0
}

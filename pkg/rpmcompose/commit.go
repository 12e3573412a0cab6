// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
	"github.com/hostctl/hostctl/pkg/rpmcompose/assemble"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Keys of commit metadata. Source: rpm-ostree's compose (rpmostree.*) and
// libostree (version, ostree.*).
const (
	keyVersion   = "version"
	keyInputHash = "rpmostree.inputhash"
	keyPkgList   = "rpmostree.rpmdb.pkglist"
	keyRepos     = "rpmostree.rpmmd-repos"
	keyBootable  = "ostree.bootable"
	keyLinux     = "ostree.linux"
)

// maxSizes bounds the list of the objects' sizes, about 45 bytes each: libostree
// before 2022.1 refuses commits of more than 10 MiB, and so do pulls that are not told
// the size by a summary.
const maxSizes = 150_000

// previous is what the last commit on the ref tells.
type previous struct {
	commit    ostree.Checksum // zero: there is none
	version   string
	inputHash string
	timestamp uint64
}

func loadPrevious(repo *ostree.Repo, ref string) (previous, error) {
	c, err := repo.ReadRef(ref)
	if errors.Is(err, ostree.ErrNotFound) {
		return previous{}, nil
	}
	if err != nil {
		return previous{}, err
	}
	commit, err := repo.LoadCommit(c)
	if err != nil {
		return previous{}, err
	}
	p := previous{commit: c, timestamp: commit.Timestamp}
	p.version, _ = commit.Metadata.Str(keyVersion)
	p.inputHash, _ = commit.Metadata.Str(keyInputHash)
	return p, nil
}

// commitTime is the newest build time of the packages, so that one plan gives
// one commit whatever the day, but never before the parent's: clients refuse to
// go back in time.
func commitTime(pkgs []localPackage, epoch *time.Time, prev previous) uint64 {
	var t uint64
	for _, p := range pkgs {
		t = max(t, uint64(p.pkg.BuildTime().Unix()))
	}
	if epoch != nil {
		t = uint64(epoch.Unix())
	}
	return max(t, prev.timestamp)
}

// composed is a finished tree, ready to be committed.
type composed struct {
	root      *fsx.Dir
	devino    *ostree.DevInoCache
	version   string
	timestamp uint64
	kernel    string // version, "" without one
	composefs bool   // the commit records the digest of its composefs image
	packages  []localPackage
	label     func(path string, mode uint32) (string, error) // nil: no labels
}

func (c composed) close() {
	if c.root != nil {
		_ = c.root.Close()
	}
}

func commitMetadata(plan *Plan, c composed, collection, inputHash string, extra map[string]string) (gvariant.Dict, error) {
	var d gvariant.Dict
	for _, k := range slices.Sorted(maps.Keys(plan.manifest.AddCommitMetadata)) {
		value, err := metadataValue(plan.manifest.AddCommitMetadata[k])
		if err != nil {
			return d, fmt.Errorf("%w: key `add-commit-metadata.%s`: %w", ErrTreefile, k, err)
		}
		d.Set(k, value)
	}
	for _, k := range slices.Sorted(maps.Keys(extra)) {
		d.Set(k, gvariant.String(extra[k]))
	}
	if c.version != "" {
		d.Set(keyVersion, gvariant.String(c.version))
	}
	d.Set(keyInputHash, gvariant.String(inputHash))
	d.Set(keyPkgList, packageList(c.packages))
	ostree.AddBindings(&d, collection, plan.Ref)
	if c.kernel != "" {
		d.Set(keyBootable, gvariant.Bool(true))
		d.Set(keyLinux, gvariant.String(c.kernel))
	}
	return d, nil
}

// packageList is a(sssss): name, epoch, version, release, architecture, sorted.
func packageList(pkgs []localPackage) gvariant.Value {
	list := make([]rpm.NEVRA, len(pkgs))
	for i, p := range pkgs {
		list[i] = p.pkg.NEVRA()
	}
	slices.SortFunc(list, func(a, b rpm.NEVRA) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), rpm.CompareNEVRA(a, b))
	})
	values := make([]gvariant.Value, len(list))
	for i, n := range list {
		values[i] = gvariant.Tuple(gvariant.String(n.Name), gvariant.String(fmt.Sprint(n.Epoch)),
			gvariant.String(n.Version), gvariant.String(n.Release), gvariant.String(n.Arch))
	}
	return gvariant.Array("(sssss)", values...)
}

// repoList is aa{sv} with id and timestamp (the revision of repomd.xml).
func repoList(plan *Plan) gvariant.Value {
	values := make([]gvariant.Value, len(plan.Repos))
	for i, r := range plan.Repos {
		var d gvariant.Dict
		d.Set("id", gvariant.String(r.ID))
		d.Set("timestamp", gvariant.Uint64BE(parseRevision(r.Revision)))
		values[i] = d.Value()
	}
	return gvariant.Array("a{sv}", values...)
}

func parseRevision(s string) uint64 {
	var n uint64
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil {
		return 0
	}
	return n
}

// commit finishes the tree, stores it, signs it and moves the ref, in one transaction:
// the ref never names a commit that lacks its signatures.
func (r *run) commit(ctx context.Context, work *fsx.Dir, pkgs []localPackage, asm *assemble.Result) (Result, error) {
	var c composed
	var err error
	if !r.storesAhead() {
		if c, err = r.finish(ctx, work, pkgs, asm); err != nil {
			return Result{}, err
		}
	}
	defer func() { c.close() }()
	finished, start := c.root != nil, time.Now()
	stats, err := r.env.Repo.Update(ctx, func(ctx context.Context, txn *ostree.Txn) (err error) {
		if !finished {
			if c, err = r.finishBeside(ctx, txn, work, pkgs, asm); err != nil {
				return err
			}
			finished, start = true, time.Now()
		}
		return r.store(ctx, txn, c)
	})
	if err != nil {
		if finished {
			err = fmt.Errorf("commit %s: %w", r.plan.Ref, err)
		}
		return Result{}, err
	}
	r.res.Stats = stats
	r.res.step("commit", start, "%d files of %d new", stats.ContentWritten, stats.ContentTotal)
	// The ref is moved: from here on the commit exists, a missing summary only
	// makes clients read the ref itself.
	if err := r.env.Repo.WriteSummary(context.WithoutCancel(ctx), ostree.SummaryOptions{Sign: sign.Func(r.env.Sign...)}); err != nil {
		return r.res, fmt.Errorf("commit %s is made, but its summary is not: %w", r.res.Commit, err)
	}
	return r.res, nil
}

// store writes the commit of a finished tree.
func (r *run) store(ctx context.Context, txn *ostree.Txn, c composed) error {
	res, plan := &r.res, r.plan
	res.Version, res.Timestamp, res.InputHash = c.version, time.Unix(int64(c.timestamp), 0), r.env.inputHash(plan)
	meta, err := commitMetadata(plan, c, r.env.Repo.CollectionID(), res.InputHash, r.env.Metadata)
	if err != nil {
		return err
	}
	var detached gvariant.Dict
	listMetadata(plan, &meta, &detached)
	m := ostree.NewMTree()
	o := ostree.CommitOptions{DevIno: c.devino, Filter: canonicalRoot, Label: c.label, Last: true, GenerateSizes: r.env.Sizes, MaxSizes: maxSizes}
	if r.env.Repo.Mode() == ostree.ModeBareUser {
		o.DevIno = nil // there, a file's metadata is that of the object, which is another one than the cache's
	}
	if err = txn.WriteDir(ctx, c.root, m, o); err != nil {
		return err
	}
	// The tree is needed no more: it goes while the commit waits for the disk. inWork tells the error.
	go func() { _ = r.removeWork() }()
	obj := ostree.Commit{Timestamp: c.timestamp}
	if !r.env.NoParent {
		obj.Parent = r.prev.commit
	}
	if obj.RootTree, obj.RootMeta, err = txn.WriteTree(ctx, m); err != nil {
		return err
	}
	if c.composefs {
		start := time.Now()
		if err := txn.AddComposefs(ctx, &meta, obj.RootTree, obj.RootMeta); err != nil {
			return err
		}
		res.step("  composefs digest", start, "")
	}
	obj.Metadata = meta
	res.ContentChecksum = obj.ContentChecksum()
	if res.Commit, err = txn.WriteCommit(ctx, obj); err != nil {
		return err
	}
	if err := writeDetached(ctx, txn, res.Commit, detached, r.env.Sign); err != nil {
		return err
	}
	return txn.SetRef(plan.Ref, res.Commit)
}

// writeDetached signs the commit and stores what stands beside it.
func writeDetached(ctx context.Context, txn *ostree.Txn, c ostree.Checksum, meta gvariant.Dict, signers []sign.Signer) error {
	if len(signers) == 0 && meta.Len() == 0 {
		return nil
	}
	raw, err := txn.LoadRaw(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
	if err != nil {
		return err
	}
	if err := sign.Sign(ctx, &meta, raw, signers...); err != nil {
		return err
	}
	return txn.SetCommitMeta(ctx, c, meta)
}

// canonicalRoot gives the top directory the owner and mode that every tree has,
// whatever the umask under which the work directory was made.
func canonicalRoot(path string, h *ostree.FileHeader) (bool, error) {
	if path == "/" {
		h.UID, h.GID, h.Mode, h.Xattrs = 0, 0, h.Mode&^0o7777|0o755, nil
	}
	return false, nil
}

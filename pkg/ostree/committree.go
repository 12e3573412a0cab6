// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"path"
)

// WriteCommitTree merges the tree of a commit, the metadata of its top included,
// into m. A file that m has is replaced; a file where m has a directory, or the
// reverse, is an error wrapping ErrExists. Where the options change nothing, no
// object is read but directories that both have. Consume and DevIno have no meaning
// here.
func (t *Txn) WriteCommitTree(ctx context.Context, commit Checksum, m *MTree, o CommitOptions) error {
	err := t.check(ctx)
	if err == nil {
		err = t.writeCommitTree(ctx, commit, m, o.forTxn(t))
	}
	if err != nil {
		return fmt.Errorf("write tree of commit %s: %w", commit, err)
	}
	return nil
}

func (t *Txn) writeCommitTree(ctx context.Context, commit Checksum, m *MTree, o CommitOptions) error {
	c, err := loadParsed(t.LoadRaw, ObjectName{commit, TypeCommit}, ParseCommit)
	if err != nil {
		return err
	}
	if o.changesNothing() {
		return t.mergeCommit(ctx, commit, c, m)
	}
	w := &treeWriter{t: t, o: o, pool: t.newPool(ctx, o.Workers), left: maxTreeEntries}
	return w.pool.finish(w.dir(TreeDir{Tree: c.RootTree, Meta: c.RootMeta}, "/", m, 0))
}

// mergeCommit leaves what need not be looked at unread. Only a commit that is not
// partial vouches for the objects below it; of a partial one all are checked.
func (t *Txn) mergeCommit(ctx context.Context, sum Checksum, c Commit, m *MTree) error {
	if err := m.merge(lazyTree{load: t.loadDirTree, tree: c.RootTree}, c.RootMeta); err != nil {
		return err
	}
	partial, err := t.r.CommitPartial(sum)
	if err != nil || !partial {
		return err
	}
	left := maxTreeEntries
	return m.openAll(ctx, &left)
}

// treeWriter applies options to a committed tree.
type treeWriter struct {
	t    *Txn
	o    CommitOptions
	pool *writePool
	left int // entries that may still come
}

func (w *treeWriter) dir(d TreeDir, p string, m *MTree, depth int) error {
	meta, err := loadParsed(w.t.LoadRaw, ObjectName{d.Meta, TypeDirMeta}, ParseDirMeta)
	if err != nil {
		return err
	}
	h := FileHeader{UID: meta.UID, GID: meta.GID, Mode: meta.Mode, Xattrs: w.xattrs(meta.Xattrs)}
	skip, err := w.o.apply(p, &h, true)
	if err != nil || skip {
		return err
	}
	if d.Name != "" {
		if m, err = m.Dir(d.Name, true); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	if err := m.SetMeta(dirMetaOf(h)); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return w.children(d.Tree, p, m, depth)
}

func (w *treeWriter) children(tree Checksum, p string, m *MTree, depth int) error {
	dt, err := w.t.loadDirTree(tree)
	if err != nil {
		return err
	}
	w.left -= len(dt.Files) + len(dt.Dirs)
	if depth > maxTreeDepth || w.left < 0 {
		return fmt.Errorf("%s: %w: too deep or too large", clip(p), ErrInvalid)
	}
	for _, f := range dt.Files {
		if err := w.pool.ctx.Err(); err != nil {
			return context.Cause(w.pool.ctx)
		}
		if err := w.file(f, path.Join(p, f.Name), m); err != nil {
			return fmt.Errorf("%s: %w", path.Join(p, f.Name), err)
		}
	}
	for _, d := range dt.Dirs {
		if err := w.dir(d, path.Join(p, d.Name), m, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *treeWriter) xattrs(x []Xattr) []Xattr {
	if w.o.SkipXattrs || w.o.CanonicalPermissions || w.t.r.opts.disableXattrs {
		return nil
	}
	return x
}

func (w *treeWriter) file(f TreeFile, p string, m *MTree) error {
	was, size, rc, err := w.t.OpenFile(f.Checksum)
	if err != nil {
		return err
	}
	if err := rc.Close(); err != nil {
		return err
	}
	h := was
	h.Xattrs = w.xattrs(h.Xattrs)
	skip, err := w.o.apply(p, &h, true)
	if err != nil || skip {
		return err
	}
	if h.equal(was) {
		w.t.count.contentTotal.Add(1)
		w.pool.known(m, f.Name, f.Checksum)
		return w.t.recordStored(ObjectName{f.Checksum, TypeFile}, h, size)
	}
	return w.pool.submit(m, f.Name, poolJob{size: size, run: func(ctx context.Context) (Checksum, error) {
		sum, err := w.rewrite(ctx, f.Checksum, h, size)
		if err != nil {
			return sum, fmt.Errorf("%s: %w", p, err)
		}
		return sum, nil
	}})
}

// rewrite stores the content of an object under another header.
func (w *treeWriter) rewrite(ctx context.Context, c Checksum, h FileHeader, size int64) (Checksum, error) {
	_, _, rc, err := w.t.OpenFile(c)
	if err != nil {
		return Checksum{}, err
	}
	sum, err := w.t.WriteContent(ctx, h, size, &ctxReader{ctx, rc})
	return sum, errors.Join(err, rc.Close())
}

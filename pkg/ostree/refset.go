// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
)

// SetRef points a ref (REF or REMOTE:REF) at a stored commit at once. A ref below
// another ref, or above others, is an error wrapping ErrExists; an absent commit one
// wrapping ErrNotFound.
func (r *Repo) SetRef(ctx context.Context, refspec string, c Checksum) error {
	_, err := r.Update(ctx, func(_ context.Context, t *Txn) error { return t.SetRef(refspec, c) })
	return err
}

// RemoveRef deletes a ref at once; an absent one is no error. A ref that an alias
// names is deleted like any other, see RefAliases.
func (r *Repo) RemoveRef(ctx context.Context, refspec string) error {
	_, err := r.Update(ctx, func(_ context.Context, t *Txn) error { return t.DeleteRef(refspec) })
	return err
}

// RefAliases lists the local refs that are aliases of the local ref, in byte order.
func (r *Repo) RefAliases(ref string) ([]string, error) {
	list, err := r.ListRefs(RefListOptions{Aliases: true, NoRemotes: true})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list {
		if e.Alias == ref {
			names = append(names, e.Name)
		}
	}
	return names, nil
}

// SetAlias makes a local ref another name of the local ref target: a relative
// symbolic link, which follows target from then on. An existing ref or alias of that
// name is replaced; the caller asks first. target must exist (ErrNotFound) and not be
// ref or an alias that leads to it (ErrInvalid).
func (r *Repo) SetAlias(ctx context.Context, ref, target string) error {
	if strings.Contains(ref, ":") {
		remote, _, _ := strings.Cut(ref, ":")
		return worded(ErrInvalid, "Cannot create alias to remote ref: %s", clip(remote))
	}
	if err := errors.Join(CheckRef(ref), CheckRef(target)); err != nil {
		return err
	}
	if err := r.checkAlias(ref, target); err != nil {
		return err
	}
	unlock, err := r.lock(ctx, true)
	if err != nil {
		return err
	}
	err = r.placeAlias(ref, target)
	if err = errors.Join(err, unlock()); err != nil {
		return fmt.Errorf("set alias %s: %w", ref, err)
	}
	return r.autoSummary(ctx)
}

func (r *Repo) checkAlias(ref, target string) error {
	_, err := readRefFile(r.dir, headsDir+"/"+target)
	if errors.Is(err, ErrNotFound) {
		return worded(ErrNotFound, "Cannot create alias to non-existent ref: %s", clip(target))
	}
	if err != nil {
		return fmt.Errorf("set alias %s: %w", ref, err)
	}
	for at, n := target, 0; n < maxRefDeep; n++ {
		if at == ref {
			return fmt.Errorf("set alias %s: %w: it would name itself", ref, ErrInvalid)
		}
		link, err := r.dir.Readlink(headsDir + "/" + at)
		if err != nil {
			return nil
		}
		at = path.Join(path.Dir(at), link)
	}
	return fmt.Errorf("set alias %s: %w: too many aliases in a row", ref, ErrInvalid)
}

func (r *Repo) placeAlias(ref, target string) error {
	p := headsDir + "/" + ref
	t := &Txn{r: r}
	if err := t.checkRefConflict(p); err != nil {
		return err
	}
	if err := r.dir.MkdirAll(path.Dir(p), 0o755); err != nil {
		return err
	}
	if st, err := r.dir.Lstat(p); err == nil && st.IsDir() {
		if err := r.dir.RemoveAll(p); err != nil {
			return err
		}
	}
	if err := r.dir.SymlinkAtomic(strings.Repeat("../", strings.Count(ref, "/"))+target, p); err != nil {
		return err
	}
	r.touch()
	return nil
}

// Reset points an existing local ref at the commit of a rev, wherever that is in
// the ref's history or outside of it, and gives the commit. An absent ref is an
// error wrapping ErrNotFound.
func (r *Repo) Reset(ctx context.Context, ref, rev string) (Checksum, error) {
	if _, err := r.ReadRef(ref); errors.Is(err, ErrNotFound) || errors.Is(err, ErrInvalid) {
		return Checksum{}, worded(ErrNotFound, "Invalid ref '%s'", clip(ref))
	}
	c, err := r.Resolve(rev)
	if err != nil {
		return c, err
	}
	return c, r.SetRef(ctx, ref, c)
}

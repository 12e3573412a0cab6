// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// refs checks the file of every ref and that the commit it names is stored.
func (f *fsck) refs() error {
	for _, dir := range []string{headsDir, remotesDir, mirrorsDir} {
		err := f.r.walkRefs(dir, 0, func(p string) error {
			c, err := readRefFile(f.r.dir, p)
			if err != nil {
				f.report(Finding{Kind: InvalidRef, Ref: p, Detail: err.Error()})
				return nil
			}
			collection := ""
			if below, ok := strings.CutPrefix(p, mirrorsDir+"/"); ok {
				collection, _, _ = strings.Cut(below, "/")
			}
			if !f.hasCommit(c) {
				f.report(Finding{Kind: DanglingRef, Ref: p, Collection: collection, Object: ObjectName{c, TypeCommit}})
				return nil
			}
			if collection == "" {
				f.binding(p, "", c)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// collectionRefs checks the bindings of refs that belong to a collection; those of
// remotes are bound to the remote's, which the pull has verified.
func (f *fsck) collectionRefs() error {
	dirs, err := f.r.collectionDirs(CollectionListOptions{NoRemotes: true})
	if err != nil {
		return err
	}
	for _, d := range dirs {
		err := f.r.walkRefs(d.path, 0, func(p string) error {
			if c, err := readRefFile(f.r.dir, p); err == nil && f.hasCommit(c) {
				f.binding(p, d.id, c)
			}
			return nil // anything else has been reported
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *fsck) binding(p, collection string, c Checksum) {
	commit, err := f.r.LoadCommit(c)
	if err != nil {
		f.damaged(ObjectName{c, TypeCommit}, err)
		return
	}
	if !f.o.VerifyBindings {
		return
	}
	x := Finding{Kind: WrongBinding, Ref: p, Collection: collection, Object: ObjectName{c, TypeCommit}}
	ref := strings.TrimPrefix(refspecOf(p), mirrorsDir+"/"+collection+"/")
	if err := commit.VerifyBindings(collection, ref[strings.IndexByte(ref, ':')+1:]); err != nil {
		x.Detail = fmt.Sprintf("Commit %s: %v", c, err)
		f.report(x)
	}
}

// lookAtCommits reads each commit stored: marks, parents and bindings.
func (f *fsck) lookAtCommits() error {
	for _, c := range f.commits {
		n := ObjectName{c, TypeCommit}
		f.res.Commits++
		state, err := f.r.partialState(n.Checksum)
		if err != nil {
			return err
		}
		switch state {
		case partialFsck:
			f.res.FsckPartial++
			f.res.Partial++
			if f.ignoreMarks {
				f.marked = append(f.marked, n.Checksum)
				f.whole = append(f.whole, n.Checksum)
			}
		case partialPull:
			f.res.Partial++
		default:
			f.whole = append(f.whole, n.Checksum)
		}
		commit, err := f.r.LoadCommit(n.Checksum)
		if err != nil {
			f.damaged(n, err)
			continue
		}
		if p := commit.Parent; !p.IsZero() && !f.hasCommit(p) {
			f.lost = append(f.lost, p)
		}
		if err := f.backRefs(n.Checksum, commit); err != nil {
			return err
		}
	}
	slices.SortFunc(f.whole, Checksum.Compare)
	return nil
}

func (f *fsck) backRefs(c Checksum, commit Commit) error {
	if !f.o.VerifyBackRefs {
		return nil
	}
	refs, _ := commit.Bindings()
	for _, ref := range refs {
		var at Checksum
		var err error
		name := "Ref ‘" + ref.Ref + "’"
		if ref.Collection != "" {
			name = "Collection–ref " + ref.String()
			at, err = f.r.ResolveCollectionRef(ref, false)
		} else {
			at, err = f.r.Resolve(ref.Ref)
		}
		detail := ""
		switch {
		case errors.Is(err, ErrNotFound) || errors.Is(err, ErrInvalid):
			detail = fmt.Sprintf("%s in bindings for commit %s does not exist", name, c)
		case err != nil:
			return err
		case at != c:
			detail = fmt.Sprintf("%s in bindings for commit %s does not resolve to that commit", name, c)
		}
		if detail != "" {
			f.report(Finding{Kind: WrongBackRef, Object: ObjectName{c, TypeCommit}, Collection: ref.Collection, Detail: detail})
		}
	}
	return nil
}

// blame names for each damaged object the complete commits that need it.
func (f *fsck) blame() {
	if len(f.bad) == 0 {
		return
	}
	b := &blamer{r: f.r, bad: f.bad, memo: map[Checksum][]int{}}
	for _, c := range f.whole {
		for _, i := range b.commit(c) {
			f.res.Findings[i].Commits = append(f.res.Findings[i].Commits, c)
		}
	}
	if f.o.Reachable {
		f.res.Findings = slices.DeleteFunc(f.res.Findings, func(x Finding) bool {
			return x.Object.Type == TypeFile && len(x.Commits) == 0 // the filter passed a stranger
		})
	}
}

// needed tells whether a complete commit needs an object.
func (f *fsck) needed(n ObjectName) bool {
	b := &blamer{r: f.r, bad: map[ObjectName]int{n: 0}, memo: map[Checksum][]int{}}
	return slices.ContainsFunc(f.whole, func(c Checksum) bool { return len(b.commit(c)) > 0 })
}

// blamer remembers for each directory which findings are in or below it.
type blamer struct {
	r    *Repo
	bad  map[ObjectName]int
	memo map[Checksum][]int
}

func (b *blamer) commit(c Checksum) []int {
	found := map[int]struct{}{}
	b.add(found, ObjectName{c, TypeCommit})
	commit, err := b.r.LoadCommit(c)
	if err == nil {
		b.add(found, ObjectName{commit.RootMeta, TypeDirMeta})
		for _, i := range b.tree(commit.RootTree, 0) {
			found[i] = struct{}{}
		}
	}
	return sortedInts(found)
}

func (b *blamer) add(found map[int]struct{}, n ObjectName) {
	if i, ok := b.bad[n]; ok {
		found[i] = struct{}{}
	}
}

func (b *blamer) tree(c Checksum, depth int) []int {
	if list, ok := b.memo[c]; ok || depth > maxTreeDepth {
		return list
	}
	found := map[int]struct{}{}
	b.add(found, ObjectName{c, TypeDirTree})
	t, err := b.r.LoadDirTree(c)
	if err == nil {
		for _, x := range t.Files {
			b.add(found, ObjectName{x.Checksum, TypeFile})
		}
		for _, x := range t.Dirs {
			b.add(found, ObjectName{x.Meta, TypeDirMeta})
			for _, i := range b.tree(x.Tree, depth+1) {
				found[i] = struct{}{}
			}
		}
	}
	b.memo[c] = sortedInts(found)
	return b.memo[c]
}

func sortedInts(set map[int]struct{}) []int {
	list := make([]int, 0, len(set))
	for i := range set {
		list = append(list, i)
	}
	slices.Sort(list)
	return list
}

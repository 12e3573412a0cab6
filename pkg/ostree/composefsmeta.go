// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
)

// keyComposefs is where a commit has the fs-verity digest of its composefs image.
const keyComposefs = "ostree.composefs.digest.v0"

// AddComposefs records the fs-verity digest of the composefs image of a tree, with
// the digests of all files in it, whatever the filesystem: what WriteComposefs with no
// options returns for the commit. A signature of the commit then vouches for the image.
// The tree may have been written by this transaction; all of its files are read. The
// keys come out in the order in which libostree has them.
func (t *Txn) AddComposefs(ctx context.Context, md *gvariant.Dict, tree, meta Checksum) error {
	if err := t.check(ctx); err != nil {
		return err
	}
	c := &composefs{r: t.r, src: t, verity: map[Checksum]Checksum{}}
	root := Node{Path: "/", IsDir: true, Tree: tree, Meta: meta}
	err := c.hashAll(ctx, root)
	var digest Checksum
	if err == nil {
		digest, err = c.write(ctx, tree, meta, io.Discard)
	}
	if err != nil {
		return fmt.Errorf("compute digest of composefs image: %w", err)
	}
	md.Set(keyComposefs, gvariant.ByteSlice(digest[:]))
	*md = asHashed(*md)
	return nil
}

// hashAll computes the digests of a tree's files, several at a time.
func (c *composefs) hashAll(ctx context.Context, root Node) error {
	var list []Checksum
	met := map[Checksum]bool{}
	left := maxTreeEntries
	err := walkTree(ctx, c.src, root, 0, &left, func(n Node) error {
		if !n.IsDir && !met[n.File] {
			met[n.File] = true
			list = append(list, n.File)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, file := range list {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			sum, err := c.hashFile(file)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			c.verity[file] = sum
			return nil
		})
	}
	return g.Wait()
}

func (c *composefs) hashFile(file Checksum) (Checksum, error) {
	_, _, rc, err := c.src.OpenFile(file)
	if err != nil {
		return Checksum{}, err
	}
	defer rc.Close()
	return c.hash(rc)
}

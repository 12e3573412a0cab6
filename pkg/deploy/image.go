// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/sys"
	"github.com/hostctl/hostctl/pkg/deploy/prepareroot"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// ErrNoVerity reports a tree whose prepare-root.conf wants its files checked by
// fs-verity, on a filesystem that cannot.
var ErrNoVerity = errors.New("the filesystem has no fs-verity")

// ErrImageDigest reports a composefs image that is not the one that the commit records.
var ErrImageDigest = errors.New("composefs image differs from the digest in the commit")

const maxPrepareRoot = 1 << 20 // bytes

// composefsOf tells what a deployment's tree, or the repository's configuration, wants
// of the image.
func (s *Sysroot) composefsOf(root *fsx.Dir) (prepareroot.Composefs, error) {
	var conf [2][]byte
	for i, name := range []string{"usr/lib/ostree/prepare-root.conf", "usr/etc/ostree/prepare-root.conf"} {
		var err error
		if conf[i], err = root.ReadFileInRoot(name, maxPrepareRoot); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return prepareroot.Composefs{}, err
		}
	}
	c, err := prepareroot.ParseConfig(conf[0], conf[1])
	if err != nil {
		return c.Composefs, fmt.Errorf("read configuration of the tree: %w", err)
	}
	// libostree takes other words there, too, which ask for nothing.
	if v, err := s.repo.Config().StringOr("ex-integrity", "composefs", ""); err == nil && c.Composefs.Use == prepareroot.No &&
		(v == "yes" || v == "true" || v == "1") {
		c.Composefs.Use = prepareroot.Yes
	}
	return c.Composefs, nil
}

// writeImage gives a new deployment its composefs image, where the tree wants one: with
// the digests of files that the kernel enforces, of all files if the tree asks for that.
func (s *Sysroot) writeImage(ctx context.Context, d Deployment, root *fsx.Dir) error {
	c, err := s.composefsOf(root)
	if err != nil || c.Use == prepareroot.No {
		return err
	}
	f, err := root.CreateAtomic(prepareroot.ImageName, 0o644)
	if err != nil {
		return err
	}
	defer f.Cancel()
	digest, err := s.repo.WriteComposefs(ctx, d.Checksum, f, ostree.ComposefsOptions{OnDisk: !c.Verity, Enable: c.Verity})
	if sys.IsNotSupported(err) {
		return fmt.Errorf("%w, which [composefs] of the tree's prepare-root.conf asks for: %w", ErrNoVerity, err)
	}
	if err != nil {
		return err
	}
	if c.Verity {
		if err := s.checkDigest(d.Checksum, digest, c.Signed); err != nil {
			return err
		}
	}
	if err := f.Commit(); err != nil || !c.Verity {
		return err
	}
	return enableVerity(root, prepareroot.ImageName)
}

// checkDigest compares with the commit. A boot of a signed deployment fails without.
func (s *Sysroot) checkDigest(commit, digest ostree.Checksum, signed bool) error {
	c, err := s.repo.LoadCommit(commit)
	if err != nil {
		return err
	}
	want, ok := c.Metadata.ByteSlice(prepareroot.DigestKey)
	if !ok && !signed {
		return nil
	}
	if !bytes.Equal(want, digest[:]) {
		return fmt.Errorf("%w: it has %s, the commit %x", ErrImageDigest, digest, want)
	}
	return nil
}

func enableVerity(root *fsx.Dir, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := sys.EnableVerity(int(f.Fd())); err != nil {
		return fmt.Errorf("enable fs-verity on %s: %w", name, err)
	}
	return nil
}

// ImageProblem is a deployment whose composefs image would not show its commit.
type ImageProblem struct {
	Deployment Deployment `json:"deployment"`
	Error      string     `json:"error"`
}

func (p ImageProblem) String() string {
	return fmt.Sprintf("deployment %s: composefs image: %s", p.Deployment.Name(), p.Error)
}

// CheckImages compares the composefs images of all deployments with their commits. count
// is how many there are.
func (s *Sysroot) CheckImages(ctx context.Context) (bad []ImageProblem, count int, err error) {
	st, err := s.Load(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, d := range st.Deployments {
		found, err := s.checkImage(ctx, d)
		if ctx.Err() != nil {
			return bad, count, ctx.Err()
		}
		if err != nil {
			bad = append(bad, ImageProblem{d, err.Error()})
		}
		if found {
			count++
		}
	}
	return bad, count, nil
}

func (s *Sysroot) checkImage(ctx context.Context, d Deployment) (found bool, err error) {
	root, err := s.dir.OpenDir(d.Dir())
	if err != nil {
		return false, err
	}
	defer root.Close()
	c, err := s.composefsOf(root)
	if err != nil {
		return false, err
	}
	f, err := root.Open(prepareroot.ImageName)
	if errors.Is(err, fs.ErrNotExist) {
		if c.Use == prepareroot.Yes {
			err = fmt.Errorf("%s is missing, which prepare-root.conf of the tree asks for", path.Join(d.Dir(), prepareroot.ImageName))
			return false, err
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	// What it was made with is not recorded, and files may have got fs-verity since.
	var first error
	for _, o := range []ostree.ComposefsOptions{{NoVerity: true}, {OnDisk: true}, {}} {
		if c.Verity {
			o = ostree.ComposefsOptions{}
		}
		err := s.sameImage(ctx, d, f, o)
		if err == nil || c.Verity {
			return true, err
		}
		if first == nil {
			first = err
		}
	}
	return true, first
}

// errImage ends the writing of an image at the first byte that differs.
var errImage = errors.New("it is not that of the commit; deploy the commit again")

func (s *Sysroot) sameImage(ctx context.Context, d Deployment, f *os.File, o ostree.ComposefsOptions) error {
	w := &comparer{have: io.NewSectionReader(f, 0, 1<<62)}
	if _, err := s.repo.WriteComposefs(ctx, d.Checksum, w, o); err != nil {
		return err
	}
	if n, _ := w.have.Read(make([]byte, 1)); n > 0 {
		return fmt.Errorf("%w: it is too long", errImage)
	}
	return nil
}

// comparer takes what another file has.
type comparer struct {
	have io.Reader
	buf  []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	if len(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	n, err := io.ReadFull(c.have, c.buf[:len(p)])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err
	}
	if !bytes.Equal(c.buf[:n], p) {
		return 0, errImage
	}
	return n, nil
}

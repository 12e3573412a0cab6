// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/container"
)

// parseImage reads an image's place from the command line; paths need not be absolute.
func parseImage(s string) (container.Reference, error) {
	ref, err := container.ParseReference(s)
	if err != nil {
		return ref, ui.UsageError{Err: err}
	}
	if ref.Native() {
		ref.Path, err = filepath.Abs(ref.Path)
	}
	return ref, err
}

// openRepo opens a repository that is there.
func (a *app) openRepo(dir string) (*ostree.Repo, error) {
	d, err := fsx.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	r, err := ostree.Open(d, ostree.Options{Logger: a.Log()})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open repository %s: %w", dir, err), d.Close())
	}
	return r, nil
}

// scratch makes a folder in dir that goes when done is called.
func scratch(dir string) (d *fsx.Dir, done func() error, err error) {
	name, err := os.MkdirTemp(dir, ".hostctl-image-")
	if err != nil {
		return nil, nil, fmt.Errorf("make folder for the image: %w", err)
	}
	if d, err = fsx.OpenDir(name); err != nil {
		return nil, nil, errors.Join(err, os.Remove(name))
	}
	return d, func() error { return errors.Join(d.Close(), os.RemoveAll(name)) }, nil
}

// withImage opens an image and closes it after fn. Images that skopeo must fetch are
// copied to a layout first.
func withImage(ctx context.Context, ref container.Reference, auth container.CopyOptions, fn func(*container.Image) error) (err error) {
	switch ref.Transport {
	case container.TransportArchive:
		f, err := os.Open(ref.Path)
		if err != nil {
			return fmt.Errorf("open image: %w", err)
		}
		defer f.Close()
		img, err := container.OpenArchive(f, ref.Tag)
		if err != nil {
			return err
		}
		return fn(img)
	case container.TransportLayout:
		d, err := fsx.OpenDir(ref.Path)
		if err != nil {
			return fmt.Errorf("open image: %w", err)
		}
		defer d.Close()
		img, err := container.Open(d, ref.Tag)
		if err != nil {
			return err
		}
		return fn(img)
	}
	d, done, err := scratch("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := container.Copy(ctx, ref, container.Reference{Transport: container.TransportLayout, Path: d.Path()}, auth); err != nil {
		return err
	}
	img, err := container.Open(d, "")
	if err != nil {
		return err
	}
	return fn(img)
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
)

// WrongPayloadLink: a payload link leads to a file object of another content. Nothing
// is lost, but libostree would give a new object that content.
const WrongPayloadLink FindingKind = "wrong-payload-link"

// payloadLinks checks that each link leads to the content that it is named after. One
// whose object is gone is no damage: the next prune, or writer, drops it.
func (f *fsck) payloadLinks(ctx context.Context) error {
	if f.o.MetadataOnly {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers(f.o.Workers))
	for _, link := range f.links {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f.payloadLink(link); err != nil {
				f.report(Finding{Kind: WrongPayloadLink, Object: link, Detail: fmt.Sprintf("payload link %s: %v", link, err)})
			}
			return nil
		})
	}
	return g.Wait()
}

func (f *fsck) payloadLink(link ObjectName) error {
	file, ok := readPayloadLink(f.r.objects, link.loosePath(f.r.mode))
	if !ok {
		return fmt.Errorf("%w: it leads to no object", ErrInvalid)
	}
	if f.isBad(file) {
		return nil // that is what is to be mended
	}
	_, _, rc, err := f.r.openContent(f.r.objects, file.loosePath(f.r.mode), file)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer rc.Close()
	hs := sha256.New()
	if _, err := io.Copy(hs, rc); err != nil {
		return err
	}
	if sum := Checksum(hs.Sum(nil)); sum != link.Checksum {
		return fmt.Errorf("%w: the content of %s has checksum %s", ErrCorrupt, file, sum)
	}
	return nil
}

// dropWrongLinks deletes the payload links that were found wrong: what they could
// save is not worth more.
func (r *Repo) dropWrongLinks(findings []Finding) (deleted []ObjectName, err error) {
	for _, x := range findings {
		if x.Kind != WrongPayloadLink {
			continue
		}
		if err := r.removeIfThere(r.objects, x.Object.loosePath(r.mode)); err != nil {
			return deleted, fmt.Errorf("delete payload link %s: %w", x.Object, err)
		}
		deleted = append(deleted, x.Object)
	}
	return deleted, nil
}

// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gpg"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

// readMetadata collects what the options add to the commit.
func (m *committer) readMetadata() error {
	if err := addPairs(&m.metadata, m.o.metaStrings, false); err != nil {
		return err
	}
	if err := addPairs(&m.metadata, m.o.metaVariants, true); err != nil {
		return err
	}
	if err := m.keepMetadata(); err != nil {
		return err
	}
	if _, empty := m.metadata.Get(""); empty {
		return failf("Empty metadata key")
	}
	if len(m.o.detached) == 0 {
		return nil
	}
	m.detached = &gvariant.Dict{}
	return addPairs(m.detached, m.o.detached, false)
}

// addPairs adds KEY=VALUE arguments, whose values are strings or, with typed, in
// the GVariant text format.
func addPairs(d *gvariant.Dict, pairs []string, typed bool) error {
	for _, s := range pairs {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return failf("Missing '=' in KEY=VALUE metadata '%s'", s)
		}
		v := gvariant.String(value)
		if typed {
			var err error
			if v, err = gvariant.ParseText(value); err != nil {
				return failf("Parsing %s: %w", s, err)
			}
		}
		if err := v.Err(); err != nil {
			return fmt.Errorf("metadata %s: %w", key, err)
		}
		d.Set(key, v)
	}
	return nil
}

func (m *committer) keepMetadata() error {
	if len(m.o.metaKeep) == 0 {
		return nil
	}
	parent, err := m.repo.LoadCommit(m.parent)
	if err != nil {
		return err
	}
	for _, key := range m.o.metaKeep {
		v, ok := parent.Metadata.Get(key)
		if !ok {
			return failf("Missing metadata key '%s' from commit '%s'", key, m.parent)
		}
		m.metadata.Set(key, v)
	}
	return nil
}

// bind records the refs and the collection that the commit is meant for.
func (m *committer) bind() {
	if m.o.noBindings {
		return
	}
	refs := slices.Clone(m.o.bindRefs)
	if m.o.branch.set {
		refs = append(refs, m.o.branch.value)
	}
	ostree.AddBindings(&m.metadata, m.repo.CollectionID(), refs...)
}

// sign stores the detached metadata with the signatures asked for, in the same
// transaction: there is no moment in which the commit lacks them.
func (m *committer) sign(ctx context.Context, t *ostree.Txn) error {
	signers, err := m.signers()
	if err != nil || m.detached == nil && len(signers) == 0 {
		return err
	}
	var dict gvariant.Dict
	if m.detached != nil {
		dict = *m.detached
	}
	raw, err := t.LoadRaw(ostree.ObjectName{Checksum: m.sum, Type: ostree.TypeCommit})
	if err != nil {
		return err
	}
	if err := sign.Sign(ctx, &dict, raw, signers...); err != nil {
		return err
	}
	return t.SetCommitMeta(ctx, m.sum, dict)
}

func (m *committer) signers() ([]sign.Signer, error) {
	var signers []sign.Signer
	if len(m.o.signKeys) > 0 {
		var err error
		if signers, err = (&signKeys{typ: m.o.signType}).signers(m.o.signKeys); err != nil {
			return nil, err
		}
	}
	for _, path := range m.o.signFiles {
		more, err := (&signKeys{typ: m.o.signType, file: text{path, true}}).signers(nil)
		if err != nil {
			return nil, err
		}
		signers = append(signers, more...)
	}
	for _, id := range m.o.gpgKeys {
		signers = append(signers, gpg.Signer{KeyID: id, Homedir: m.o.gpgHomedir})
	}
	return signers, nil
}

// readBody takes the description from a file, if it is there.
func (m *committer) readBody() error {
	if !m.o.bodyFile.set {
		return nil
	}
	data, err := readSmall(m.o.bodyFile.value)
	m.o.body = string(data)
	return err
}

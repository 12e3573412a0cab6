// SPDX-License-Identifier: Apache-2.0

package rpmcompose

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/rpmcompose/treefile"
)

const (
	keyAdvisories    = "rpmostree.advisories"
	keyContainerCmd  = "ostree.container-cmd"
	keyInitramfsArgs = "rpmostree.initramfs-args"
)

// listMetadata tells what the treefile says of the tree. The lists of repositories and
// advisories go where it wants them: into the commit, or beside it where they do not
// change its checksum.
func listMetadata(plan *Plan, inline, detached *gvariant.Dict) {
	m := plan.manifest
	place := func(target treefile.MetadataTarget, key string, v gvariant.Value) {
		switch target {
		case treefile.MetadataInline:
			inline.Set(key, v)
		case treefile.MetadataDetached:
			detached.Set(key, v)
		}
	}
	place(m.RepoMetadata, keyRepos, repoList(plan))
	if len(plan.Advisories) > 0 {
		place(m.AdvisoriesMetadata, keyAdvisories, advisoryList(plan.Advisories))
	}
	if len(m.ContainerCmd) > 0 {
		inline.Set(keyContainerCmd, gvariant.Strings(m.ContainerCmd))
	}
	if len(m.InitramfsArgs) > 0 {
		// A host that makes its own initramfs begins with these.
		inline.Set(keyInitramfsArgs, gvariant.Strings(m.InitramfsArgs))
	}
}

// metadataValue gives a value of add-commit-metadata its type: a list of strings
// is "as", another list "av", a table "a{sv}".
func metadataValue(v any) (gvariant.Value, error) {
	switch v := v.(type) {
	case string:
		return gvariant.String(v), nil
	case bool:
		return gvariant.Bool(v), nil
	case int64:
		// rpm-ostree stores integers of a treefile in network byte order.
		return gvariant.Uint64BE(uint64(v)), nil
	case uint64:
		return gvariant.Uint64BE(v), nil
	case float64:
		return gvariant.Parse("d", binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
	case []any:
		return metadataList(v)
	case map[string]any:
		var d gvariant.Dict
		for _, k := range slices.Sorted(maps.Keys(v)) {
			item, err := metadataValue(v[k])
			if err != nil {
				return gvariant.Value{}, fmt.Errorf("%s: %w", k, err)
			}
			d.Set(k, item)
		}
		return d.Value(), nil
	}
	return gvariant.Value{}, fmt.Errorf("a value of type %T cannot be stored", v)
}

func metadataList(v []any) (gvariant.Value, error) {
	texts, values := make([]string, 0, len(v)), make([]gvariant.Value, 0, len(v))
	for _, e := range v {
		if s, ok := e.(string); ok {
			texts = append(texts, s)
		}
		item, err := metadataValue(e)
		if err != nil {
			return gvariant.Value{}, err
		}
		values = append(values, gvariant.Variant(item))
	}
	if len(texts) == len(v) {
		return gvariant.Strings(texts), nil
	}
	return gvariant.Array("v", values...), nil
}

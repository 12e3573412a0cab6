// SPDX-License-Identifier: Apache-2.0

package rpmdb

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// table is one index table: keys of a tag, the number of the package they stand in, and the position in
// the tag's list.
type table struct {
	name string
	tag  rpm.Tag
	// blob tables have binary keys and no index at all; of the others some are also indexed by package.
	blob, byPackage bool
}

// tables lists the index tables in the order in which rpm creates them.
func tables() []table {
	return []table{
		{"Name", rpm.TagName, false, false},
		{"Basenames", rpm.TagBasenames, false, true},
		{"Group", rpm.TagGroup, false, false},
		{"Requirename", rpm.TagRequireName, false, true},
		{"Providename", rpm.TagProvideName, false, true},
		{"Conflictname", rpm.TagConflictName, false, true},
		{"Obsoletename", rpm.TagObsoleteName, false, true},
		{"Triggername", rpm.TagTriggerName, false, true},
		{"Dirnames", rpm.TagDirnames, false, true},
		{"Installtid", rpm.TagInstallTID, true, false},
		{"Sigmd5", rpm.TagSigMD5, true, false},
		{"Sha1header", rpm.TagSHA1Header, false, false},
		{"Filetriggername", rpm.TagFileTriggerName, false, true},
		{"Transfiletriggername", rpm.TagTransFileTriggerName, false, true},
		{"Recommendname", rpm.TagRecommendName, false, true},
		{"Suggestname", rpm.TagSuggestName, false, true},
		{"Supplementname", rpm.TagSupplementName, false, true},
		{"Enhancename", rpm.TagEnhanceName, false, true},
	}
}

// createPackages and the statements of table are worded as rpm words them: the wording is kept in the
// database, and rpm's own "CREATE ... IF NOT EXISTS" then finds everything in place.
const createPackages = `CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL)`

func (t table) create() string {
	typ := "TEXT"
	if t.blob {
		typ = "BLOB"
	}
	return fmt.Sprintf(`CREATE TABLE '%s' (key '%s' NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL, FOREIGN KEY (hnum) REFERENCES 'Packages'(hnum))`, t.name, typ)
}

func (t table) createIndexes() []string {
	var out []string
	if !t.blob {
		out = append(out, fmt.Sprintf(`CREATE INDEX '%s_key_idx' ON '%s'(key ASC)`, t.name, t.name))
	}
	if t.byPackage {
		out = append(out, fmt.Sprintf(`CREATE INDEX '%s_hnum_idx' ON '%s'(hnum ASC)`, t.name, t.name))
	}
	return out
}

// row is one entry of an index table.
type row struct {
	key any // string or []byte
	idx uint32
}

// installOnly selects requirements that matter only while their package is installed, and eraseOnly those
// that matter when it is removed: rpm looks requirements up to judge removals, so the former alone are not
// indexed.
const (
	installOnly = rpm.DepScriptPre | rpm.DepScriptPost | rpm.DepRpmlib | rpm.DepKeyring | rpm.DepPreTrans | rpm.DepPostTrans
	eraseOnly   = rpm.DepScriptPreUn | rpm.DepScriptPostUn
)

// rows gives the entries of one package in a table.
func (t table) rows(p *rpm.Package) []row {
	h := p.Header
	if t.blob {
		return t.blobRows(h)
	}
	keys := h.Strings(t.tag)
	if keys == nil && t.tag == rpm.TagGroup {
		keys = []string{"Unknown"}
	}
	var flags, scripts []uint32
	switch t.tag {
	case rpm.TagRequireName:
		flags = h.Uint32s(rpm.TagRequireFlags)
	case rpm.TagFileTriggerName:
		scripts = h.Uint32s(rpm.TagFileTriggerIndex)
	case rpm.TagTransFileTriggerName:
		scripts = h.Uint32s(rpm.TagTransFileTriggerIndex)
	case rpm.TagGroup:
		keys = keys[:1] // the others are translations
	}
	out := make([]row, 0, len(keys))
	for i, key := range keys {
		if t.tag == rpm.TagTriggerName && slices.Contains(keys[:i], key) {
			continue // a package is looked up once per name
		}
		if i < len(flags) {
			if f := rpm.DepFlags(flags[i]); f&installOnly != 0 && f&eraseOnly == 0 {
				continue
			}
		}
		r := row{key: key, idx: uint32(i)}
		if i < len(scripts) {
			r.idx = scripts[i] // file triggers are looked up by script
		}
		out = append(out, r)
		if t.rich() && len(key) > 0 && key[0] == '(' {
			for _, name := range richNames(key) {
				out = append(out, row{key: name, idx: r.idx})
			}
		}
	}
	return out
}

// rich says whether the table holds dependencies that may be rich ones.
func (t table) rich() bool {
	switch t.tag {
	case rpm.TagRequireName, rpm.TagConflictName, rpm.TagRecommendName, rpm.TagSuggestName, rpm.TagSupplementName, rpm.TagEnhanceName:
		return true
	}
	return false
}

// blobRows gives binary keys: numbers in the byte order of the machine, which is little-endian on all that
// are supported.
func (t table) blobRows(h *rpm.Header) []row {
	if t.tag == rpm.TagInstallTID {
		n, ok := h.Uint(t.tag)
		if !ok {
			return nil
		}
		return []row{{key: binary.LittleEndian.AppendUint32(nil, uint32(n))}}
	}
	if b := h.Bytes(t.tag); len(b) > 0 {
		return []row{{key: b}}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package ostree

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

const deltasDir = "deltas"

// DeltaName identifies a static delta of the repository. A zero From means a
// delta from nothing.
type DeltaName struct{ From, To Checksum }

// String gives FROM-TO or TO in hexadecimal, as the summary lists it.
func (n DeltaName) String() string {
	if n.From.IsZero() {
		return n.To.String()
	}
	return n.From.String() + "-" + n.To.String()
}

// Path gives the delta's directory below the repository, deltas/XX/YYYY.
func (n DeltaName) Path() string {
	s := deltaPart(n.To)
	if !n.From.IsZero() {
		s = deltaPart(n.From) + "-" + s
	}
	return deltasDir + "/" + s[:2] + "/" + s[2:]
}

// deltaPart is base64 without padding, with _ for the slash.
func deltaPart(c Checksum) string {
	return strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(c[:]), "/", "_")
}

func parseDeltaPart(s string) (Checksum, error) {
	b, err := base64.RawStdEncoding.Strict().DecodeString(strings.ReplaceAll(s, "_", "/"))
	if err != nil {
		return Checksum{}, fmt.Errorf("%w: delta name %q", ErrInvalid, clip(s))
	}
	return ChecksumFromBytes(b)
}

func parseDeltaName(s string) (n DeltaName, err error) {
	from, to, both := strings.Cut(s, "-")
	if !both {
		n.To, err = parseDeltaPart(s)
		return n, err
	}
	if n.From, err = parseDeltaPart(from); err != nil {
		return n, err
	}
	n.To, err = parseDeltaPart(to)
	return n, err
}

// Deltas lists the static deltas that have a superblock, in order of their paths.
// Names that are none are passed over.
func (r *Repo) Deltas() ([]DeltaName, error) {
	var out []DeltaName
	tops, err := r.deltaFolders(deltasDir)
	if err != nil {
		return nil, err
	}
	for _, top := range tops {
		subs, err := r.dir.ReadDir(deltasDir + "/" + top)
		if err != nil {
			return nil, err
		}
		for _, sub := range subs {
			n, err := parseDeltaName(top + sub.Name)
			if err != nil {
				continue
			}
			if ok, err := r.dir.Exists(n.Path() + "/superblock"); err != nil {
				return nil, err
			} else if ok {
				out = append(out, n)
			}
		}
	}
	return out, nil
}

// deltaFolders lists the folders below dir that are named by the first two
// characters of a checksum in base64, which may be + or _.
func (r *Repo) deltaFolders(dir string) ([]string, error) {
	entries, err := r.dir.ReadDir(dir)
	if isAbsent(err) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && len(e.Name) == 2 {
			names = append(names, e.Name)
		}
	}
	return names, err
}

// superblockSum hashes a delta's superblock for the summary.
func (r *Repo) superblockSum(n DeltaName) (Checksum, error) {
	f, err := r.dir.Open(n.Path() + "/superblock")
	if err != nil {
		return Checksum{}, err
	}
	defer f.Close()
	hs := sha256.New()
	if _, err := io.Copy(hs, f); err != nil {
		return Checksum{}, err
	}
	return Checksum(hs.Sum(nil)), nil
}

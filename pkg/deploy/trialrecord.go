// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/hostctl/hostctl/pkg/bootloader"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/keyfile"
)

// The record of boots belongs to the sysroot, not to a deployment: what is
// blocked stays so when the deployment and its /etc are gone. Format in
// docs/formats/boot-record.md.
const (
	bootRecordFile = "ostree/hostctl-boots"
	maxBootRecord  = 256 << 10
	maxGood        = 16
	maxBlocked     = 32
	trialGroup     = "trial"
	goodGroup      = "good"
	blockedPrefix  = "blocked "
)

// bootRecord is the content of the record.
type bootRecord struct {
	trial   *Trial    // Deployment, Tries and Failure only
	good    []string  // STATEROOT/CSUM.N, the latest first
	blocked []Blocked // the latest first
}

// markGood puts d first among the good, and ends what says otherwise.
func (r *bootRecord) markGood(d Deployment) {
	name := d.FullName()
	r.good = append([]string{name}, slices.DeleteFunc(r.good, func(s string) bool { return s == name })...)
	r.good = r.good[:min(len(r.good), maxGood)]
	r.blocked = slices.DeleteFunc(r.blocked, func(b Blocked) bool { return b.Checksum == d.Checksum })
	if r.trial != nil && r.trial.Deployment == name {
		r.trial = nil
	}
}

// note adds a reason to the trial t of d.
func (r *bootRecord) note(d Deployment, t Trial, reason string) {
	if r.trial == nil || r.trial.Deployment != d.FullName() {
		r.trial = &Trial{Deployment: d.FullName(), Tries: t.Tries}
	}
	r.trial.Failure = cleanReason(reason)
}

// block adds b in front, in the place of an older block of the same commit.
func (r *bootRecord) block(b Blocked) {
	b.Reason = cleanReason(b.Reason)
	rest := slices.DeleteFunc(r.blocked, func(o Blocked) bool { return o.Checksum == b.Checksum })
	r.blocked = append([]Blocked{b}, rest...)
	r.blocked = r.blocked[:min(len(r.blocked), maxBlocked)]
}

func (s *Sysroot) readBootRecord() (bootRecord, error) {
	data, err := s.dir.ReadFile(bootRecordFile, maxBootRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return bootRecord{}, nil
	}
	if err != nil {
		return bootRecord{}, err
	}
	r, err := parseBootRecord(data)
	if err != nil {
		return bootRecord{}, fmt.Errorf("%w: /%s: %w", ErrInvalidStateFile, bootRecordFile, err)
	}
	return r, nil
}

// updateBootRecord replaces the record durably. A damaged one is begun anew.
func (s *Sysroot) updateBootRecord(change func(*bootRecord) error) error {
	r, err := s.readBootRecord()
	if err != nil && !errors.Is(err, ErrInvalidStateFile) {
		return err
	}
	if err := change(&r); err != nil {
		return err
	}
	data, err := r.format()
	if err != nil {
		return fmt.Errorf("write record of boots: %w", err)
	}
	return s.dir.WriteFileAtomic(bootRecordFile, data, 0o644)
}

func (r bootRecord) format() ([]byte, error) {
	f := keyfile.New()
	var errs []error
	set := func(group, key, value string) {
		if value != "" {
			errs = append(errs, f.SetString(group, key, value))
		}
	}
	if t := r.trial; t != nil {
		set(trialGroup, "deployment", t.Deployment)
		errs = append(errs, f.SetInt(trialGroup, "tries", int64(t.Tries)))
		set(trialGroup, "failure", t.Failure)
	}
	if len(r.good) > 0 {
		errs = append(errs, f.SetStrings(goodGroup, "deployments", r.good))
	}
	for _, b := range r.blocked {
		group := blockedPrefix + b.Checksum.String()
		set(group, "version", b.Version)
		set(group, "reason", b.Reason)
		set(group, "time", b.Time.UTC().Format(time.RFC3339))
	}
	return f.Bytes(), errors.Join(errs...)
}

func parseBootRecord(data []byte) (bootRecord, error) {
	var r bootRecord
	f, err := keyfile.Parse(data)
	if err != nil {
		return r, err
	}
	if f.HasGroup(trialGroup) {
		if r.trial, err = parseTrial(f); err != nil {
			return bootRecord{}, err
		}
	}
	if f.HasGroup(goodGroup) {
		if r.good, err = f.GetStrings(goodGroup, "deployments"); err != nil {
			return bootRecord{}, err
		}
	}
	for _, name := range r.good {
		if err := checkFullName(name); err != nil {
			return bootRecord{}, err
		}
	}
	for _, group := range f.Groups() {
		sum, ok := strings.CutPrefix(group, blockedPrefix)
		if !ok {
			continue
		}
		b, err := parseBlocked(f, group, sum)
		if err != nil {
			return bootRecord{}, err
		}
		r.blocked = append(r.blocked, b)
	}
	return r, nil
}

func parseTrial(f *keyfile.File) (*Trial, error) {
	name, err := f.GetString(trialGroup, "deployment")
	if err != nil {
		return nil, err
	}
	n, err := f.GetInt(trialGroup, "tries")
	if err != nil {
		return nil, err
	}
	if n < 1 || n > bootloader.MaxTries {
		return nil, fmt.Errorf("[%s] tries: %d is not within 1 and %d", trialGroup, n, bootloader.MaxTries)
	}
	failure, err := f.StringOr(trialGroup, "failure", "")
	if err != nil {
		return nil, err
	}
	return &Trial{Deployment: name, Tries: int(n), Failure: cleanReason(failure)}, checkFullName(name)
}

func parseBlocked(f *keyfile.File, group, sum string) (Blocked, error) {
	c, err := ostree.ParseChecksum(sum)
	if err != nil {
		return Blocked{}, fmt.Errorf("[%s]: %w", group, err)
	}
	b := Blocked{Checksum: c}
	version, err1 := f.StringOr(group, "version", "")
	reason, err2 := f.StringOr(group, "reason", "")
	when, err3 := f.StringOr(group, "time", "")
	if err := errors.Join(err1, err2, err3); err != nil {
		return b, err
	}
	if when != "" {
		if b.Time, err = time.Parse(time.RFC3339, when); err != nil {
			return b, fmt.Errorf("[%s] time: %w", group, err)
		}
	}
	b.Version, b.Reason = cleanReason(version), cleanReason(reason)
	return b, nil
}

// checkFullName requires STATEROOT/CSUM.N.
func checkFullName(s string) error {
	root, name, ok := strings.Cut(s, "/")
	if !ok || !validStateroot(root) {
		return fmt.Errorf("deployment %.80q: bad form", s)
	}
	_, _, err := parseName(name)
	return err
}

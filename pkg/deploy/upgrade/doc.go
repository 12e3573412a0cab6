// SPDX-License-Identifier: Apache-2.0

// Package upgrade moves a host from one commit to another: it reads what the
// host follows from its origin, pulls, compares and stages or deploys.
//
//	Check           what an upgrade would bring; only commit objects are fetched
//	Upgrade         the newest commit of the ref
//	DeployRevision  a given version or commit of the ref, also an older one
//	Rebase          another ref
//	Install         the first deployment of a new sysroot
//
// Everything is verified before it becomes visible, and what would make an
// upgrade fail at shutdown is found before it is staged.
package upgrade

import (
	"errors"
	"log/slog"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/bootloader/bls"
	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/rpmcompose/pkglist"
)

// Conditions that callers test for.
var (
	ErrNoOrigin     = errors.New("deployment follows no ref")
	ErrUnconfigured = errors.New("the origin has to be configured first")
	ErrNoVersion    = errors.New("no such version in the history of the ref")
	ErrAmbiguous    = errors.New("several stateroots have deployments; name one")
	ErrNoDeployment = deploy.ErrNoDeployment
)

// Options hold for every operation here. The zero value upgrades the booted
// stateroot and writes the boot order at once.
type Options struct {
	Stateroot string // "" means the booted one, or the only one
	// Stage leaves the last step to shutdown, see deploy.Stage. Off, the new
	// deployment is the default as soon as the call returns.
	Stage          bool
	Locked         bool // with Stage: not before deploy.SetStagedLocked(false)
	AllowDowngrade bool // accept a commit older than the current one
	// EtcConflicts says what to do where a local change of /etc hides a new default,
	// EtcReplace (relative to /etc) where to take the new default instead. "" and nil
	// mean what the settings of the sysroot say, and EtcReplace of a staged deployment
	// that is going to be replaced.
	EtcConflicts deploy.EtcConflicts
	EtcReplace   []string
	// Kargs changes the kernel arguments; nil leaves them.
	Kargs func(bls.Kargs) (bls.Kargs, error)
	// Owner replaces the kernel arguments of one owner, see deploy.Request; nil leaves them.
	Owner *deploy.OwnerKargs
	// Keep and KeepDays say how many deployments to keep, and for how long, see
	// deploy.Settings; 0 means what the settings say.
	Keep, KeepDays int
	// Tries is how often a new deployment is booted before the one before it comes
	// again, see deploy.Sysroot.Tries; 0: as configured, negative: no trial.
	Tries        int
	AllowBlocked bool // take a commit that failed its trial or was blocked, too
	NoCleanup    bool // leave what the change made superfluous

	Trust    pull.TrustOptions // where keys are looked for, beside those of the remote
	Network  pull.Network
	Progress progress.Func
	Logger   *slog.Logger // nil: discard
}

// Commit describes a commit for people.
type Commit struct {
	Checksum  ostree.Checksum `json:"checksum"`
	Version   string          `json:"version,omitempty"`
	Timestamp time.Time       `json:"timestamp"`
	// EndOfLife and EndOfLifeRebase are what the distributor says about the ref.
	EndOfLife       string `json:"endOfLife,omitempty"`
	EndOfLifeRebase string `json:"endOfLifeRebase,omitempty"`
}

// Result tells what an operation did or, from Check, would do.
type Result struct {
	Refspec   string `json:"refspec"`
	Current   Commit `json:"current"` // of the deployment that would boot next, or is staged
	New       Commit `json:"new"`
	Unchanged bool   `json:"unchanged"` // there is nothing to do
	// Blocked is set where New failed a trial here and is not taken for that.
	Blocked *deploy.Blocked `json:"blocked,omitempty"`
	// Warnings tell what looks wrong but did not stop the operation.
	Warnings []string `json:"warnings,omitempty"`
	// Packages is nil where a commit lacks a package list.
	Packages *pkglist.Diff `json:"packages,omitempty"`
	// Download is what Upgrade would receive, from Check only; nil where nothing tells
	// it in advance: neither the commit (ostree.sizes) nor a static delta.
	Download *Download `json:"download,omitempty"`

	Staged     bool               `json:"staged,omitempty"`
	Deployment *deploy.Deployment `json:"deployment,omitempty"`
	// Etc is the merge that was done, or for a staged deployment its preview.
	Etc     deploy.EtcReport      `json:"etc"`
	Boot    *deploy.BootSpace     `json:"boot,omitempty"`
	Disk    *deploy.DiskSpace     `json:"disk,omitempty"`
	Pull    PullStats             `json:"pull"`
	Cleanup *deploy.CleanupResult `json:"cleanup,omitempty"`
}

// Download is what is still to be received for a commit.
type Download struct {
	Objects int    `json:"objects"` // or parts of static deltas
	Bytes   uint64 `json:"bytes"`   // as transferred
}

// PullStats count what was received.
type PullStats struct {
	Metadata int   `json:"metadata"`
	Content  int   `json:"content"`
	Bytes    int64 `json:"bytes"`
}

func (p *PullStats) add(r pull.Result) {
	p.Metadata += r.Metadata
	p.Content += r.Content
	p.Bytes += r.Bytes
}

// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hostctl/hostctl/pkg/deploy"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

func adminStatus() *verb {
	var verify bool
	return adminSub(verb{
		name: "status", summary: "List deployments",
		opts: []option{{long: "verify", short: 'V', dst: &verify, help: "Print the commit verification status"}},
	}, adminRead, func(_ context.Context, a *admin) error {
		if len(a.st.Deployments) == 0 {
			a.printf("No deployments.\n")
		}
		marks := marksOf(a.st)
		for i, d := range a.st.Deployments {
			if err := a.printDeployment(d, marks[i]); err != nil {
				return err
			}
			if err := a.printVerification(d, verify); err != nil {
				return err
			}
		}
		return nil
	})
}

// marksOf says of each deployment how it stands to the booted one. Without one
// nothing is pending and nothing is there to go back to.
func marksOf(st deploy.State) []string {
	marks := make([]string, len(st.Deployments))
	booted, ok := st.Booted()
	passed, pending, rollback := false, false, false
	for i, d := range st.Deployments {
		switch {
		case d.Staged:
			marks[i] = " (staged)"
			pending = pending || d.Stateroot == booted.Stateroot
		case !ok || d.Stateroot != booted.Stateroot:
		case d.Booted:
			passed = true
		case !passed && !pending:
			marks[i], pending = " (pending)", true
		case passed && !rollback:
			marks[i], rollback = " (rollback)", true
		}
	}
	return marks
}

func (a *admin) printDeployment(d deploy.Deployment, mark string) error {
	star := " "
	if d.Booted {
		star = "*"
	}
	a.printf("%s %s %s%s\n", star, d.Stateroot, d.Name(), mark)
	var version, title string
	commit, err := a.repo.LoadCommit(d.Checksum)
	if err == nil {
		version, _ = commit.Metadata.Str("version")
		title, _ = commit.Metadata.Str("ostree.source-title")
	} else if !errors.Is(err, ostree.ErrNotFound) {
		return err
	}
	if version != "" {
		a.printf("    Version: %s\n", version)
	}
	if d.Unlocked != "" {
		red, plain := "", ""
		if a.Interactive {
			red, plain = "\x1b[31m\x1b[1m", "\x1b[22m\x1b[0m"
		}
		a.printf("    %sUnlocked: %s%s\n", red, d.Unlocked, plain)
	}
	if d.Pinned {
		a.printf("    Pinned: yes\n")
	}
	switch refspec := d.Origin.Refspec(); {
	case refspec != "":
		a.printf("    origin refspec: %s\n", refspec)
	case len(d.Origin.Bytes()) == 0:
		a.printf("    origin: none\n")
		return nil
	default:
		a.printf("    origin: <unknown origin type>\n")
	}
	if title != "" {
		a.printf("    `- %s\n", title)
	}
	return nil
}

// printVerification tells about the signatures of a deployment's commit: with
// verify it has to have good ones.
func (a *admin) printVerification(d deploy.Deployment, verify bool) error {
	refspec := d.Origin.Refspec()
	remote, wanted := a.verifies(refspec)
	if !verify && !wanted {
		return nil
	}
	commit, err := a.repo.LoadRaw(ostree.ObjectName{Checksum: d.Checksum, Type: ostree.TypeCommit})
	if err != nil {
		if verify {
			return failf("Cannot verify, failed to load commit")
		}
		return nil
	}
	meta, err := a.repo.CommitMeta(d.Checksum)
	if err != nil {
		return err
	}
	if !verify {
		if len(sign.Signatures(meta, sign.GPGKey)) == 0 {
			return nil
		}
		o, err := a.trustOptions()
		if err != nil {
			return err
		}
		keys, err := pull.LoadKeyring(a.repo, remote, o)
		if err != nil {
			return err
		}
		result, err := keys.VerifyDict(commit, meta, time.Now())
		for _, s := range result {
			a.printf("%s", s.Describe("    GPG: "))
		}
		if len(result) > 0 {
			return nil
		}
		return err
	}
	switch name, _, ok := strings.Cut(refspec, ":"); {
	case refspec == "":
		return failf("No origin/refspec, cannot verify")
	case !ok:
		return failf("Cannot verify deployment without remote")
	default:
		if remote, err = a.loadRemote(name); err != nil {
			return err
		}
	}
	t, err := a.loadTrust(remote, pull.TrustOptions{})
	if err != nil {
		return err
	}
	v, err := t.Trust.VerifyCommit(commit, meta)
	if err != nil {
		return err
	}
	a.printf("%s\n", v.Describe())
	return nil
}

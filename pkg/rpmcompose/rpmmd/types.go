// SPDX-License-Identifier: Apache-2.0

// Package rpmmd reads package repositories: .repo files, repomd.xml with its signature, and the primary,
// filelists, comps, updateinfo and modules lists that it names, in every compression including zchunk.
//
// [Load] verifies repomd.xml (where the repository asks for it) and every list's checksum before it is
// parsed, and keeps the lists in a cache keyed by checksum. Metadata is hostile input: sizes are bounded,
// file names may not climb out of the repository, and an error names the repository and the file.
package rpmmd

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/hostctl/hostctl/internal/progress"
	"github.com/hostctl/hostctl/pkg/rpmcompose/fetch"
	"github.com/hostctl/hostctl/pkg/rpmcompose/rpm"
)

// Conditions of metadata.
var (
	// ErrSyntax is wrapped by errors about malformed .repo files and metadata.
	ErrSyntax = errors.New("malformed repository data")
	// ErrNoList is wrapped where a repository does not offer the list asked for.
	ErrNoList = errors.New("repository has no such list")
	// ErrSignature is wrapped where repomd.xml is not signed by a trusted key although it must be.
	ErrSignature = errors.New("repository metadata is not trusted")
)

// Repo is one repository definition.
type Repo struct {
	ID   string
	Name string
	// BaseURLs are http, https or file addresses, or absolute paths; all hold the same files.
	BaseURLs   []string
	Mirrorlist string
	Metalink   string
	Enabled    bool
	// GPGCheck asks for signed packages, RepoGPGCheck for a signed repomd.xml.
	GPGCheck     bool
	RepoGPGCheck bool
	// GPGKeys are addresses of key files; they are read when a signature is to be checked.
	GPGKeys []string
	// Priority prefers lower numbers; 99 unless set.
	Priority          int
	Cost              int
	IncludePkgs       []string
	ExcludePkgs       []string
	SkipIfUnavailable bool
	ModuleHotfixes    bool
	// Keys holds further trusted keys, armored or binary.
	Keys [][]byte
	// Transport is how the repository is reached.
	Transport Transport
}

// DefaultPriority and DefaultCost are what a repository has that sets none.
const (
	DefaultPriority = 99
	DefaultCost     = 1000
)

// Options tune loading. The zero value is useful.
type Options struct {
	Client   *http.Client
	Log      *slog.Logger
	Progress progress.Func
	// Time is when keys must be valid; zero means now.
	Time time.Time
	// AllowSHA1 accepts signatures over SHA-1 hashes.
	AllowSHA1 bool
	// Offline takes everything from the cache, as the last run left it.
	Offline bool
}

// Package is one package of a repository, as primary.xml describes it.
type Package struct {
	NEVRA    rpm.NEVRA
	RepoID   string
	Location string // relative to the repository, or to Base
	Base     string // xml:base, "" as a rule
	Checksum fetch.Checksum
	// Size is the file's, InstalledSize and ArchiveSize the content's, in bytes.
	Size, InstalledSize, ArchiveSize int64
	BuildTime                        time.Time
	Summary, License, Vendor         string
	SourceRPM                        string
	Requires, Provides               []rpm.Dep
	Conflicts, Obsoletes             []rpm.Dep
	Recommends, Suggests             []rpm.Dep
	Supplements, Enhances            []rpm.Dep
	// Files is the subset that primary.xml lists: /etc, bin directories and /usr/lib/sendmail. The rest
	// comes from [Metadata.Filelists].
	Files []string
}

// Group is one package group of comps.
type Group struct {
	ID, Name, Description string
	Default, UserVisible  bool
	Mandatory, Defaults   []string
	Optional              []string
	Conditional           []ConditionalPackage
}

// ConditionalPackage belongs to its group if another package is installed.
type ConditionalPackage struct{ Name, Requires string }

// Environment is a set of groups.
type Environment struct {
	ID, Name, Description string
	Groups, Options       []string
}

// Comps holds groups and environments in file order.
type Comps struct {
	Groups       []Group
	Environments []Environment
}

// Advisory is one entry of updateinfo.
type Advisory struct {
	ID, Type, Severity, Title string
	Status, Description       string
	Issued, Updated           time.Time
	Reboot                    bool
	References                []Reference
	Packages                  []rpm.NEVRA
}

// Reference points from an advisory to a bug or a vulnerability.
type Reference struct{ Type, ID, Title, URL string }

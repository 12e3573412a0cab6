// SPDX-License-Identifier: Apache-2.0

package treefile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
)

// Manifest is a treefile after includes, variables and defaults. The JSON form
// (see Canonical) uses the treefile's own keys.
type Manifest struct {
	Edition    string `json:"edition"` // "2014" or "2024": the set of defaults
	Ref        string `json:"ref,omitempty"`
	Basearch   string `json:"basearch"`
	Releasever string `json:"releasever,omitempty"`

	Repos         []string          `json:"repos,omitempty"`
	LockfileRepos []string          `json:"lockfile-repos,omitempty"`
	Repovars      map[string]string `json:"repovars,omitempty"`
	Packages      []string          `json:"packages,omitempty"` // sorted, own architecture's included
	RepoPackages  []RepoPackages    `json:"repo-packages,omitempty"`
	// OverrideReplace are packages that come from one repository even where
	// another has a newer build; unlike RepoPackages they are not asked for.
	OverrideReplace []RepoPackages `json:"ex-override-replace,omitempty"`
	ExcludePackages []string       `json:"exclude-packages,omitempty"`
	// Groups are ids of comps groups, environments written with a leading "^".
	Groups     []string `json:"groups,omitempty"`
	Recommends bool     `json:"recommends"` // follow weak dependencies
	// Modules are streams of modular repositories.
	Modules Modules `json:"modules,omitzero"`
	// PlatformModule is the stream that modules are built for, "platform:f36".
	PlatformModule string `json:"platform-module,omitempty"`

	Metadata          map[string]any `json:"metadata,omitempty"` // free-form, handed through
	AddCommitMetadata map[string]any `json:"add-commit-metadata,omitempty"`
	GPGKey            string         `json:"gpg-key,omitempty"`

	AutomaticVersionPrefix string `json:"automatic-version-prefix,omitempty"`
	AutomaticVersionSuffix string `json:"automatic-version-suffix,omitempty"`
	MutateOSRelease        string `json:"mutate-os-release,omitempty"`

	Documentation bool     `json:"documentation"`
	InstallLangs  []string `json:"install-langs,omitempty"`

	InitramfsArgs []string `json:"initramfs-args,omitempty"`
	NoInitramfs   bool     `json:"no-initramfs,omitempty"`

	Units         []string `json:"units,omitempty"`
	DefaultTarget string   `json:"default-target,omitempty"`

	BootLocation        BootLocation `json:"boot-location"`
	TmpIsDir            bool         `json:"tmp-is-dir"`
	MachineidCompat     bool         `json:"machineid-compat"`
	OptUsrlocal         OptUsrlocal  `json:"opt-usrlocal"`
	ReadonlyExecutables bool         `json:"readonly-executables,omitempty"`
	SELinux             bool         `json:"selinux"`
	SELinuxLabelVersion int          `json:"selinux-label-version,omitempty"`
	IgnoreDevices       bool         `json:"ignore-devices"`
	IMA                 bool         `json:"ima,omitempty"`

	Sysusers            Sysusers `json:"sysusers,omitempty"`
	EtcGroupMembers     []string `json:"etc-group-members,omitempty"`
	PreservePasswd      bool     `json:"preserve-passwd"`
	CheckPasswd         Check    `json:"check-passwd"`
	CheckGroups         Check    `json:"check-groups"`
	IgnoreRemovedUsers  []string `json:"ignore-removed-users,omitempty"`
	IgnoreRemovedGroups []string `json:"ignore-removed-groups,omitempty"`

	// Postprocess holds inline scripts, those of included files first. A script
	// without "#!" is for /bin/bash.
	Postprocess        []string     `json:"postprocess,omitempty"`
	PostprocessScript  string       `json:"postprocess-script,omitempty"` // path inside the file system
	AddFiles           []AddFile    `json:"add-files,omitempty"`
	RemoveFiles        []string     `json:"remove-files,omitempty"`
	RemoveFromPackages []RemoveFrom `json:"remove-from-packages,omitempty"`

	RepoMetadata       MetadataTarget `json:"repo-metadata"`
	AdvisoriesMetadata MetadataTarget `json:"advisories-metadata"`

	// Cliwrap puts wrappers in front of programs; CliwrapBinaries names which.
	Cliwrap         bool     `json:"cliwrap,omitempty"`
	CliwrapBinaries []string `json:"cliwrap-binaries,omitempty"`

	Container    bool     `json:"container,omitempty"`
	ContainerCmd []string `json:"container-cmd,omitempty"`

	OstreeLayers         []string `json:"ostree-layers,omitempty"`
	OstreeOverrideLayers []string `json:"ostree-override-layers,omitempty"`

	// Externals are the files that the treefile refers to, in a fixed order.
	Externals []External `json:"externals,omitempty"`

	// Sources are the treefiles read, the root first, for messages and for
	// tools that watch them. They are no part of the canonical form: where a
	// key is written does not change the tree.
	Sources []string `json:"-"`

	fsys fs.FS
	flat *node
}

// BootLocation says where kernel and initramfs live in the tree.
type BootLocation string

// The boot locations.
const (
	BootNew           BootLocation = "new"
	BootModules       BootLocation = "modules"
	BootKernelInstall BootLocation = "kernel-install"
)

// OptUsrlocal is the layout of /opt and /usr/local.
type OptUsrlocal string

// The layouts.
const (
	OptVar          OptUsrlocal = "var"
	OptRoot         OptUsrlocal = "root"
	OptStateOverlay OptUsrlocal = "state-overlay"
)

// Sysusers says whether users come from sysusers.d instead of passwd files.
type Sysusers string

// The modes; empty is the same as SysusersAuto.
const (
	SysusersAuto   Sysusers = "compose-auto"
	SysusersForced Sysusers = "compose-forced"
)

// MetadataTarget says where a list of repositories or advisories is stored.
type MetadataTarget string

// The places.
const (
	MetadataInline   MetadataTarget = "inline"
	MetadataDetached MetadataTarget = "detached"
	MetadataDisabled MetadataTarget = "disabled"
)

// RepoPackages are packages that must come from one repository.
type RepoPackages struct {
	Repo     string   `json:"repo"`
	Packages []string `json:"packages"`
}

// Modules are the streams to enable, and those whose profiles are installed.
type Modules struct {
	Enable  []string `json:"enable,omitempty"`  // NAME:STREAM, or NAME for the default stream
	Install []string `json:"install,omitempty"` // NAME[:STREAM][/PROFILE]
}

// AddFile copies one regular file of the file system into the tree.
type AddFile struct {
	Source string `json:"source"` // path inside the file system
	Dest   string `json:"dest"`   // without leading slash; etc/ is given as written
}

// RemoveFrom deletes the files of one package whose path matches an expression.
type RemoveFrom struct {
	Package  string   `json:"package"`
	Patterns []string `json:"patterns"`
}

// CheckType selects what user and group ids are compared with.
type CheckType string

// The check types.
const (
	CheckNone     CheckType = "none"
	CheckPrevious CheckType = "previous"
	CheckFile     CheckType = "file"
	CheckData     CheckType = "data"
)

// Check is check-passwd or check-groups.
type Check struct {
	Type     CheckType      `json:"type"`
	Filename string         `json:"filename,omitempty"` // path inside the file system
	Entries  map[string]IDs `json:"entries,omitempty"`
}

// IDs are the ids of one entry; for a group both are the same number.
type IDs struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// Canonical returns the JSON that stands for the manifest in the input hash:
// keys in a fixed order, lists that are sets sorted, and the digests of all
// external files. Equal bytes mean an equal request.
func (m *Manifest) Canonical() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return b, nil
}

// Digest returns the SHA-256 of the canonical form in hexadecimal.
func (m *Manifest) Digest() (string, error) {
	b, err := m.Canonical()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

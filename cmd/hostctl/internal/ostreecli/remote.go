// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/hostctl/hostctl/pkg/ostree/pull"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
)

const usesRemoteRepo = "Path to OSTree repository (defaults to /sysroot/ostree/repo)"

func remoteVerb() *verb {
	return &verb{
		name: "remote", summary: "Remote commands that may involve internet access", use: repoUnused,
		subs: []*verb{
			remoteAdd(), remoteDelete(), remoteShowURL(), remoteList(), remoteGPGImport(), remoteGPGListKeys(),
			remoteAddCookie(), remoteDeleteCookie(), remoteListCookies(), remoteRefs(), remoteSummary(),
		},
	}
}

// repoOrSysroot are the options of the verbs that also take --sysroot.
type repoOrSysroot struct{ repo, sysroot string }

func (r *repoOrSysroot) options() []option {
	return []option{
		{long: "repo", arg: "PATH", dst: &r.repo, help: usesRemoteRepo},
		{long: "sysroot", arg: "PATH", dst: &r.sysroot, help: "Use sysroot at PATH (overrides --repo)"},
	}
}

func (r *repoOrSysroot) open(c *call) error {
	late := *c.v
	late.use = repoOpen
	c.v, c.path = &late, r.repo
	if r.sysroot != "" {
		c.path = r.sysroot + defaultRepo
		// Only the root of a tree has such a folder, where the sysroot is mounted.
		if _, err := os.Stat(r.sysroot + "/sysroot"); err == nil {
			c.tree = r.sysroot
		}
	}
	return c.openRepo()
}

// remoteError puts the conditions into libostree's words.
func remoteError(name string, err error) error {
	switch {
	case errors.Is(err, pull.ErrNoRemote):
		return failf("Remote %q not found", name)
	case errors.Is(err, pull.ErrRemoteExists):
		return failf("Remote configuration for %q already exists: (in config)", name)
	}
	if inner := errors.Unwrap(err); inner != nil {
		return inner // libostree's texts do not say what was being done
	}
	return err
}

type remoteAddOptions struct {
	repoOrSysroot
	set, signVerify                    []string
	noGPGVerify, noSignVerify          bool
	ifNotExists, force                 bool
	gpgImport, backend, contentURL, id text
}

func remoteAdd() *verb {
	o := &remoteAddOptions{}
	return &verb{
		name: "add", args: "NAME [metalink=|mirrorlist=]URL [BRANCH...]", summary: "Add a remote repository", use: repoUnused,
		opts: append([]option{
			{long: "set", arg: "KEY=VALUE", dst: &o.set, help: "Set config option KEY=VALUE for remote"},
			{long: "no-gpg-verify", dst: &o.noGPGVerify, help: "Disable GPG verification"},
			{long: "no-sign-verify", dst: &o.noSignVerify, help: "Disable signature verification"},
			{long: "sign-verify", arg: "KEYTYPE=[inline|file]:PUBKEY", dst: &o.signVerify, help: "Verify signatures using KEYTYPE=inline:PUBKEY or KEYTYPE=file:/path/to/key"},
			{long: "if-not-exists", dst: &o.ifNotExists, help: "Do nothing if the provided remote exists"},
			{long: "force", dst: &o.force, help: "Replace the provided remote if it exists"},
			{long: "gpg-import", arg: "FILE", dst: &o.gpgImport, help: "Import GPG key from FILE"},
			{long: "custom-backend", arg: "NAME", dst: &o.backend, help: "This remote has content not fetched via libostree"},
			{long: "contenturl", arg: "URL", dst: &o.contentURL, help: "Use URL when fetching content"},
			{long: "collection-id", arg: "COLLECTION-ID", dst: &o.id, help: "Globally unique ID for this repository as an collection of refs for redistribution to other repositories"},
		}, o.options()...),
		run: func(ctx context.Context, c *call) error { return o.run(ctx, c) },
	}
}

func (o *remoteAddOptions) run(ctx context.Context, c *call) error {
	if err := o.open(c); err != nil {
		return err
	}
	switch {
	case o.backend.set && len(c.args) < 1:
		return c.usageError("NAME must be specified")
	case !o.backend.set && len(c.args) < 2:
		return c.usageError("NAME and URL must be specified")
	case o.ifNotExists && o.force:
		return c.usageError("Can only specify one of --if-not-exists and --force")
	}
	set, err := o.settings()
	if err != nil {
		return err
	}
	where, err := c.remotes(true)
	if err != nil {
		return err
	}
	r := o.remote(c.args)
	err = where.Add(r, pull.AddOptions{IfNotExists: o.ifNotExists, Force: o.force, Set: set})
	if err != nil || !o.gpgImport.set {
		return remoteError(r.Name, err)
	}
	source, err := readKeyrings([]string{o.gpgImport.value})
	if err != nil {
		return err
	}
	return c.importKeys(ctx, r.Name, source, nil)
}

func (o *remoteAddOptions) remote(args []string) pull.Remote {
	r := pull.Remote{Name: args[0], ContentURL: o.contentURL.value, CustomBackend: o.backend.value, CollectionID: o.id.value}
	if len(args) > 1 {
		link, ok := strings.CutPrefix(args[1], "metalink=")
		if ok {
			r.Metalink = link
		} else {
			r.URL = args[1]
		}
	}
	if len(args) > 2 {
		r.Branches = args[2:]
	}
	return r
}

// settings gives the keys that are written as they are.
func (o *remoteAddOptions) settings() ([][2]string, error) {
	var set [][2]string
	add := func(key, value string) { set = append(set, [2]string{key, value}) }
	for _, kv := range o.set {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, failf("Missing '=' in KEY=VALUE for --set")
		}
		add(key, value)
	}
	if o.noGPGVerify || o.noSignVerify {
		add("gpg-verify", "false")
	}
	return set, o.signSettings(add)
}

func (o *remoteAddOptions) signSettings(add func(key, value string)) error {
	if o.noSignVerify {
		if len(o.signVerify) > 0 {
			return failf("Cannot specify both --sign-verify and --no-sign-verify")
		}
		add("sign-verify", "false")
	}
	var types []string
	for _, spec := range o.signVerify {
		typ, rest, ok := strings.Cut(spec, "=")
		if !ok {
			return failf("Failed to parse KEYTYPE=[inline|file]:DATA in %s", spec)
		}
		if err := sign.CheckType(typ); err != nil {
			return err
		}
		ref, data, ok := strings.Cut(rest, ":")
		suffix, known := map[string]string{"inline": "-key", "file": "-file"}[ref]
		if !known || !ok {
			return failf("Invalid key reference %s, expected inline|file", ref)
		}
		add("verification-"+typ+suffix, data)
		types = append(types, typ)
	}
	if types != nil {
		add("sign-verify", strings.Join(types, ","))
	}
	return nil
}

func remoteDelete() *verb {
	var where repoOrSysroot
	var ifExists bool
	return &verb{
		name: "delete", args: "NAME", summary: "Delete a remote repository", use: repoUnused,
		opts: append([]option{{long: "if-exists", dst: &ifExists, help: "Do nothing if the provided remote does not exist"}}, where.options()...),
		run: func(_ context.Context, c *call) error {
			if err := where.open(c); err != nil {
				return err
			}
			if len(c.args) < 1 {
				return c.usageError("NAME must be specified")
			}
			from, err := c.remotes(false)
			if err != nil {
				return err
			}
			err = from.Delete(c.args[0])
			if ifExists && errors.Is(err, pull.ErrNoRemote) {
				return nil
			}
			return remoteError(c.args[0], err)
		},
	}
}

func remoteShowURL() *verb {
	return &verb{
		name: "show-url", args: "NAME", summary: "Show remote repository URL",
		run: func(_ context.Context, c *call) error {
			if len(c.args) < 1 {
				return c.usageError("NAME must be specified")
			}
			url, err := c.remoteURL(c.args[0])
			if err == nil {
				c.printf("%s\n", url)
			}
			return err
		},
	}
}

func (c *call) remoteURL(name string) (string, error) {
	if strings.HasPrefix(name, "file://") {
		return name, nil
	}
	r, err := c.loadRemote(name)
	if err != nil {
		return "", err
	}
	if r.URL == "" {
		return "", failf("No \"url\" option in remote %q", name)
	}
	return r.URL, nil
}

func remoteList() *verb {
	var urls bool
	return &verb{
		name: "list", summary: "List remote repository names",
		opts: []option{{long: "show-urls", short: 'u', dst: &urls, help: "Show remote URLs in list"}},
		run: func(_ context.Context, c *call) error {
			where, err := c.remotes(false)
			if err != nil {
				return err
			}
			names, err := where.List()
			if err != nil {
				return err
			}
			width := 0
			for _, name := range names {
				width = max(width, len(name))
			}
			for _, name := range names {
				if !urls {
					c.printf("%s\n", name)
					continue
				}
				url, err := c.remoteURL(name)
				if err != nil {
					return err
				}
				c.printf("%-*s  %s\n", width, name, url)
			}
			return nil
		},
	}
}

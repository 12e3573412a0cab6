// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/pkg/ostree/pull"
)

// mediaDirs are where the system mounts removable media.
var mediaDirs = []string{"/media/", "/run/media/"}

// usbRepos are where repositories on a medium are looked for, after those in
// usbReposDir.
var usbRepos = []string{".ostree/repo", "ostree/repo", "var/lib/flatpak/repo"}

func deviceOf(st fs.FileInfo) uint64 {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return s.Dev
}

// mounted are the repositories on removable media, once for every remote whose
// collection is wanted: the remote has the keys.
func (c *call) mounted(refs []pull.CollectionRef) ([]*candidate, error) {
	remotes, err := c.configured(refs)
	if err != nil {
		return nil, err
	}
	mounts, err := mediaMounts()
	if err != nil {
		return nil, err
	}
	var out []*candidate
	for _, mount := range mounts {
		for _, repo := range reposOn(mount) {
			for _, r := range remotes {
				remote := r.remote
				remote.URL, remote.ContentURL, remote.Metalink = "file://"+repo, "", ""
				remote.NoGPGVerify, remote.GPGVerifySummary = false, false
				out = append(out, &candidate{finder: "OstreeRepoFinderMount", priority: 50, remote: remote})
			}
		}
	}
	return out, nil
}

// mediaMounts lists the mount points of removable media.
func mediaMounts() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 5 {
			continue
		}
		path := unescapeMount(fields[4])
		if slices.ContainsFunc(mediaDirs, func(dir string) bool { return strings.HasPrefix(path, dir) }) {
			out = append(out, path)
		}
	}
	return out, nil
}

// unescapeMount resolves the \ooo of white space in mountinfo.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// reposOn finds the repositories of a medium; links must not lead off it.
func reposOn(mount string) []string {
	root, err := os.Stat(mount)
	if err != nil {
		return nil
	}
	var names []string
	entries, _ := os.ReadDir(filepath.Join(mount, usbReposDir)) // absent: only the usual places
	for _, e := range entries {
		names = append(names, filepath.Join(usbReposDir, e.Name()))
	}
	var out []string
	for _, name := range append(names, usbRepos...) {
		path, err := filepath.EvalSymlinks(filepath.Join(mount, name))
		if err != nil {
			continue
		}
		st, err := os.Stat(filepath.Join(path, "objects"))
		if err == nil && deviceOf(st) == deviceOf(root) && !slices.Contains(out, path) {
			out = append(out, path)
		}
	}
	return out
}

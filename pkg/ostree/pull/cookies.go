// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/fsx"
	"github.com/hostctl/hostctl/pkg/ostree"
)

const (
	maxCookies = 1 << 20 // bytes of a cookies file
	// cookieYears is how long an added cookie lives; the ostree program says so too.
	cookieYears = 25
)

// ErrNoCookie reports that DeleteCookie found nothing to delete.
var ErrNoCookie = errors.New("cookie not found in jar")

// Cookie is one line of REMOTE.cookies.txt, the Netscape format: seven fields
// separated by tabs.
type Cookie struct {
	Domain     string // exact, or with a leading dot also for hosts below
	Subdomains bool   // second field: the cookie is for hosts below Domain too
	Path       string // prefix of the URL's path
	Secure     bool   // https only
	Expires    int64  // seconds since 1970; 0 for never
	Name       string
	Value      string
}

func cookieFile(remote string) string { return remote + ".cookies.txt" }

// ParseCookies reads a cookies file. Lines that are no cookie are passed over,
// as browsers and libcurl do.
func ParseCookies(data []byte) []Cookie {
	var out []Cookie
	for line := range strings.SplitSeq(string(data), "\n") {
		if c, ok := parseCookie(line); ok {
			out = append(out, c)
		}
	}
	return out
}

func parseCookie(line string) (Cookie, bool) {
	line = strings.TrimPrefix(strings.TrimSuffix(line, "\r"), "#HttpOnly_")
	if strings.HasPrefix(line, "#") {
		return Cookie{}, false
	}
	f := strings.Fields(line)
	if len(f) != 7 {
		return Cookie{}, false
	}
	expires, err := strconv.ParseInt(f[4], 10, 64)
	if err != nil || expires < 0 {
		return Cookie{}, false
	}
	c := Cookie{
		Domain: f[0], Subdomains: f[1] == "TRUE", Path: f[2], Secure: f[3] == "TRUE",
		Expires: expires, Name: f[5], Value: f[6],
	}
	return c, c.check() == nil
}

// check refuses what would break the file or a request header.
func (c Cookie) check() error {
	for _, s := range []string{c.Domain, c.Path, c.Name, c.Value} {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == ';' }) {
			return fmt.Errorf("%w: cookie field %q", ostree.ErrInvalid, clip(s))
		}
	}
	if strings.HasPrefix(c.Domain, "#") || strings.Contains(c.Name, "=") {
		return fmt.Errorf("%w: cookie %q of %q", ostree.ErrInvalid, clip(c.Name), clip(c.Domain))
	}
	return nil
}

// String gives the cookie's line without its end.
func (c Cookie) String() string {
	yes := func(b bool) string { return strings.ToUpper(strconv.FormatBool(b)) }
	return strings.Join([]string{
		c.Domain, yes(c.Subdomains), c.Path, yes(c.Secure),
		strconv.FormatInt(c.Expires, 10), c.Name, c.Value,
	}, "\t")
}

// matches tells whether a request to u sends the cookie.
func (c Cookie) matches(u *url.URL, now time.Time) bool {
	if c.Secure && u.Scheme != "https" || c.Expires != 0 && c.Expires < now.Unix() {
		return false
	}
	host, domain := strings.ToLower(u.Hostname()), strings.ToLower(strings.TrimPrefix(c.Domain, "."))
	below := c.Subdomains || strings.HasPrefix(c.Domain, ".")
	if host != domain && (!below || !strings.HasSuffix(host, "."+domain)) {
		return false
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	prefix := strings.TrimSuffix(c.Path, "/")
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// addCookies writes the Cookie header of a request.
func addCookies(req *http.Request, jar []Cookie, now time.Time) {
	var parts []string
	for _, c := range jar {
		if c.matches(req.URL, now) {
			parts = append(parts, c.Name+"="+c.Value)
		}
	}
	if len(parts) > 0 {
		req.Header.Set("Cookie", strings.Join(parts, "; "))
	}
}

// Cookies lists the cookies of a remote.
func Cookies(repo *ostree.Repo, remote string) ([]Cookie, error) {
	data, err := readCookies(repo, remote)
	if err != nil {
		return nil, fmt.Errorf("read cookies of %s: %w", clip(remote), err)
	}
	return ParseCookies(data), nil
}

func readCookies(repo *ostree.Repo, remote string) ([]byte, error) {
	if !validName(remote) {
		return nil, fmt.Errorf("%w: remote name %q", ostree.ErrInvalid, clip(remote))
	}
	data, err := repo.Dir().ReadFile(cookieFile(remote), maxCookies)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// AddCookie appends a cookie to those of a remote, valid for 25 years.
func AddCookie(repo *ostree.Repo, remote, domain, path, name, value string) error {
	c := Cookie{
		Domain: domain, Subdomains: strings.HasPrefix(domain, "."), Path: path,
		Expires: time.Now().AddDate(cookieYears, 0, 0).Unix(), Name: name, Value: value,
	}
	err := c.check()
	var old []byte
	if err == nil {
		old, err = readCookies(repo, remote)
	}
	if err == nil {
		if n := len(old); n > 0 && old[n-1] != '\n' {
			old = append(old, '\n')
		}
		err = writeCookies(repo.Dir(), remote, append(old, c.String()+"\n"...))
	}
	if err != nil {
		return fmt.Errorf("add cookie to %s: %w", clip(remote), err)
	}
	return nil
}

// writeCookies keeps them from other users: a cookie is a key.
func writeCookies(d *fsx.Dir, remote string, data []byte) error {
	return d.WriteFileAtomic(cookieFile(remote), data, 0o600)
}

// DeleteCookie removes the cookies of that domain, path and name; ErrNoCookie if
// there is none.
func DeleteCookie(repo *ostree.Repo, remote, domain, path, name string) error {
	if err := deleteCookie(repo, remote, domain, path, name); err != nil {
		return fmt.Errorf("delete cookie of %s: %w", clip(remote), err)
	}
	return nil
}

func deleteCookie(repo *ostree.Repo, remote, domain, path, name string) error {
	data, err := readCookies(repo, remote)
	if err != nil {
		return err
	}
	var kept strings.Builder
	found := false
	for line := range strings.Lines(string(data)) {
		c, ok := parseCookie(strings.TrimSuffix(line, "\n"))
		if ok && c.Domain == domain && c.Path == path && c.Name == name {
			found = true
			continue
		}
		kept.WriteString(line)
	}
	if !found {
		return ErrNoCookie
	}
	return writeCookies(repo.Dir(), remote, []byte(kept.String()))
}

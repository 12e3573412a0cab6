// SPDX-License-Identifier: Apache-2.0

package ostreecli

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// withRepo makes the archive "src" with two commits of main, and the empty "repo".
func withRepo(t *testing.T) func(*side) {
	return func(s *side) {
		s.must(t, "--repo=src", "init", "--mode=archive")
		s.must(t, "--repo=repo", "init", "--mode=bare-user-only")
		s.write(t, "tree/etc/passwd", "root\n")
		s.write(t, "tree/usr/bin/sh", strings.Repeat("shell\n", 500))
		commit := []string{"--repo=src", "commit", "-b", "main", "--tree=dir=tree", "--owner-uid=0", "--owner-gid=0", "--no-xattrs", "--canonical-permissions"}
		s.must(t, append(commit, "-s", "first", "--timestamp=@1000000000", "--add-metadata-string=version=1")...)
		s.write(t, "tree/usr/bin/sh", strings.Repeat("shell\n", 400)+"new")
		s.must(t, append(commit, "-s", "second", "--timestamp=@1100000000", "--add-metadata-string=version=2")...)
	}
}

func TestHelpOfTransferVerbs(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, func(*side) {})
	var steps []step
	for _, v := range []string{
		"pull", "pull-local", "remote", "remote add", "remote delete", "remote list", "remote show-url", "remote refs", "remote summary",
		"remote gpg-import", "remote gpg-list-keys", "remote add-cookie", "remote delete-cookie", "remote list-cookies", "summary", "gpg-sign",
		"static-delta", "static-delta list", "static-delta show", "static-delta delete", "static-delta indexes", "static-delta reindex",
		"find-remotes", "create-usb",
	} {
		steps = append(steps, step{args: v + " --help"})
	}
	compare(t, real, ours, steps)
}

// TestUsageOfTransferVerbs covers command lines that are refused before anything
// happens.
func TestUsageOfTransferVerbs(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, withRepo(t))
	var steps []step
	for _, args := range []string{
		"pull --repo=repo", "pull --repo=repo --dry-run x", "pull --repo=repo x main@xyz", "pull --repo=repo nosuch", "pull --repo=repo --http-header=a nosuch",
		"pull-local --repo=repo", "remote", "remote frobnicate", "remote add --repo=repo", "remote add --repo=repo x", "remote add --repo=repo --if-not-exists --force x http://y",
		"remote add --repo=repo --set=x x http://y", "remote add --repo=repo --no-sign-verify --sign-verify=dummy=inline:x x http://y",
		"remote add --repo=repo --sign-verify=dummy=foo:x x http://y", "remote add --repo=repo --sign-verify=foo=inline:x x http://y", "remote add --repo=repo --sign-verify=dummy x http://y",
		"remote delete --repo=repo", "remote show-url --repo=repo", "remote show-url --repo=repo x", "remote refs --repo=repo", "remote refs --repo=repo x",
		"remote summary --repo=repo", "remote gpg-import --repo=repo", "remote gpg-import --repo=repo --stdin -k x x", "remote gpg-list-keys --repo=repo x",
		"remote add-cookie --repo=repo x", "remote delete-cookie --repo=repo x", "remote list-cookies --repo=repo",
		"summary --repo=src", "summary --repo=src --view", "sign --repo=src main", "sign --repo=src", "gpg-sign --repo=src", "gpg-sign --repo=src main", "gpg-sign --repo=src nosuch x",
		"static-delta", "static-delta frobnicate", "static-delta --repo=src show", "static-delta --repo=src delete", "static-delta --repo=src delete xyz",
		"static-delta --repo=src generate", "static-delta --repo=src generate --empty --from=x main", "static-delta --repo=src generate --set-endianness=x main",
		"static-delta --repo=src apply-offline", "static-delta --repo=src verify", "static-delta --repo=src reindex --to=xyz",
		"find-remotes --repo=repo", "find-remotes --repo=repo org.a.B", "find-remotes --repo=repo org.a.B x org.c.D", "find-remotes --repo=repo --mirror org.a.B x",
		"find-remotes --repo=repo --finders= org.a.B x", "find-remotes --repo=repo --finders=x org.a.B x", "find-remotes --repo=repo --finders=config,config org.a.B x",
		"create-usb --repo=repo", "create-usb --repo=repo x", "create-usb --repo=repo x org.a.B y z", "create-usb --repo=repo --commit=x x org.a.B y org.a.C z",
	} {
		// The help of sign has options more than Debian's build.
		steps = append(steps, step{args: args, ownText: strings.HasPrefix(args, "sign ")})
	}
	compare(t, real, ours, steps)
}

func TestRemotes(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, withRepo(t))
	compare(t, real, ours, []step{
		{args: "--repo=repo remote list"},
		{args: "--repo=repo remote add origin http://example.com/repo", file: "repo/config"},
		{args: "--repo=repo remote add origin http://example.com/repo"},
		{args: "--repo=repo remote add --if-not-exists origin http://example.com/other", file: "repo/config"},
		{args: "--repo=repo remote add --force origin http://example.com/other", file: "repo/config"},
		{args: "--repo=repo remote add --no-gpg-verify second http://example.com/second main devel", file: "repo/config"},
		{args: "--repo=repo remote add --no-sign-verify third metalink=http://example.com/x", file: "repo/config"},
		{args: "--repo=repo remote add --set=a=b --set=tls-permissive=true --contenturl=http://c fourth http://example.com/4", file: "repo/config"},
		{args: "--repo=repo remote add --sign-verify=dummy=inline:key --sign-verify=dummy=file:/x fifth http://example.com/5", file: "repo/config"},
		{args: "--repo=repo remote add --collection-id=org.example.X sixth http://example.com/6", file: "repo/config"},
		{args: "--repo=repo remote add --custom-backend=x seventh", file: "repo/config"},
		{args: "--repo=repo remote add a/b http://example.com"},
		{args: "--repo=repo remote list"},
		{args: "--repo=repo remote show-url second"},
		{args: "--repo=repo remote show-url third"},
		{args: "--repo=repo remote list -u"},
		{args: "--repo=repo remote delete second", file: "repo/config"},
		{args: "--repo=repo remote delete third"},
		{args: "--repo=repo remote delete seventh"},
		{args: "--repo=repo remote list --show-urls"},
		{args: "--repo=repo remote delete second"},
		{args: "--repo=repo remote delete --if-exists second"},
		{args: "--repo=repo remote add-cookie origin example.com / name value"},
		{args: "--repo=repo remote add-cookie origin .example.com /x other value"},
		{args: "--repo=repo remote delete-cookie origin example.com / name"},
		{args: "--repo=repo remote delete-cookie origin example.com / name"},
	})
}

func TestSummaries(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, func(s *side) {
		withRepo(t)(s)
		s.must(t, "--repo=src", "static-delta", "generate", "main")
		s.must(t, "--repo=src", "refs", "--create=other", "main^")
	})
	compare(t, real, ours, []step{
		{args: "--repo=src summary -u"},
		{args: "--repo=src summary -v"},
		{args: "--repo=src summary --raw"},
		{args: `--repo=src summary -u -m text='a' -m num=@t=5`, ownText: true},
		{args: `--repo=src summary -u -m text='a' -m list=['x','y']`},
		{args: "--repo=src summary --view"},
		{args: "--repo=src summary -u -m x"},
		{args: "--repo=src config set core.collection-id org.example.X"},
		{args: "--repo=src summary -u"},
	})
	for _, s := range []*side{real, ours} {
		s.must(t, "--repo=repo", "remote", "add", "--force", "--no-sign-verify", "origin", "file://"+s.dir+"/src")
	}
	compare(t, real, ours, []step{
		{args: "--repo=repo remote refs origin"},
		{args: "--repo=src config unset core.collection-id"},
		{args: "--repo=src refs --delete ostree-metadata"},
		{args: "--repo=src summary -u"},
		{args: "--repo=repo remote summary origin"},
		{args: "--repo=repo remote summary --raw origin"},
	})
}

func TestPulls(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, func(s *side) {
		withRepo(t)(s)
		s.must(t, "--repo=src", "static-delta", "generate", "main")
		s.must(t, "--repo=src", "static-delta", "generate", "--empty", "main")
		s.must(t, "--repo=src", "summary", "-u")
		s.must(t, "--repo=user", "init", "--mode=bare-user-only")
	})
	for _, s := range []*side{real, ours} {
		s.must(t, "--repo=repo", "remote", "add", "--no-sign-verify", "origin", "file://"+s.dir+"/src", "main")
		s.must(t, "--repo=repo", "remote", "add", "verified", "file://"+s.dir+"/src")
	}
	compare(t, real, ours, []step{
		{args: "--repo=repo pull origin nosuch"},
		{args: "--repo=repo pull --commit-metadata-only origin main"},
		{args: "--repo=repo pull --subpath=/etc origin main"},
		{args: "--repo=repo pull origin"},
		{args: "--repo=repo pull origin"},
		{args: "--repo=repo pull --depth=-1 origin main"},
		{args: "--repo=repo refs"},
		{args: "--repo=repo log origin:main"},
		{args: "--repo=repo fsck -q"},
		{args: "--repo=user pull-local src main^"},
		{args: "--repo=user pull-local src"},
		{args: "--repo=user pull-local --remote=elsewhere --untrusted src main"},
		{args: "--repo=user refs"},
		{args: "--repo=user fsck -q"},
		{args: "--repo=user pull-local nosuch"},
		// The real program keeps the objects of what it refuses, and counts fewer next
		// time; so this is the last one.
		{args: "--repo=repo pull verified main", ownText: true},
	})
}

func TestPullsOverHTTP(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, func(s *side) {
		withRepo(t)(s)
		s.must(t, "--repo=src", "static-delta", "generate", "main")
		s.must(t, "--repo=src", "summary", "-u")
		for _, mode := range []string{"archive", "bare-user"} {
			s.must(t, "--repo="+mode, "init", "--mode="+mode)
		}
	})
	for _, s := range []*side{real, ours} {
		server := httptest.NewServer(http.FileServer(http.Dir(s.dir)))
		t.Cleanup(server.Close)
		s.url = server.URL
		for _, repo := range []string{"repo", "archive", "bare-user"} {
			s.must(t, "--repo="+repo, "remote", "add", "--no-sign-verify", "origin", s.url+"/src")
			s.must(t, "--repo="+repo, "remote", "add", "absent", s.url+"/absent", "--no-sign-verify")
		}
	}
	rev := real.run(t, "--repo=src", "rev-parse", "main").Out[:64]
	old := real.run(t, "--repo=src", "rev-parse", "main^").Out[:64]
	compare(t, real, ours, []step{
		{args: "--repo=archive pull --mirror origin"},
		{args: "--repo=archive refs"},
		{args: "--repo=archive pull --depth=-1 origin main"},
		{args: "--repo=repo pull absent main", ownText: true},
		{args: "--repo=repo pull origin nosuch"},
		{args: "--repo=repo pull --commit-metadata-only origin " + rev},
		{args: "--repo=repo pull origin:main"},
		{args: "--repo=repo pull --require-static-deltas --dry-run origin main"},
		// libostree counts requests for superblocks that are not there.
		{args: "--repo=bare-user pull origin main@" + old, counts: true},
		{args: "--repo=bare-user pull -T origin main@" + old, counts: true},
		{args: "--repo=bare-user pull --disable-static-deltas origin main"},
		{args: "--repo=bare-user pull -T origin main@" + old},
		{args: "--repo=bare-user pull --url=" + "http://127.0.0.1:1/ --network-retries=0 origin main", ownText: true},
		{args: "--repo=bare-user log origin:main"},
		{args: "--repo=bare-user fsck -q"},
	})
}

// TestLowSpeed pulls from a server that sends a byte at a time.
func TestLowSpeed(t *testing.T) {
	t.Parallel()
	_, ours := sides(t, func(s *side) {
		withRepo(t)(s)
		s.must(t, "--repo=src", "summary", "-u")
	})
	files := http.FileServer(http.Dir(ours.dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".filez") {
			files.ServeHTTP(w, r)
			return
		}
		data, err := os.ReadFile(filepath.Join(ours.dir, filepath.FromSlash(r.URL.Path)))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		for i := range data {
			_, _ = w.Write(data[i : i+1])
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(20 * time.Millisecond): // 50 bytes a second at most
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	ours.must(t, "--repo=repo", "remote", "add", "--no-sign-verify", "origin", server.URL+"/src")
	pull := func(args ...string) output {
		return ours.run(t, append([]string{"--repo=repo", "pull", "--network-retries=0", "--disable-static-deltas"}, args...)...)
	}
	const stalled = "too slow"
	o := pull("--low-speed-limit-bytes=1000", "--low-speed-time-seconds=1", "origin", "main")
	if o.Code == 0 || !strings.Contains(o.Err, stalled) {
		t.Errorf("with options: %+v", o)
	}
	ours.must(t, "--repo=repo", "config", "--group=remote \"origin\"", "set", "low-speed-time-seconds", "1")
	if o := pull("origin", "main"); o.Code == 0 || !strings.Contains(o.Err, stalled) {
		t.Errorf("with a key: %+v", o)
	}
	ours.must(t, "--repo=repo", "config", "--group=remote \"origin\"", "set", "low-speed-limit-bytes", "0")
	if o := pull("--max-outstanding-fetcher-requests=1", "--disable-retry-on-network-errors", "origin", "main"); o.Code != 0 {
		t.Errorf("without a limit: %+v", o)
	}
	for _, n := range []string{"0", "65", "x"} {
		if o := pull("--max-outstanding-fetcher-requests="+n, "origin", "main"); o.Code != 1 || !strings.Contains(o.Err, n) {
			t.Errorf("%s requests: %+v", n, o)
		}
	}
	ours.must(t, "--repo=repo", "config", "--group=remote \"origin\"", "set", "low-speed-limit-bytes", "x")
	if o := pull("origin", "main"); o.Code == 0 || !strings.Contains(o.Err, "low-speed-limit-bytes") {
		t.Errorf("bad key: %+v", o)
	}
}

func TestFindAndUSB(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, func(s *side) {
		s.must(t, "--repo=src", "init", "--mode=archive", "--collection-id=org.example.X")
		s.write(t, "tree/file", "content")
		for i, ref := range []string{"one", "two"} {
			s.must(t, "--repo=src", "commit", "-b", ref, "--tree=dir=tree", "--timestamp=@"+strconv.Itoa(1e9+i), "--owner-uid=0", "--owner-gid=0", "--no-xattrs")
		}
		s.must(t, "--repo=src", "summary", "-u")
		s.must(t, "--repo=repo", "init", "--mode=archive")
		s.write(t, "usb/.keep", "")
	})
	for _, s := range []*side{real, ours} {
		s.must(t, "--repo=repo", "remote", "add", "--collection-id=org.example.X", "origin", "file://"+s.dir+"/src")
	}
	compare(t, real, ours, []step{
		{args: "--repo=repo find-remotes --finders=config org.example.X one"},
		{args: "--repo=repo find-remotes --finders=config org.example.X one org.example.X none"},
		{args: "--repo=repo find-remotes --finders=config,mount org.example.Y one"},
		{args: "--repo=repo find-remotes --finders=config --pull org.example.X one", ownText: true},
		{args: "--repo=src create-usb usb org.example.X one"},
		{args: "--repo=src create-usb --destination-repo=some/where usb org.example.X one org.example.X two"},
		{args: "--repo=src create-usb --destination-repo=some/where usb org.example.X one"},
		{args: "--repo=src create-usb usb org.example.X nosuch"},
		{args: "--repo=usb/.ostree/repos.d/00-generated refs --collections"},
		{args: "--repo=usb/.ostree/repo summary -v"},
		{args: "--repo=usb/.ostree/repo fsck -q"},
	})
}

func TestDeltaVerbs(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, withRepo(t))
	compare(t, real, ours, []step{
		{args: "--repo=src static-delta list"},
		{args: "--repo=src static-delta indexes"},
	})
	for _, s := range []*side{real, ours} {
		s.must(t, "--repo=src", "static-delta", "generate", "main")
		s.must(t, "--repo=src", "static-delta", "generate", "--empty", "--inline", "--to=main")
	}
	rev := real.run(t, "--repo=src", "rev-parse", "main").Out[:64]
	from := real.run(t, "--repo=src", "rev-parse", "main^").Out[:64]
	compare(t, real, ours, []step{
		{args: "--repo=src static-delta list"},
		{args: "--repo=src static-delta generate -n main"},
		{args: "--repo=src static-delta generate --if-not-exists --empty main"},
		{args: "--repo=src static-delta reindex"},
		{args: "--repo=src static-delta indexes"},
		{args: "--repo=src static-delta verify --sign-type=dummy " + rev + " x"},
		{args: "--repo=src static-delta delete " + rev},
		{args: "--repo=src static-delta delete " + rev},
		{args: "--repo=src static-delta reindex --to=" + rev},
		{args: "--repo=src static-delta list"},
	})
	// The same delta shown by both, one that the other program made.
	if out, err := exec.Command("cp", "-a", real.dir+"/src/deltas/.", ours.dir+"/src/deltas").CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	compare(t, real, ours, []step{{args: "--repo=src static-delta show " + from + "-" + rev}})
}

func TestApplyDeltaOffline(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, withRepo(t))
	for _, s := range []*side{real, ours} {
		s.must(t, "--repo=src", "static-delta", "generate", "--inline", "--filename=offline.delta", "main")
		s.must(t, "--repo=src", "refs", "--create=before", "main^")
		s.must(t, "--repo=repo", "pull-local", "--disable-verify-bindings", "src", "before")
	}
	// Each applies what the other one made.
	for _, s := range []*side{real, ours} {
		if err := os.Rename(filepath.Join(s.dir, "offline.delta"), filepath.Join(s.dir, "own.delta")); err != nil {
			t.Fatal(err)
		}
	}
	for dst, src := range map[*side]*side{real: ours, ours: real} {
		dst.write(t, "offline.delta", src.content(t, "own.delta"))
		dst.must(t, "--repo=new", "init", "--mode=bare-user-only")
	}
	compare(t, real, ours, []step{
		{args: "--repo=new static-delta apply-offline offline.delta"},
		{args: "--repo=repo static-delta apply-offline offline.delta"},
		{args: "--repo=repo static-delta apply-offline nosuch", ownText: true},
		{args: "--repo=repo fsck"},
	})
}

func TestSignVerbs(t *testing.T) {
	t.Parallel()
	real, ours := sides(t, withRepo(t))
	compare(t, real, ours, []step{{args: "--repo=src sign --sign-type=dummy main key"}})
	for _, s := range []*side{real, ours} {
		s.env = append(s.env, "OSTREE_DUMMY_SIGN_ENABLED=1")
	}
	compare(t, real, ours, []step{
		{args: "--repo=src sign --verify --sign-type=dummy main key"},
		{args: "--repo=src sign --sign-type=dummy main key"},
		{args: "--repo=src show --print-detached-metadata-key=ostree.sign.dummy main"},
		{args: "--repo=src sign --verify --sign-type=dummy main key"},
		{args: "--repo=src sign --verify --sign-type=dummy main nokey key"},
		{args: "--repo=src sign --verify --sign-type=dummy main nokey"},
		{args: "--repo=src sign --sign-type=frobnicate main key"},
		{args: "--repo=src sign nosuch key"},
	})
}

func TestGPGVerbs(t *testing.T) {
	t.Parallel()
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	gpg := func(args ...string) []byte {
		t.Helper()
		out, err := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--passphrase", ""}, args...)...).Output()
		if err != nil {
			t.Fatalf("gpg %v: %v", args, err)
		}
		return out
	}
	gpg("--quick-gen-key", "Tester <test@example.com>", "ed25519", "sign", "never")
	key := string(gpg("--armor", "--export"))
	real, ours := sides(t, func(s *side) {
		withRepo(t)(s)
		s.write(t, "key.asc", key)
	})
	sign := "--repo=src gpg-sign --gpg-homedir=" + home
	for _, s := range []*side{real, ours} {
		s.must(t, "--repo=repo", "remote", "add", "origin", "file://"+s.dir+"/src")
	}
	compare(t, real, ours, []step{
		{args: "--repo=repo remote gpg-list-keys origin"},
		{args: "--repo=repo remote gpg-import -k nosuch origin", ownText: true},
		{args: "--repo=repo remote gpg-import -k key.asc nosuch"},
		{args: "--repo=repo remote gpg-import -k key.asc origin"},
		{args: "--repo=repo remote gpg-import --keyring=key.asc origin"},
		{args: "--repo=repo remote gpg-list-keys origin"},
		{args: sign + " main nosuch@example.com"},
		{args: sign + " main test@example.com"},
		{args: "--repo=repo pull origin main"},
		{args: "--repo=src summary -u --gpg-sign=test@example.com --gpg-homedir=" + home},
		{args: sign + " --delete main 0123456789ABCDEF"},
		{args: sign + " -d main test@example.com"},
	})
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
	"github.com/hostctl/hostctl/pkg/ostree/gvariant"
	"github.com/hostctl/hostctl/pkg/ostree/sign"
	"github.com/hostctl/hostctl/pkg/rpmcompose/importer/rpmtest"
)

// signedTree composes a small tree with the program and a key, and gives the programs'
// folder and the repository.
func signedTree(t *testing.T, keyFile string) (bin, repo string) {
	t.Helper()
	rpmtest.Needs(t, "bwrap", "createrepo_c")
	dir := t.TempDir()
	bin, repo = filepath.Join(dir, "bin"), filepath.Join(dir, "repo")
	testutil.Must(t, os.Mkdir(bin, 0o755))
	build := exec.Command("go", "build", "-o", bin, "./cmd/compose-server", "./cmd/hostctl")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	rpms, tree := filepath.Join(dir, "rpms"), filepath.Join(dir, "tree")
	testutil.Must(t, errors.Join(os.Mkdir(rpms, 0o755), os.Mkdir(tree, 0o755)))
	demo := rpmtest.Spec{Name: "demo", Install: `cd %{buildroot}; mkdir -p usr/lib; printf 'NAME=D\nVERSION=1\n' > usr/lib/os-release`, Files: "/usr/lib/os-release"}
	for _, s := range []rpmtest.Spec{rpmtest.HostPrograms(t), demo} {
		file := rpmtest.BuildFile(t, s)
		testutil.Must(t, os.Rename(file, filepath.Join(rpms, filepath.Base(file))))
	}
	testutil.Run(t, "createrepo_c", rpms)
	for name, text := range map[string]string{
		"demo.repo": "[demo]\nname=demo\nbaseurl=file://" + rpms + "\ngpgcheck=0\n",
		"t.toml":    "ref = 'demo'\nrepos = ['demo']\npackages = ['base', 'demo']\ncontainer = true\nselinux = false\n",
	} {
		testutil.Must(t, os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644))
	}
	testutil.Run(t, testutil.Tool(t, "ostree"), "init", "--repo="+repo, "--mode=archive")
	testutil.Run(t, filepath.Join(bin, "compose-server"), "tree", filepath.Join(tree, "t.toml"), "--repo", repo, "--cachedir", filepath.Join(dir, "cache"), "--sign-key", keyFile)
	return bin, repo
}

// A tree composed with --sign-key is pulled by a host that trusts the key, for the
// commit and the summary, and refused by one that trusts another; OpenSSL, which none of
// this is made of, verifies both signatures.
func TestSignedTree(t *testing.T) {
	t.Parallel()
	secret, public, err := sign.GenerateEd25519()
	testutil.Must(t, err)
	_, other, err := sign.GenerateEd25519()
	testutil.Must(t, err)
	keyFile := filepath.Join(t.TempDir(), "key")
	testutil.Must(t, os.WriteFile(keyFile, []byte(secret+"\n"), 0o600))
	bin, repo := signedTree(t, keyFile)
	checkWithOpenSSL(t, repo, public)
	web := httptest.NewServer(http.FileServer(http.Dir(repo)))
	t.Cleanup(web.Close)
	programs := map[string][]string{"hostctl": {filepath.Join(bin, "hostctl"), "ostree"}}
	real := testutil.Tool(t, "ostree")
	if strings.Contains(testutil.Run(t, real, "--version"), "sign-ed25519") {
		programs["libostree"] = []string{real}
	} else {
		t.Log("this libostree knows no ed25519: hostctl and OpenSSL verify")
	}
	for name, argv := range programs {
		for key, good := range map[string]bool{public: true, other: false} {
			for _, what := range []string{"sign-verify", "sign-verify-summary"} {
				host := t.TempDir()
				run := func(args ...string) error {
					out, err := exec.Command(argv[0], append(append(argv[1:len(argv):len(argv)], "--repo="+host), args...)...).CombinedOutput()
					if err != nil {
						err = errors.New(string(out))
					}
					return err
				}
				testutil.Must(t, run("init", "--mode=bare-user"))
				testutil.Must(t, run("remote", "add", "--no-gpg-verify", "--set="+what+"=ed25519", "--set=verification-ed25519-key="+key, "o", web.URL))
				err := run("pull", "o", "demo")
				if good != (err == nil) {
					t.Errorf("%s with %s and the key right: %t: %v", name, what, good, err)
				}
				if !good && err != nil && !strings.Contains(err.Error(), "ignature") {
					t.Errorf("%s with %s is refused for another reason: %v", name, what, err)
				}
			}
		}
	}
}

func checkWithOpenSSL(t *testing.T, repo, public string) {
	t.Helper()
	openssl := testutil.Tool(t, "openssl")
	r, err := ostree.Open(testutil.OpenDir(t, repo), ostree.Options{})
	testutil.Must(t, err)
	defer r.Close()
	c, err := r.Resolve("demo")
	testutil.Must(t, err)
	commit, err := r.LoadRaw(ostree.ObjectName{Checksum: c, Type: ostree.TypeCommit})
	testutil.Must(t, err)
	meta, err := r.CommitMeta(c)
	testutil.Must(t, err)
	summary, err := os.ReadFile(filepath.Join(repo, "summary"))
	testutil.Must(t, err)
	raw, err := os.ReadFile(filepath.Join(repo, "summary.sig"))
	testutil.Must(t, err)
	sig, err := gvariant.ParseDict(raw)
	testutil.Must(t, err)

	key, err := base64.StdEncoding.DecodeString(public)
	testutil.Must(t, err)
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(key))
	testutil.Must(t, err)
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		p := filepath.Join(dir, name)
		testutil.Must(t, os.WriteFile(p, data, 0o600))
		return p
	}
	pub := file("public.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	for name, signed := range map[string]struct {
		data []byte
		dict gvariant.Dict
	}{"commit": {commit, meta}, "summary": {summary, sig}} {
		sigs, ok := signed.dict.ByteSlices("ostree.sign.ed25519")
		if !ok || len(sigs) != 1 {
			t.Fatalf("%s: %d signatures", name, len(sigs))
		}
		testutil.Run(t, openssl, "pkeyutl", "-verify", "-pubin", "-inkey", pub, "-rawin", "-in", file(name, signed.data), "-sigfile", file(name+".sig", sigs[0]))
	}
}

// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/hostctl/hostctl/internal/testutil"
	"github.com/hostctl/hostctl/pkg/ostree"
)

// text serves one text for every path.
func text(t *testing.T, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
	t.Cleanup(s.Close)
	return s.URL
}

func TestMirrorlist(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 20})
	gone := pathOf(fileOf(t, src, c, "d1", "f0004"))
	first, second := serve(t, src), serve(t, src)
	first.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path == gone {
			http.NotFound(w, r)
		}
		return r.URL.Path == gone
	})
	dead := httptest.NewServer(nil)
	dead.Close()
	list := text(t, "# mirrors\n\n"+dead.URL+"\nftp://example.com/x\nnonsense\n"+first.URL+"\n"+second.URL+"\n")
	for name, remote := range map[string]Remote{
		"url":        {Name: "o", URL: "mirrorlist=" + list, NoGPGVerify: true},
		"contenturl": {Name: "o", URL: second.URL, ContentURL: "mirrorlist=" + list, NoGPGVerify: true},
	} {
		first.forget()
		second.forget()
		dst := newRepo(t, ostree.ModeArchive)
		_, err := Pull(t.Context(), dst, remote, Request{Refs: []string{ref}, Network: quick()})
		testutil.Must(t, err)
		if len(objects(t, dst)) != len(objects(t, src)) {
			t.Errorf("%s: objects are missing", name)
		}
		if second.count(gone) != 1 {
			t.Errorf("%s: the second mirror was asked %d times for what the first lacks", name, second.count(gone))
		}
		if name != "url" {
			continue
		}
		for path := range second.forget() {
			if _, err := os.Stat(src.Dir().Path() + path); err == nil && path != gone {
				t.Errorf("the second mirror was asked for %s, which the first has", path)
			}
		}
	}
	remote := Remote{Name: "o", URL: "mirrorlist=" + text(t, dead.URL), NoGPGVerify: true}
	_, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), remote, Request{Refs: []string{ref}, Network: quick()})
	if err == nil || !strings.Contains(err.Error(), "No valid mirrors were found") {
		t.Errorf("list of dead mirrors: %v", err)
	}
}

func TestContentURL(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	commit(t, src, spec{ref: ref, files: 10})
	meta, content := serve(t, src), serve(t, src)
	remote := meta.remote()
	remote.ContentURL = content.URL
	_, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), remote, Request{Refs: []string{ref}})
	testutil.Must(t, err)
	for path := range meta.forget() {
		if strings.HasPrefix(path, "/objects/") && !strings.HasSuffix(path, ".commitmeta") {
			t.Errorf("%s was asked of url", path)
		}
	}
	for path := range content.forget() {
		if !strings.HasPrefix(path, "/objects/") || strings.HasSuffix(path, ".commitmeta") {
			t.Errorf("%s was asked of contenturl", path)
		}
	}
}

// metalinkOf describes a summary; %s are the three hashes and the URLs.
func metalinkOf(summary []byte, size int, sha512hex string, urls ...string) string {
	var b strings.Builder
	for _, u := range urls {
		fmt.Fprintf(&b, "<url protocol=\"http\" type=\"http\" location=\"US\" preference=\"100\" >%s</url>\n", u)
	}
	return fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/">
 <deeply><nested><files><file name="summary"><size>1</size></file></files></nested></deeply>
 <files>
  <file name="other"><size>7</size></file>
  <file name="summary">
   <size>%d</size>
   <verification><hash type="md5">00</hash><hash type="sha256">%x</hash><hash type="sha512">%s</hash></verification>
   <resources maxconnections="1"><url protocol="rsync">rsync://example.com/x</url>%s</resources>
  </file>
 </files>
</metalink>`, size, sha256.Sum256(summary), sha512hex, b.String())
}

func TestMetalink(t *testing.T) {
	t.Parallel()
	src := newRepo(t, ostree.ModeArchive)
	c := commit(t, src, spec{ref: ref, files: 10})
	testutil.Must(t, src.WriteSummary(t.Context(), ostree.SummaryOptions{}))
	summary, err := os.ReadFile(src.Dir().Path() + "/summary")
	testutil.Must(t, err)
	s := serve(t, src)
	good := fmt.Sprintf("%x", sha512.Sum512(summary))
	urls := []string{text(t, "broken") + "/summary", s.URL + "/absent", s.URL + "/summary"}
	pullFrom := func(xml string) error {
		remote := Remote{Name: "o", Metalink: text(t, xml), NoGPGVerify: true}
		res, err := Pull(t.Context(), newRepo(t, ostree.ModeArchive), remote, Request{Refs: []string{ref}, Network: quick()})
		if err == nil && res.Refs["o:"+ref] != c {
			t.Errorf("refs: %v", res.Refs)
		}
		return err
	}
	testutil.Must(t, pullFrom(metalinkOf(summary, len(summary), good, urls...)))
	for want, xml := range map[string]string{
		"Invalid hash digest for sha512":       metalinkOf(summary, len(summary), "bacon", urls...),
		"Expected checksum is":                 metalinkOf(summary, len(summary), fmt.Sprintf("%x", sha512.Sum512(nil)), urls...),
		"Expected size is":                     metalinkOf(summary, len(summary)+1, good, urls...),
		"No <url method='http'> elements":      metalinkOf(summary, len(summary), good),
		"No <size> element":                    metalinkOf(summary, 0, good, urls...),
		"Document must begin with an element":  "bacon",
		"No <file> element":                    `<metalink><files/></metalink>`,
		"No <verification> element with known": `<metalink><files><file name="summary"><size>1</size></file></files></metalink>`,
	} {
		if err := pullFrom(xml); err == nil || !strings.Contains(err.Error(), want) && !errors.Is(err, errMetalink) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func FuzzMetalink(f *testing.F) {
	f.Add([]byte(metalinkOf([]byte("x"), 1, strings.Repeat("ab", 64), "http://example.com/summary")))
	f.Add([]byte("<metalink><files><file name=\"summary\">"))
	f.Add([]byte("bacon"))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		m, err := parseMetalink(data, "summary")
		if err != nil {
			return
		}
		if m.size <= 0 || m.sha256 == "" && m.sha512 == "" || len(m.urls) == 0 || len(m.urls) > maxMetalinkURLs {
			t.Fatalf("accepted %+v", m)
		}
	})
}

func FuzzMirrorlist(f *testing.F) {
	f.Add([]byte("# c\n\nhttp://a/b\nhttps://x y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		defer testutil.Bounded(t)()
		list := parseMirrorlist(data)
		if len(list) > maxMirrors {
			t.Fatalf("%d mirrors", len(list))
		}
		for _, u := range list {
			if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				t.Fatalf("accepted %q", u)
			}
		}
	})
}

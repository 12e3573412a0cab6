// SPDX-License-Identifier: Apache-2.0

package pull

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// direct is what the requests for all objects below one address have in common. A pull
// asks for thousands of small files there, and to be ready for redirects and make maps
// of headers for each of them, as http.Client does, takes more time than the rest of
// the request. So an object is asked for with bytes that were made once. An answer that
// is anything but a file goes to the client, as the answer to a request of its own.
type direct struct {
	t     *plainTransport
	addr  string
	start []byte        // the request up to the object's name
	rest  []byte        // and after it
	req   *http.Request // such a request
}

// direct gives nil where requests must go through the client: TLS, proxies, cookies,
// which may be for some paths only.
func (h *httpSource) direct(base *url.URL) *direct {
	t, ok := h.client.Transport.(*plainTransport)
	if !ok || len(h.cookies) > 0 {
		return nil
	}
	const name = "name"
	u := rooted(base.JoinPath(name))
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}
	h.header(req)
	if u.User != nil && req.Header.Get("Authorization") == "" {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	addr, ok := t.plain(req)
	if !ok {
		return nil
	}
	var all bytes.Buffer
	if err := req.Write(&all); err != nil {
		return nil
	}
	line, rest, _ := bytes.Cut(all.Bytes(), []byte(" HTTP/1.1\r\n"))
	start, ok := bytes.CutSuffix(line, []byte(name))
	if !ok { // the address has a query
		return nil
	}
	return &direct{t: t, addr: addr, start: start, rest: append([]byte(" HTTP/1.1\r\n"), rest...), req: req}
}

// answer is a response on its way to the client.
type answer struct {
	c   *plainConn
	res *http.Response
}

type answerKey struct{}

// adopt gives the response that a direct request got, as that to req.
func (t *plainTransport) adopt(a *answer, req *http.Request) (*http.Response, error) {
	res := a.res
	a.res = nil // a redirect makes other requests with the same context
	if err := a.c.begin(req.Context()); err != nil {
		_ = a.c.Close()
		return nil, err
	}
	res.Request = req
	t.bind(a.c, req.Context(), res)
	return res, nil
}

// get asks for an object. Of the results one is not nil: f for a file with a simple
// header, a for any other answer.
func (d *direct) get(ctx context.Context, name string) (f *directFile, a *answer, err error) {
	f = &directFile{}
	var res *http.Response
	c, err := d.t.exchange(ctx, d.addr, func(c *plainConn) (err error) {
		_, _ = c.out.Write(d.start)
		_, _ = c.out.WriteString(name)
		_, _ = c.out.Write(d.rest)
		if err := c.out.Flush(); err != nil {
			return err
		}
		if !c.simple(&f.simpleHeader) {
			res, err = c.header(d.req) //nolint:bodyclose // it ends with the answer
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if res != nil {
		return nil, &answer{c, res}, nil
	}
	f.body = sized{c, f.size}
	f.plainBody = plainBody{from: &f.body, t: d.t, c: c, ctx: ctx, keep: true}
	if f.size == 0 {
		f.end(true)
	}
	return f, nil, nil
}

// directFile is a file that arrives.
type directFile struct {
	simpleHeader
	plainBody
	body sized
}

// ready tells that a read does not wait.
func (f *directFile) ready() bool { return f.ended || f.c.in.Buffered() > 0 }

// sized is a body of known length.
type sized struct {
	c    *plainConn
	left int64
}

func (r *sized) Read(p []byte) (int, error) {
	n, err := r.c.in.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	switch {
	case r.left == 0:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// simpleHeader is what matters of a response 200.
type simpleHeader struct {
	size           int64
	etag, modified string // as sent
}

// simple reads a simple header if one came in whole. Else nothing was taken.
func (c *plainConn) simple(s *simpleHeader) bool {
	if _, err := c.in.Peek(1); err != nil {
		return false
	}
	got, _ := c.in.Peek(c.in.Buffered())
	end := bytes.Index(got, []byte("\r\n\r\n"))
	if end < 0 || !s.parse(got[:end+2]) {
		return false
	}
	_, err := c.in.Discard(end + 4)
	return err == nil
}

// parse reads the header of a response up to the empty line. It takes those of the
// kind that web servers send with files; false is for all others, whatever is about
// them, and net/http has the say.
func (s *simpleHeader) parse(h []byte) bool {
	h, ok := bytes.CutPrefix(h, []byte("HTTP/1.1 200 OK\r\n"))
	if !ok {
		return false
	}
	*s = simpleHeader{size: -1}
	for len(h) > 0 {
		line, more, ok := bytes.Cut(h, []byte("\r\n"))
		colon := bytes.IndexByte(line, ':')
		if !ok || colon <= 0 || !isToken(line[:colon]) || !isText(line[colon+1:]) {
			return false
		}
		if !s.field(line[:colon], bytes.Trim(line[colon+1:], " \t")) {
			return false
		}
		h = more
	}
	return s.size >= 0
}

func (s *simpleHeader) field(key, value []byte) bool {
	is := func(name string) bool { return len(key) == len(name) && strings.EqualFold(string(key), name) }
	switch {
	case is("Content-Length"):
		n, err := strconv.ParseUint(string(value), 10, 62)
		if err != nil || s.size >= 0 {
			return false
		}
		s.size = int64(n)
	case is("ETag"):
		return once(&s.etag, value)
	case is("Last-Modified"):
		return once(&s.modified, value)
	case is("Connection"):
		return strings.EqualFold(string(value), "keep-alive")
	case is("Transfer-Encoding"), is("Trailer"):
		return false
	}
	return true
}

// once keeps the value of a field that must not come twice.
func once(to *string, value []byte) bool {
	if *to != "" {
		return false
	}
	*to = string(value)
	return *to != ""
}

// isToken tells names of fields that need no second look.
func isToken(b []byte) bool {
	for _, c := range b {
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func isText(b []byte) bool {
	for _, c := range b {
		if (c < ' ' && c != '\t') || c > '~' {
			return false
		}
	}
	return true
}

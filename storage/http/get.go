package httpstore

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// get is the source that reads a URL.
type get struct {
	client  *Client
	url     string
	headers map[string]string
}

// Open sends the request, follows redirects and returns the object once the headers of a 200 have arrived.
func (g *get) Open(ctx context.Context) (*storage.Object, error) {
	what, to, header, err := g.prepare("open")
	if err != nil {
		return nil, err
	}
	x := g.client.newExchange(ctx, what)
	resp, err := x.follow(to, header)
	if err != nil {
		x.cancel(nil)
		return nil, err
	}
	o := x.object(resp)
	if o.ETag == "" && !settled(resp.Header, o.Modified) {
		o.Modified = time.Time{}
	}
	return o, nil
}

// settled reports whether a time of modification names one state: times are told in seconds, and within the second in which the answer
// was made another content may still come to have the same one (RFC 9110, section 8.8.2.2).
func settled(header http.Header, modified time.Time) bool {
	answered, err := http.ParseTime(told(header, "Date"))
	if err != nil {
		answered = time.Now()
	}
	return answered.Sub(modified) >= time.Second
}

// prepare checks everything that can be checked without the network.
func (g *get) prepare(op string) (what call, to target, header http.Header, err error) {
	what = call{side: source, op: op, subject: "URL"}
	to, problem := parseURL(g.url)
	if problem != "" {
		return what, to, nil, what.fail(storage.Invalid, "invalid_url", "the URL "+problem)
	}
	what.subject = redacted(to.url)
	header, problem = parseHeaders(g.headers)
	if problem != "" {
		return what, to, nil, what.fail(storage.Invalid, "invalid_header", "the headers "+problem)
	}
	return what, to, header, nil
}

// fetch sends one request and returns its answer, whatever the status.
func (x *exchange) fetch(to target, header http.Header) (*http.Response, error) {
	header = header.Clone()
	setDefault(header, "Accept-Encoding", "identity")
	setDefault(header, "User-Agent", x.client.opts.UserAgent)
	if x.part != "" {
		header.Set("Range", x.part) // also where a redirect led: without it, all would be sent
		header.Del("If-Range")      // one of the caller's would be about another range
	}
	if x.state != "" {
		header.Set("If-Range", x.state)
	}
	req := &http.Request{Method: x.method, URL: to.url, Host: to.url.Host, Header: header}
	resp, err := x.roundTrip(req, x.headerWait())
	x.dog.stop()
	if err != nil && x.reused && x.spoken.Load() && x.ctx.Err() == nil {
		// What came may be the rest of what the request before it was answered with, and late. Of a connection of its own it is known whose
		// answer comes.
		x.alone = true
		resp, err = x.roundTrip(req, x.headerWait())
		x.dog.stop()
		x.alone = false
	}
	if err != nil {
		return nil, x.unansweredWith(err)
	}
	return resp, nil
}

// object is what a successful answer stands for. Its body owns the exchange.
func (x *exchange) object(resp *http.Response) *storage.Object {
	what := x.call
	what.op = "read"
	o := &storage.Object{
		Size:        storage.UnknownSize,
		ContentType: told(resp.Header, "Content-Type"),
		ETag:        told(resp.Header, "Etag"),
		Status:      resp.StatusCode,
		Ranges:      strings.EqualFold(strings.TrimSpace(resp.Header.Get("Accept-Ranges")), "bytes"),
	}
	if resp.StatusCode == http.StatusOK {
		o.Digests = digests(resp.Header)
	}
	if resp.ContentLength >= 0 {
		o.Size = resp.ContentLength
	}
	if modified, err := http.ParseTime(told(resp.Header, "Last-Modified")); err == nil {
		o.Modified = modified
	}
	b := newBody(x, what, resp.Body, o.Size)
	if resp.TLS != nil && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 {
		b.closes = x.conn.Load()
	}
	o.Body = b
	return o
}

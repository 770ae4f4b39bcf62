package httpstore

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/copyfleet/copyfleet/storage"
)

// Stat asks what is behind the URL without reading it: with a HEAD and, where that is refused, with a GET of the first byte. Redirects
// are followed as Open follows them. A server that answers the GET with everything is cut off after its headers.
func (g *get) Stat(ctx context.Context) (storage.Stat, error) {
	what, to, header, err := g.prepare("look at")
	if err != nil {
		return storage.Stat{}, err
	}
	if !signedForGet(to.url) {
		stat, err := g.ask(ctx, what, to, header, http.MethodHead, "")
		e, ok := errors.AsType[*storage.Error](err)
		if err == nil || !ok || e.Status < 400 {
			return stat, err
		}
	}
	return g.ask(ctx, what, to, header, http.MethodGet, "bytes=0-0")
}

// signedForGet reports whether a URL carries a signature that covers the method, so that a HEAD cannot be meant.
func signedForGet(u *url.URL) bool {
	for name := range u.Query() {
		switch strings.ToLower(name) {
		case "x-amz-signature", "x-goog-signature", "signature":
			return true
		}
	}
	return false
}

func (g *get) ask(ctx context.Context, what call, to target, header http.Header, method, part string) (storage.Stat, error) {
	x := g.client.newExchange(ctx, what)
	defer x.cancel(nil)
	x.method, x.part = method, part
	resp, err := x.follow(to, header)
	if err != nil {
		return storage.Stat{}, err
	}
	if method == http.MethodGet && resp.StatusCode == http.StatusOK {
		defer resp.Body.Close() // all of it; the connection is the price of not reading it
	} else {
		defer discard(resp)
	}
	o := x.object(resp)
	stat := storage.Stat{Size: o.Size, ContentType: o.ContentType, ETag: o.ETag, Modified: o.Modified, Status: o.Status}
	switch resp.StatusCode {
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		stat.Size, stat.Ranges = rangeSize(resp.Header.Get("Content-Range")), true
		if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && stat.Size == storage.UnknownSize {
			stat.Size, stat.ContentType = 0, "" // MinIO does not say how much there is; only of nothing is there no first byte
		}
	default:
		stat.Ranges = o.Ranges
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && stat.Size != 0 {
		return stat, x.status(resp)
	}
	return stat, nil
}

// rangeSize takes the whole size out of a Content-Range (RFC 9110, section 14.4): "bytes 0-0/1234", "bytes */0".
func rangeSize(value string) int64 {
	_, after, found := strings.Cut(value, "/")
	size, err := strconv.ParseInt(strings.TrimSpace(after), 10, 64)
	if !found || err != nil || size < 0 {
		return storage.UnknownSize
	}
	return size
}

// Look tells whether an upload could begin, as far as that can be told without sending anything to the receiver: the form of URL and
// headers, whether its host has an address, and whether that may be dialed.
func (u *upload) Look(ctx context.Context) (storage.Look, error) {
	what := call{side: dest, op: "look at", subject: "URL"}
	to, problem := parseURL(u.url)
	if problem != "" {
		return storage.Look{}, what.fail(storage.Invalid, "invalid_url", "the URL "+problem)
	}
	what.subject = redacted(to.url)
	if _, problem := parseHeaders(u.headers); problem != "" {
		return storage.Look{}, what.fail(storage.Invalid, "invalid_header", "the headers "+problem)
	}
	if err := u.client.dialer.resolve(ctx, to.url.Hostname()); err != nil {
		return storage.Look{}, what.dialed(err)
	}
	return storage.Look{Free: storage.UnknownSize}, nil
}

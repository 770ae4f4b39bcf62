package httpstore

import (
	"context"
	"math"
	"net/http"

	"github.com/copyfleet/copyfleet/storage"
)

// continueAbove is the size in bytes of a body above which the receiver is asked first (Expect: 100-continue,
// RFC 9110, section 10.1.1), so that a refusal costs no transfer. Below, asking costs more than it saves.
const continueAbove = 1 << 20

// upload is the destination that a PUT or a POST writes.
type upload struct {
	client  *Client
	method  string
	url     string
	headers map[string]string
	frame   framing
}

// NeedsSize is true: the exact length is what tells the receiver a whole body from an aborted one.
func (u *upload) NeedsSize() bool { return true }

// Put sends the content. It reads Content.Body and calls Content.Ready on the goroutine of its caller. When it
// returns, neither is used any more; a body that blocks in Read therefore keeps Put waiting.
func (u *upload) Put(ctx context.Context, content storage.Content) (storage.Stored, error) {
	what := call{side: dest, op: "write", subject: "URL"}
	t, req, err := u.prepare(&what, content)
	if err != nil {
		return storage.Stored{}, err
	}
	t.exchange = u.client.newExchange(ctx, what)
	defer t.cancel(nil)
	resp, err := t.send(req)
	if err != nil {
		return storage.Stored{}, err
	}
	if t.sent {
		defer discard(resp)
	} else {
		defer resp.Body.Close() // the connection cannot be used again
	}
	return t.judge(resp)
}

// prepare checks everything that can be checked without the network and builds the request.
func (u *upload) prepare(what *call, content storage.Content) (*transfer, *http.Request, error) {
	to, problem := parseURL(u.url)
	if problem != "" {
		return nil, nil, what.fail(storage.Invalid, "invalid_url", "the URL "+problem)
	}
	what.subject = redacted(to.url)
	header, problem := parseHeaders(u.headers)
	if problem != "" {
		return nil, nil, what.fail(storage.Invalid, "invalid_header", "the headers "+problem)
	}
	prefix, suffix, contentType, forced := u.frame.frame(content)
	around := int64(len(prefix) + len(suffix))
	if content.Size < 0 || content.Size > math.MaxInt64-around {
		return nil, nil, what.fail(storage.Invalid, "needs_size", "an upload needs the exact size of its content")
	}
	if forced {
		delete(header, "Content-Type")
	}
	if contentType != "" {
		setDefault(header, "Content-Type", contentType)
	}
	setDefault(header, "User-Agent", u.client.opts.UserAgent)
	length := around + content.Size
	if length > continueAbove {
		header.Set("Expect", "100-continue")
	}
	req := &http.Request{
		Method: u.method, URL: to.url, Host: to.url.Host, Header: header,
		Body: http.NoBody, ContentLength: length,
	}
	return &transfer{content: content, prefix: prefix, suffix: suffix}, req, nil
}

// judge turns an answer into the result of Put. A success that was told before everything was sent is none:
// the receiver cannot have what it was not given.
func (t *transfer) judge(resp *http.Response) (storage.Stored, error) {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		e := t.status(resp)
		e.Reason = reason(resp)
		return storage.Stored{}, e
	}
	if c := t.conn.Load(); !t.sent || c != nil && c.dropped.Load() {
		e := t.fail(storage.Interrupted, "early_answer", "the receiver reported success before it had everything")
		e.Status, e.StatusText = resp.StatusCode, http.StatusText(resp.StatusCode)
		return storage.Stored{}, e
	}
	stored := storage.Stored{Bytes: t.content.Size, ETag: told(resp.Header, "Etag"), Status: resp.StatusCode}
	if sum := told(resp.Header, "X-Amz-Checksum-Crc64nvme"); sum != "" {
		stored.Checksum = storage.DigestCRC64NVME + ":" + sum
	}
	return stored, nil
}

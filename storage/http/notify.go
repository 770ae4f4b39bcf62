package httpstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// Limits of a notice.
const (
	noticeLimit = 10 * time.Second // for all of it: connecting, sending, the status
	excerptSize = 1 << 10          // bytes of an answer that are read
	excerptWait = 2 * time.Second  // for them, within noticeLimit
)

// Notify posts a small body to a URL, once: nothing is repeated, no redirect is followed. It ends within 10 s. Any 2xx is a
// success; otherwise the error says why, and if there was an answer it is returned, too.
func (c *Client) Notify(ctx context.Context, url string, headers map[string]string, body []byte) (storage.Answer, error) {
	what := call{side: notice, op: "notify", subject: "URL"}
	to, problem := parseURL(url)
	if problem != "" {
		return storage.Answer{}, what.fail(storage.Invalid, "invalid_url", "the URL "+problem)
	}
	what.subject = redacted(to.url)
	header, problem := parseHeaders(headers)
	if problem != "" {
		return storage.Answer{}, what.fail(storage.Invalid, "invalid_header", "the headers "+problem)
	}
	setDefault(header, "User-Agent", c.opts.UserAgent)
	x := c.newExchange(ctx, what)
	defer x.cancel(nil)
	limit := c.noticeLimit
	end := time.AfterFunc(limit, func() { x.cancel(&wait{name: "timeout", what: "no answer", limit: limit}) })
	defer end.Stop()

	req := &http.Request{
		Method: http.MethodPost, URL: to.url, Host: to.url.Host, Header: header,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
	resp, err := x.roundTrip(req, x.headerWait())
	x.dog.stop()
	if err != nil {
		return storage.Answer{}, x.unansweredWith(err)
	}
	defer resp.Body.Close() // what is left of it costs the connection: a receiver may send for ever
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return storage.Answer{Status: resp.StatusCode}, nil
	}
	answer := storage.Answer{Status: resp.StatusCode, Excerpt: x.excerpt(resp)}
	refusal := x.status(resp)
	if isRedirect(resp.StatusCode) {
		refusal.Code = fmt.Sprintf("%s_redirect", notice)
		refusal.Hint = "Redirects are not followed; give the URL that they lead to."
	}
	return answer, refusal
}

// excerpt reads the beginning of an answer, as far as it comes soon.
func (x *exchange) excerpt(resp *http.Response) []byte {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return nil // its body is the connection
	}
	timer := time.AfterFunc(excerptWait, func() { resp.Body.Close() })
	defer timer.Stop()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, excerptSize)) // the status has been told; the rest is a courtesy
	return text
}

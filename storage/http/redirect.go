package httpstore

import (
	"net/http"
	"strings"

	"github.com/copyfleet/copyfleet/storage"
)

// maxRedirects is how many redirects one Open follows.
const maxRedirects = 5

// follow sends a request that reads and follows redirects until it has an answer of use. The subject of the exchange is the URL that
// was asked last. Headers are dropped for good at the first change of origin: they, the referring URL above
// all, may be credentials, and where a redirect leads is decided by the peer.
func (x *exchange) follow(to target, header http.Header) (*http.Response, error) {
	for hops := 0; ; hops++ {
		x.subject = redacted(to.url)
		resp, err := x.fetch(to, header)
		if err != nil {
			return nil, err
		}
		if x.answers(resp.StatusCode) {
			return resp, nil
		}
		next, err := x.unsuccessful(to, resp, hops)
		discard(resp)
		if err != nil {
			return nil, err
		}
		if next.origin != to.origin {
			header = http.Header{}
		}
		to = next
	}
}

// answers reports whether a status is of use: 200, and where a part was asked for, also what speaks of parts.
func (x *exchange) answers(status int) bool {
	switch status {
	case http.StatusOK:
		return true
	case http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		return x.part != ""
	case http.StatusPreconditionFailed:
		return x.state != ""
	}
	return false
}

// unsuccessful returns where an answer other than 200 redirects to, or why it is a failure.
func (x *exchange) unsuccessful(from target, resp *http.Response, hops int) (target, error) {
	if !isRedirect(resp.StatusCode) {
		return target{}, x.status(resp)
	}
	if hops == maxRedirects {
		return target{}, x.fail(storage.Invalid, "redirect_limit", "the server redirected more than 5 times")
	}
	next, problem := redirectTarget(from, resp.Header["Location"])
	if problem != "" {
		return target{}, x.fail(storage.Invalid, "redirect", "the server redirected to a URL that "+problem)
	}
	return next, nil
}

// isRedirect reports whether a status asks to repeat the GET elsewhere (RFC 9110, section 15.4).
func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirectTarget resolves a Location and applies the rules for URLs to it. The problem continues "a URL that".
func redirectTarget(from target, location []string) (target, string) {
	if len(location) != 1 || location[0] == "" {
		return target{}, "it did not name, or not once"
	}
	if len(location[0]) > maxURL {
		return target{}, "is longer than 8 KiB"
	}
	u, err := from.url.Parse(location[0])
	if err != nil {
		return target{}, "cannot be parsed" // the error quotes it
	}
	next, problem := checkURL(u)
	if problem != "" {
		return target{}, problem
	}
	if strings.HasPrefix(from.origin, "https:") && !strings.HasPrefix(next.origin, "https:") {
		return target{}, "would leave https for http"
	}
	return next, ""
}

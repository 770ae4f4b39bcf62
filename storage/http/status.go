package httpstore

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// maxRetryAfter bounds what a peer may ask us to wait.
const maxRetryAfter = time.Hour

// statusClasses are the classes of the statuses that have one of their own. The others go by their hundred.
var statusClasses = map[int]storage.Class{
	http.StatusUnauthorized:          storage.Denied,
	http.StatusForbidden:             storage.Denied,
	http.StatusNotFound:              storage.NotFound,
	http.StatusProxyAuthRequired:     storage.Denied,
	http.StatusRequestTimeout:        storage.Timeout,
	http.StatusGone:                  storage.NotFound,
	http.StatusRequestEntityTooLarge: storage.TooLarge,
	http.StatusTooEarly:              storage.Throttled,
	http.StatusTooManyRequests:       storage.Throttled,
	http.StatusInsufficientStorage:   storage.NoSpace,
}

// status returns the error for an answer that is not a success.
func (c call) status(resp *http.Response) *storage.Error {
	status := resp.StatusCode
	phrase := http.StatusText(status)
	e := c.fail(storage.Invalid, fmt.Sprintf("http_%03d", status),
		strings.TrimSpace(fmt.Sprintf("the server answered %03d %s", status, phrase)))
	e.Status, e.StatusText = status, phrase
	class, known := statusClasses[status]
	switch {
	case known:
		e.Class = class
	case status == http.StatusConflict && c.side == dest:
		e.Class = storage.Conflict
	case status >= 500 && status < 600:
		e.Class = storage.Unavailable
	case status >= 300 && status < 400 && c.side == dest:
		e.Code = "http_redirect"
		e.Hint = "An upload does not follow redirects; give the URL that they lead to."
	case status < 400 || status >= 600:
		e.Code = "http_unexpected_status"
	}
	if status >= 400 {
		e.RetryAfter = retryAfter(resp.Header)
	}
	return e
}

// retryAfter returns what Retry-After asks for (RFC 9110, section 10.2.3), from 0 to one hour. A date is
// compared with the Date of the same answer, where it has one: then the clocks of the two need not agree.
func retryAfter(header http.Header) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter // an error can only mean that it is even more
		}
		return time.Duration(seconds) * time.Second
	}
	then, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(0, then.Sub(now)), maxRetryAfter)
}

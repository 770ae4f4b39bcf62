package target

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/storage"
)

const (
	mostAnswer  = 16 << 20 // bytes: a page of items
	mostRefusal = 64 << 10
	answerTime  = 60 * time.Second // of a call that does not wait for copies
	stopTime    = 60 * time.Second // of a cancel, which waits 10 s for its end once it is stored
)

// request is one call of the API.
type request struct {
	method, path string
	body         []byte // nil: none
	media        string // of the body
	key          string // Idempotency-Key; "": none
	prefer       string // Prefer; "": nothing
	after        string // Last-Event-ID; "": none
}

// send makes a call and returns its answer, whose body the caller closes. A refusal is an error.
func (f *Fleet) send(ctx context.Context, r *request) (*http.Response, error) {
	var body io.Reader // a nil *bytes.Reader would be a body
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, f.base+r.path, body)
	if err != nil {
		return nil, f.failed(r, storage.Errorf(storage.Invalid, "invalid_request", "", "", "it cannot be made"))
	}
	if r.key != "" {
		// net/http would send such a request again if its connection broke off, and tell of the second one only: that nobody answered it says nothing of
		// the first, which may have been accepted.
		req.GetBody = nil
	}
	req.Header.Set("Authorization", "Bearer "+f.cfg.Key)
	req.Header.Set("User-Agent", "copyfleet-bench")
	for name, value := range map[string]string{"Content-Type": r.media, "Idempotency-Key": r.key, "Last-Event-ID": r.after, "Prefer": r.prefer} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return nil, f.unreached(ctx, r, err)
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, mostRefusal))
	if err != nil {
		return nil, f.unreached(ctx, r, err)
	}
	return nil, f.refused(r, resp, text)
}

// ask makes a call and decodes its answer; into may be nil.
func (f *Fleet) ask(ctx context.Context, r *request, into any) (http.Header, error) {
	resp, err := f.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer+1))
	if err != nil {
		return nil, f.unreached(ctx, r, err)
	}
	if into == nil {
		return resp.Header, nil
	}
	if len(data) > mostAnswer || json.Unmarshal(data, into) != nil {
		return nil, f.unknownAnswer(r, "it cannot be read")
	}
	return resp.Header, nil
}

// unknownAnswer says that an answer is not one of the API.
func (f *Fleet) unknownAnswer(r *request, format string, args ...any) error {
	e := storage.Errorf(storage.Invalid, "unknown_answer", "", "", "the answer is not what the API promises: "+format, args...)
	e.Status, e.Hint = http.StatusOK, "Is it the address of a Copyfleet API, and of this version?"
	return f.failed(r, e)
}

// failed completes an error of a call.
func (f *Fleet) failed(r *request, e *storage.Error) error {
	path, _, _ := bytes.Cut([]byte(r.path), []byte("?"))
	e.Op, e.Subject = r.method, f.shown()+string(path)
	return e
}

// shown is where the API is, without user and password.
func (f *Fleet) shown() string {
	u, err := url.Parse(f.base)
	if err != nil {
		return f.host
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// unreached tells why a call has no answer. Its error has no status.
func (f *Fleet) unreached(ctx context.Context, r *request, err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	e := storage.Errorf(storage.Interrupted, "api_broken_off", "", "", "the connection to the API broke off")
	e.Err = err
	dial, dialing := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Class, e.Code, e.Message = storage.Timeout, "api_timeout", "the API does not answer in time"
	case ctx.Err() != nil:
		e.Code, e.Message, e.Err = "given_up", "it was given up: it had not ended when the run did", nil
	case dialing && dial.Op == "dial":
		e.Class, e.Code, e.Message = storage.Unavailable, "api_unreachable", "no API answers there"
		e.Hint = "Does the fleet run, and is this the address of its API?"
	}
	return f.failed(r, e)
}

// problem is what the API says when it refuses (RFC 9457).
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// refused is the error of an answer that refuses a call.
func (f *Fleet) refused(r *request, resp *http.Response, text []byte) error {
	var p problem
	if json.Unmarshal(text, &p) != nil || p.Code == "" {
		p = problem{Code: "http_" + strconv.Itoa(resp.StatusCode), Message: "the answer is " + resp.Status}
	}
	e := storage.Errorf(classOfStatus(resp.StatusCode), brief(p.Code), "", "", "%s", brief(p.Message))
	e.Status, e.StatusText, e.Hint = resp.StatusCode, http.StatusText(resp.StatusCode), f.hint(p.Code)
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(min(seconds, 3600)) * time.Second
	}
	if resp.StatusCode < http.StatusBadRequest {
		e.Hint = "It sends callers elsewhere; give the address of the API itself."
	}
	return f.failed(r, e)
}

func classOfStatus(status int) storage.Class {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return storage.Denied
	case http.StatusNotFound:
		return storage.NotFound
	case http.StatusConflict:
		return storage.Conflict
	case http.StatusRequestEntityTooLarge:
		return storage.TooLarge
	case http.StatusTooManyRequests:
		return storage.Throttled
	case http.StatusGatewayTimeout:
		return storage.Timeout
	case http.StatusInternalServerError:
		return storage.Internal
	}
	if status > http.StatusInternalServerError {
		return storage.Unavailable
	}
	return storage.Invalid
}

// hint says what the reader may do about a refusal.
func (f *Fleet) hint(code string) string {
	switch code {
	case "unauthorized":
		return "The API key is unknown to this fleet, or was revoked."
	case "forbidden":
		return "The API key needs the role copy; an admin makes one with \"copyfleet keys create ORG --role copy\"."
	case "wrong_org":
		return "The API key belongs to another org than the one given."
	case "bucket_not_granted":
		org := "ORG"
		if known := f.org.Load(); known != nil {
			org = string(*known)
		}
		first, _, _ := strings.Cut(f.all, "/")
		return "An admin lets the org use the objects of load tests: copyfleet orgs grant " + org + " " + f.S3.cfg.Bucket + "/" + first + "/"
	case "sandbox_not_found":
		return "Copies that are waited for are made in the name of a sandbox; give one that there is, or register it."
	case "no_worker":
		return "Start a worker of the pool \"default\", or of the pool of the sandbox given."
	case "queue_full":
		return "The fleet takes no more until it has done some of what it has."
	}
	return ""
}

// faulted is the result of a call that failed.
func (f *Fleet) faulted(err error) loadtest.Result {
	result := loadtest.Result{Host: f.host}
	result.Fault, result.Down = Explain(err)
	if e, ok := errors.AsType[*storage.Error](err); ok {
		result.Rest = e.RetryAfter
		result.Down = result.Down && e.Code != "given_up" && e.Code != "invalid_request"
	}
	return result
}

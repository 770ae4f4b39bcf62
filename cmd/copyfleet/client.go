package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// clientFlags name the API that a command talks to.
type clientFlags struct {
	URL    string `help:"URL of the API." default:"http://127.0.0.1:7400" env:"COPYFLEET_URL"`
	APIKey string `help:"API key." name:"api-key" env:"COPYFLEET_API_KEY" placeholder:"KEY"`
}

// client calls the API.
type client struct {
	base string
	key  string
	http *http.Client
}

const (
	// maxAnswer bounds the answers that a command reads into memory.
	maxAnswer = 256 << 20
	// maxRefusal bounds what is read of an answer that refuses a call.
	maxRefusal = 1 << 20
	// answerTime is how long a call may take whose answer is read into memory; the longest, a cancel, waits 10 s for its end.
	answerTime = 2 * time.Minute
	dialTime   = 10 * time.Second
	// continueTime is how long an upload waits to be let in before it sends all the same.
	continueTime = 2 * time.Second
)

func (f clientFlags) client() (*client, error) {
	api, err := f.anonymous()
	if err == nil && api.key == "" {
		return nil, hinted(exitWith(exitUsage, "an API key is needed: --api-key (COPYFLEET_API_KEY)"),
			"\"copyfleet up\" prints one, and keeps it in the file api-key of its data directory.")
	}
	return api, err
}

// anonymous returns a client that may have no key.
func (f clientFlags) anonymous() (*client, error) {
	u, err := url.Parse(f.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, exitWith(exitUsage, "--url %q: must be an http or https URL", protocol.RedactURL(f.URL))
	}
	if strings.ContainsFunc(f.APIKey, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, exitWith(exitUsage, "--api-key: a key has no spaces and no special characters; this one was not copied whole")
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTime}).DialContext,
		MaxIdleConnsPerHost: 16, ExpectContinueTimeout: continueTime, TLSHandshakeTimeout: dialTime,
	}
	return &client{base: strings.TrimRight(f.URL, "/"), key: f.APIKey, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a key goes nowhere else
	}}, nil
}

// shown is where the API is, fit for people.
func (c *client) shown() string { return protocol.RedactURL(c.base) }

// send makes one request and returns its answer, whose body the caller closes. An answer that refuses is an error, a [problem].
func (c *client) send(ctx context.Context, method, path string, header http.Header, body io.Reader, length int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if body != nil {
		req.ContentLength = length
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("User-Agent", userAgent())
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreached(ctx, err)
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if err != nil {
		return resp, exitWith(exitTemporary, "%s %s: the answer broke off: %w", method, path, err)
	}
	return resp, refusal(resp, text)
}

// unreached tells why there is no answer. The error of net/http would repeat the whole URL.
func (c *client) unreached(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return &exitError{code: exitTemporary, reason: "unreachable", hint: "Is \"copyfleet up\" running there? --url (COPYFLEET_URL) names another API.",
			err: fmt.Errorf("nothing answers at %s: %w", c.shown(), err)}
	}
	return &exitError{code: exitTemporary, reason: "broken_off", err: fmt.Errorf("the connection to %s broke off: %w", c.shown(), err)}
}

// errAnswerTime is the cause of the end of a call that took too long.
var errAnswerTime = fmt.Errorf("the API did not answer within %s", answerTime)

// call sends a request and decodes the answer into out, which may be nil. The answer's header comes back, too.
func (c *client) call(ctx context.Context, method, path string, header http.Header, in, out any) (http.Header, error) {
	var body []byte
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = data
		if header = header.Clone(); header == nil {
			header = http.Header{}
		}
		header.Set("Content-Type", "application/json")
	}
	return c.callText(ctx, method, path, header, body, out)
}

// callText is call with a body as it is; nil: none.
func (c *client) callText(ctx context.Context, method, path string, header http.Header, body []byte, out any) (http.Header, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, errAnswerTime)
	defer cancel()
	answer, err := c.exchange(ctx, method, path, header, body, out)
	if errors.Is(err, errAnswerTime) {
		err = exitWith(exitTemporary, "%s %s: %w", method, path, err)
	}
	return answer, err
}

// exchange is callText without a limit of time.
func (c *client) exchange(ctx context.Context, method, path string, header http.Header, body []byte, out any) (http.Header, error) {
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	resp, err := c.send(ctx, method, path, header, in, int64(len(body)))
	if err != nil {
		if resp == nil {
			return nil, err
		}
		return resp.Header, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return resp.Header, exitWith(exitTemporary, "%s %s: the answer broke off: %w", method, path, err)
	}
	if out != nil && len(data) > 0 {
		if err := json.Unmarshal(data, out); err != nil {
			return resp.Header, hinted(exitWith(exitFatal, "%s %s: the answer is not what the API promises: %w", method, path, err),
				"Does --url name a Copyfleet API, and of this version? \"copyfleet doctor\" looks.")
		}
	}
	return resp.Header, nil
}

// get reads a resource.
func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	_, err := c.call(ctx, http.MethodGet, path, nil, nil, out)
	return err
}

// batchPath is the path of a batch and what belongs to it.
func batchPath(id string, more ...string) string {
	parts := append([]string{"/v1/batches", id}, more...)
	for i := range parts[1:] {
		parts[i+1] = url.PathEscape(parts[i+1])
	}
	return strings.Join(parts, "/")
}

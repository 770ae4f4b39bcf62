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

// maxAnswer bounds the answers that a command reads.
const maxAnswer = 256 << 20

func (f clientFlags) client() (*client, error) {
	u, err := url.Parse(f.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, exitWith(exitUsage, "--url %q: must be an http or https URL", protocol.RedactURL(f.URL))
	}
	if f.APIKey == "" {
		return nil, exitWith(exitUsage, "an API key is needed: --api-key (COPYFLEET_API_KEY)")
	}
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, MaxIdleConnsPerHost: 16}
	return &client{base: strings.TrimRight(f.URL, "/"), key: f.APIKey, http: &http.Client{Transport: transport}}, nil
}

// problem is what the API answers to a call that it refuses.
type problem struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Errors  []struct {
		Pointer string `json:"pointer"`
		Message string `json:"message"`
	} `json:"errors"`
}

// Error tells the message and every field.
func (p *problem) Error() string {
	var text strings.Builder
	text.WriteString(p.Message + " (" + p.Code + ")")
	if len(p.Errors) > 1 {
		for _, e := range p.Errors {
			text.WriteString("\n  " + e.Pointer + ": " + e.Message)
		}
	}
	return text.String()
}

// call sends a request and decodes the answer into out, which may be nil. The answer's header comes back, too.
func (c *client) call(ctx context.Context, method, path string, header http.Header, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var refused *net.OpError
		if errors.As(err, &refused) && refused.Op == "dial" {
			return nil, exitWith(exitTemporary, "nothing answers at %s: is \"copyfleet up\" running there?", c.base)
		}
		return nil, exitWith(exitTemporary, "%s %s: %w", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return resp.Header, exitWith(exitTemporary, "%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return resp.Header, refusal(resp.StatusCode, data)
	}
	if out != nil && len(data) > 0 {
		if err := json.Unmarshal(data, out); err != nil {
			return resp.Header, fmt.Errorf("%s %s: the answer is not what the API promises: %w", method, path, err)
		}
	}
	return resp.Header, nil
}

func refusal(status int, body []byte) error {
	p := &problem{Status: status}
	if json.Unmarshal(body, p) != nil || p.Message == "" {
		p.Message, p.Code = fmt.Sprintf("the API answered %d %s", status, http.StatusText(status)), "unknown"
	}
	return &exitError{code: statusExit(status), err: p}
}

func statusExit(status int) int {
	switch {
	case status == http.StatusNotFound:
		return exitNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return exitDenied
	case status == http.StatusTooManyRequests, status >= http.StatusInternalServerError:
		return exitTemporary
	}
	return exitUsage
}

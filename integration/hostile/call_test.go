package hostile

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
)

func copyPath(f *mixtest.Fleet) string {
	return "/api/orgs/" + f.API.Org + "/sandboxes/" + f.Sandbox + "/file/copy"
}

// send sends a body as it is: [mixtest.API] encodes JSON, which not every body here is.
func send(t *testing.T, f *mixtest.Fleet, method, path string, header map[string]string, body io.Reader) mixtest.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, f.API.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	return exchange(t, f, req, header)
}

// sendSized is a POST whose length is told.
func sendSized(t *testing.T, f *mixtest.Fleet, path string, header map[string]string, body io.Reader, size int64) mixtest.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.API.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	return exchange(t, f, req, header)
}

func exchange(t *testing.T, f *mixtest.Fleet, req *http.Request, header map[string]string) mixtest.Answer {
	t.Helper()
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+f.API.Key)
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: limit}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: read the answer: %v", req.Method, req.URL.Path, err)
	}
	return mixtest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: content}
}

// TestBadCalls are calls whose body is in order and the rest is not.
func TestBadCalls(t *testing.T) {
	t.Parallel()
	w := watchedUp(t, "AUTO_SANDBOXES=false")
	if a := send(t, w.Fleet, http.MethodPut, "/v1/sandboxes/"+w.Sandbox, nil, nil); a.Status != http.StatusCreated {
		t.Fatalf("register the sandbox: %d %s", a.Status, a.Body)
	}
	before := w.traces(t)
	here := copyPath(w.Fleet)
	for _, row := range []struct {
		name, method, path string
		header             map[string]string
		status             int
		code               string
	}{
		{"another org", "POST", strings.Replace(here, w.API.Org, "ORG-other", 1), nil, 403, "wrong_org"},
		{"an unknown sandbox", "POST", strings.Replace(here, w.Sandbox, "SBX-other", 1), nil, 404, "sandbox_not_found"},
		{"a sandbox that cannot be", "POST", strings.Replace(here, w.Sandbox, "a%20b", 1), nil, 404, "sandbox_not_found"},
		{"a sandbox with a slash", "POST", strings.Replace(here, w.Sandbox, "a%2F..%2Fb", 1), nil, 404, "not_found"},
		{"a sandbox that climbs", "POST", strings.Replace(here, w.Sandbox, "..", 1), nil, 404, "not_found"},
		{"no key", "POST", here, map[string]string{"Authorization": ""}, 401, "unauthorized"},
		{"a wrong key", "POST", here, map[string]string{"Authorization": "Bearer x"}, 401, "unauthorized"},
		{"two keys", "POST", here, map[string]string{"X-Api-Key": "x"}, 401, "unauthorized"},
		{"the key in the query", "POST", here + "?api_key=" + w.API.Key, map[string]string{"Authorization": ""}, 401, "unauthorized"},
		{"GET", "GET", here, nil, 405, "method_not_allowed"},
		{"an unknown path", "POST", here + "/x", nil, 404, "not_found"},
		{"a form", "POST", here, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"},
		{"another charset", "POST", here, map[string]string{"Content-Type": "application/json; charset=utf-16"}, 415, "unsupported_media_type"},
		{"a compressed body", "POST", here, map[string]string{"Content-Encoding": "gzip"}, 415, "unsupported_media_type"},
		{"an idempotency key with a space", "POST", here, map[string]string{"Idempotency-Key": "a b"}, 400, "invalid_header"},
		{"a long idempotency key", "POST", here, map[string]string{"Idempotency-Key": strings.Repeat("k", 256)}, 400, "invalid_header"},
	} {
		p := refused(t, send(t, w.Fleet, row.method, row.path, row.header, strings.NewReader(good)))
		if p.Status != row.status || p.Code != row.code {
			t.Errorf("%s: %d %s, want %d %s: %s", row.name, p.Status, p.Code, row.status, row.code, p.Message)
		}
	}
	w.unchanged(t, before)
}

// refused decodes a problem and checks what every one of them has.
func refused(t *testing.T, a mixtest.Answer) problem {
	t.Helper()
	p := refusal(t, a)
	if p.Code == "" || p.Message == "" || a.Batch() != "" || a.Header.Get("Location") != "" || a.Status == http.StatusUnauthorized && a.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("status %d, header %v: %s", a.Status, a.Header, a.Body)
	}
	return p
}

// TestBodyOverTheLimit sends one that says how long it is, and asks before it is sent, as curl does; and one that comes
// in chunks.
func TestBodyOverTheLimit(t *testing.T) {
	t.Parallel()
	const most = 64 << 20
	w := watchedUp(t)
	before := w.traces(t)
	unsent := &counted{reader: bytes.NewReader(make([]byte, most+1))}
	asking := map[string]string{"Expect": "100-continue"}
	if p := refused(t, sendSized(t, w.Fleet, copyPath(w.Fleet), asking, unsent, most+1)); p.Status != http.StatusRequestEntityTooLarge || p.Code != "body_too_large" {
		t.Errorf("with its length: %d %s", p.Status, p.Code)
	}
	if unsent.read > 0 {
		t.Errorf("%d bytes of a body were asked for that was too long from the start", unsent.read)
	}
	chunked := io.MultiReader(io.LimitReader(blank{}, most), strings.NewReader(good))
	if p := refused(t, send(t, w.Fleet, http.MethodPost, copyPath(w.Fleet), nil, chunked)); p.Status != http.StatusRequestEntityTooLarge || p.Code != "body_too_large" {
		t.Errorf("in chunks: %d %s", p.Status, p.Code)
	}
	w.unchanged(t, before)
	within := io.MultiReader(io.LimitReader(blank{}, 1<<20), strings.NewReader(good))
	if a := send(t, w.Fleet, http.MethodPost, copyPath(w.Fleet), nil, within); a.Status != http.StatusOK {
		t.Errorf("a large one within the limit: %d %s", a.Status, a.Body)
	}
}

// counted counts what is read of it.
type counted struct {
	reader io.Reader
	read   int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.reader.Read(p)
	c.read += n
	return n, err
}

// blank is a reader of spaces without an end.
type blank struct{}

func (blank) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

package hostile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
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

func exchange(t *testing.T, f *mixtest.Fleet, req *http.Request, header map[string]string) mixtest.Answer {
	t.Helper()
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+f.API.Key)
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: true}
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

// TestBodyOverTheLimit sends one that says how long it is, with and without asking before it is sent, and one that comes in
// chunks.
func TestBodyOverTheLimit(t *testing.T) {
	t.Parallel()
	const most = 64 << 20
	w := watchedUp(t)
	before := w.traces(t)
	if a := ask(t, w.Fleet, most+1); a.Status != http.StatusRequestEntityTooLarge || refused(t, a).Code != "body_too_large" {
		t.Errorf("before it is sent: %d %s", a.Status, a.Body)
	}
	if p := refused(t, send(t, w.Fleet, http.MethodPost, copyPath(w.Fleet), nil, bytes.NewReader(make([]byte, most+1)))); p.Status != http.StatusRequestEntityTooLarge || p.Code != "body_too_large" {
		t.Errorf("with its length: %d %s", p.Status, p.Code)
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

// ask sends the head of a copy call, and returns the first answer. It is 100 if the server wants to have the body.
func ask(t *testing.T, f *mixtest.Fleet, length int) mixtest.Answer {
	t.Helper()
	host := strings.TrimPrefix(f.API.URL, "http://")
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		copyPath(f), host, f.API.Key, length) // what fails shows in the answer
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return mixtest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}
}

// blank is a reader of spaces without an end.
type blank struct{}

func (blank) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

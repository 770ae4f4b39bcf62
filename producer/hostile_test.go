package producer

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
)

// pour is a body that goes on for as long as it is read, up to a limit at which a test is lost.
type pour struct {
	next func(n int) string
	most int

	given, parts int
	left         string
}

// Read implements io.Reader.
func (b *pour) Read(p []byte) (int, error) {
	if b.left == "" {
		if b.given > b.most {
			return 0, io.EOF
		}
		b.left = b.next(b.parts)
		b.parts++
	}
	n := copy(p, b.left)
	b.left, b.given = b.left[n:], b.given+n
	return n, nil
}

// poured sends a body that never ends, to one that is not to read on after the refusal.
func (s *stage) poured(media string, body *pour) answer {
	s.Helper()
	r := httptest.NewRequestWithContext(s.Context(), "POST", "/v1/batches", body)
	r.Header.Set("Authorization", "Bearer "+s.keys["one/copy"])
	r.Header.Set("Content-Type", media)
	r.Header.Set("Expect", "100-continue")
	w := httptest.NewRecorder()
	s.server.Handler().ServeHTTP(w, r)
	return answer{s.T, w.Code, w.Header(), w.Body.Bytes()}
}

// TestNamesWithoutEnd are refused while they are few: the decoder keeps each, to tell what occurs twice.
func TestNamesWithoutEnd(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	for name, part := range map[string]string{
		"long":         `,"` + strings.Repeat("x", 100_000) + `@":1`,
		"short":        `,"x@":1`,
		"behind items": `,"x@":1`,
	} {
		start := `{"label":"a"`
		if name == "behind items" {
			start = `{"items":[{"src":{"type":"httpGetLocation","url":"http://a.test/b"},"dest":{"type":"sandboxFileLocation","sandbox":"box","path":"/b"}}]`
		}
		body := &pour{most: 32 << 20, next: func(n int) string {
			if n == 0 {
				return start
			}
			return strings.Replace(part, "@", itoa(n), 1)
		}}
		s.poured("application/json", body).want(400, CodeInvalidRequest)
		if body.given > 4<<20 {
			t.Errorf("%s: %d bytes were read of names that mean nothing", name, body.given)
		}
	}
}

// TestLargeItems have their share of the memory, and are told by their own limit where a page of them is too large to be kept.
func TestLargeItems(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	large := func(n int) string {
		return `{"id":"` + itoa(n) + `","src":{"type":"sandboxFileLocation","sandbox":"box","path":"/a"},` +
			`"dest":{"type":"httpPostFormLocation","url":"http://a.test/b","form":{"a":"` + strings.Repeat("x", 60_000) + `"}}}` + "\n"
	}
	const n = 100
	s.server.budget = &budget{limit: 8 * n * 60_000 / 2}
	s.poured(ndjsonMedia, &pour{most: n * 60_000, next: large}).want(503, CodeBusy)
	s.server.budget = newBudget(DefaultMaxBuffered, DefaultMaxBody)
	s.submit(ndjsonMedia, "", large(0)+large(1))
	body := &pour{most: 64 << 20, next: func(n int) string {
		return strings.Replace(large(n), `"form"`, `"headers":{"a":"`+strings.Repeat("y", 16_000)+`"},"form"`, 1)
	}}
	s.poured(ndjsonMedia, body).want(413, CodeBodyTooLarge)
	if body.given > maxPageText+1<<20 {
		t.Errorf("%d bytes were read", body.given)
	}
	if used := s.server.budget.used; used != 0 {
		t.Errorf("%d bytes are still taken", used)
	}
}

// TestOneOrgLeavesRoom in what is shared for the bodies and the event streams of others.
func TestOneOrgLeavesRoom(t *testing.T) {
	t.Parallel()
	b := newBudget(256, 64)
	for b.take("one", 1) {
	}
	if b.used != 192 || !b.take("two", 64) || b.take("three", 1) {
		t.Errorf("%d bytes are taken, %v", b.used, b.byOrg)
	}
	b.give("one", 192)
	b.give("two", 64)
	if b.used != 0 || len(b.byOrg) != 0 {
		t.Errorf("%d bytes are left, %v", b.used, b.byOrg)
	}
	if whole := newBudget(64, 64); !whole.take("one", 64) {
		t.Error("the largest body is refused")
	}
}

// TestWatchersOfOneOrg leave places to others.
func TestWatchersOfOneOrg(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.open(func(p *Pipeline) { p.views.streams.limit = 4 })
	a := s.accept(1)
	for range 3 {
		s.watch(&a, "").next("batch")
	}
	s.call("one/read", "GET", "/v1/batches/"+string(a.Batch)+"/events", "").want(503, CodeBusy)
	streams := &s.pipeline.views.streams
	streams.mu.Lock()
	defer streams.mu.Unlock()
	if left := streams.limit - streams.watchers; left != 1 || streams.byOrg["one"] != 3 {
		t.Errorf("%d places are left for others, %v", left, streams.byOrg)
	}
}

// TestDerivedPlaceStaysBelow the default directory or prefix, whatever the list of somebody else says.
func TestDerivedPlaceStaysBelow(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	for _, query := range []string{"?sandbox=box&path=/in/here", "?bucket=results&prefix=in"} {
		for _, path := range []string{"/%2e%2e/%2e%2e/%2e%2e/b", "/../../b", "/a/..%2f../b", "/a/./b"} {
			a := s.call("one/copy", "POST", "/v1/batches"+query, tsvFirstLine+"\nhttp://a.test"+path+"\n", "Content-Type", "text/tab-separated-values")
			if p := decode[Problem](a.want(400, CodeInvalidRequest)); len(p.Errors) != 1 || p.Errors[0].Pointer != "/line/2/dest" {
				t.Errorf("%s%s: %+v", query, path, p.Errors)
			}
		}
	}
}

// TestReportCSVStaysOnItsLines whatever a peer said: a report is a manifest, of which each row is a line.
func TestReportCSVStaysOnItsLines(t *testing.T) {
	t.Parallel()
	of := row{receipt: protocol.Receipt{State: protocol.ItemFailed, ETag: "\r\n=1+1", Failure: &protocol.Failure{Message: "one\r\ntwo\nthree"}}}
	text, err := csvRows([]row{of}, false)
	if err != nil || strings.Count(string(text), "\n") != 1 || !strings.Contains(string(text), "one  two three") || !strings.Contains(string(text), ",'=1+1,") {
		t.Errorf("%v %q", err, text)
	}
}

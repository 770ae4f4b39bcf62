package target_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/nulls3"
	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/target"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage/object"
)

const (
	limit   = 4 * time.Minute
	apiKey  = "cfk_very-secret"
	batchID = "bat_0123456789abcdefghjkmnpqrs"
)

// api is an API that answers as a test wants it to, and notes what it is asked.
type api struct {
	*httptest.Server

	mu      sync.Mutex
	answers map[string]http.HandlerFunc // by method and path; a path that ends with a slash stands for all below
	calls   []string
	bodies  []string
}

func newAPI(t *testing.T, answers map[string]http.HandlerFunc) *api {
	t.Helper()
	a := &api{answers: answers}
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() { a.CloseClientConnections(); a.Close() })
	return a
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	call := r.Method + " " + r.URL.Path
	a.mu.Lock()
	a.calls, a.bodies = append(a.calls, call), append(a.bodies, string(body))
	answer := a.answers[call]
	a.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "Bearer "+apiKey:
		refuse(w, http.StatusUnauthorized, "unauthorized", "A valid API key is required.")
	case answer == nil:
		refuse(w, http.StatusNotFound, "not_found", "There is no such path.")
	default:
		answer(w, r)
	}
}

func (a *api) called(call string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.calls {
		if c == call {
			n++
		}
	}
	return n
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"status":%d,"code":%q,"message":%q}`, status, code, message)
}

func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Copyfleet-Batch", batchID)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

const (
	copyCall  = "POST /api/orgs/ORG-1/sandboxes/copyfleet-bench/file/copy"
	itemCall  = "GET /v1/batches/" + batchID + "/items/0"
	itemsCall = "GET /v1/batches/" + batchID + "/items"
	stopCall  = "POST /v1/batches/" + batchID + "/cancel"
	newBatch  = "POST /v1/batches"
	oneBatch  = "GET /v1/batches/" + batchID
	heard     = "GET /v1/batches/" + batchID + "/events"
)

func (a *api) target(t *testing.T, change func(*target.FleetConfig)) *target.Fleet {
	t.Helper()
	cfg := target.FleetConfig{URL: a.URL, Key: apiKey, Org: "ORG-1", Store: target.S3Config{
		Endpoints: []object.RawConfig{{Endpoint: nulls3.Start(t, nulls3.Options{}).Endpoint, AccessKey: "a", SecretKey: "bbbbbbbb"}},
		Bucket:    "bench", Prefix: "copyfleet-bench/r1/0/", Payload: workload.NewPayload(1, 0),
	}}
	if change != nil {
		change(&cfg)
	}
	f, err := target.NewFleet(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func copyOf(n uint64) *workload.Op {
	return &workload.Op{N: n, Kind: workload.Copy, Object: workload.Object{Number: 7, Size: 100}}
}

// What the API and its receipts say of a copy is what is recorded of it.
func TestCopyCallTellsTheTruth(t *testing.T) {
	t.Parallel()
	good := text(http.StatusOK, `{"results":[{"success":true}]}`)
	receipt := func(text string) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{copyCall: good, itemCall: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }}
	}
	later := func(status int, code string) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{copyCall: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			refuse(w, status, code, "later")
		}, stopCall: text(http.StatusOK, "{}")}
	}
	for name, c := range map[string]struct {
		answers     map[string]http.HandlerFunc
		verify      bool
		class, code string // "": it goes well
		says        string
		host        string
		rest        time.Duration
	}{
		"done":          {answers: map[string]http.HandlerFunc{copyCall: good}},
		"done, looked":  {answers: receipt(`{"state":"succeeded","bytes":100,"verified":true,"attempts":[{"worker":"w1"},{"worker":"w2"}]}`), verify: true, host: "w2"},
		"too short":     {answers: receipt(`{"state":"succeeded","bytes":99,"verified":true}`), verify: true, class: "corrupt", code: "wrong_length", says: "99 bytes"},
		"not verified":  {answers: receipt(`{"state":"succeeded","bytes":100}`), verify: true, class: "corrupt", code: "not_verified"},
		"canceled":      {answers: receipt(`{"state":"canceled"}`), verify: true, class: "canceled", code: "canceled"},
		"no end":        {answers: receipt(`{"state":"skipped"}`), verify: true, class: "internal", code: "not_copied"},
		"no receipt":    {answers: map[string]http.HandlerFunc{copyCall: good}, verify: true, class: "not_found", code: "not_found"},
		"unauthorized":  {answers: map[string]http.HandlerFunc{copyCall: func(w http.ResponseWriter, _ *http.Request) { refuse(w, 401, "unauthorized", "no") }}, class: "denied", code: "unauthorized"},
		"full":          {answers: later(http.StatusTooManyRequests, "queue_full"), class: "throttled", code: "queue_full", rest: 7 * time.Second},
		"busy":          {answers: later(http.StatusServiceUnavailable, "busy"), class: "unavailable", code: "busy", rest: 7 * time.Second},
		"still running": {answers: later(http.StatusGatewayTimeout, "still_running"), class: "timeout", code: "still_running", rest: 7 * time.Second},
		"a fault":       {answers: later(http.StatusInternalServerError, "internal"), class: "internal", code: "internal", rest: 7 * time.Second},
		"failed": {answers: map[string]http.HandlerFunc{
			copyCall: text(http.StatusOK, `{"results":[{"success":false,"error":"Failed to download file: 404 Not Found"}]}`),
			itemCall: text(http.StatusOK, `{"state":"failed","failure":{"class":"not_found","code":"object_not_found","message":"it is gone","hint":"look"},"attempts":[{"worker":"w3"}]}`),
		}, class: "not_found", code: "object_not_found", says: "it is gone", host: "w3"},
		"failed, no receipt": {
			answers: map[string]http.HandlerFunc{copyCall: text(http.StatusOK, `{"results":[{"success":false,"error":"Failed to download file"}]}`)},
			class:   "not_found", code: "not_found", says: "Failed to download file",
		},
		"another site": {answers: map[string]http.HandlerFunc{copyCall: text(http.StatusOK, "<html>")}, class: "invalid", code: "unknown_answer"},
		"no results":   {answers: map[string]http.HandlerFunc{copyCall: text(http.StatusOK, `{"results":[]}`)}, class: "invalid", code: "unknown_answer"},
		"elsewhere": {answers: map[string]http.HandlerFunc{copyCall: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://example.com/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}}, class: "invalid", code: "http_307"},
		"broken off": {answers: map[string]http.HandlerFunc{copyCall: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }}, class: "interrupted", code: "api_broken_off"},
		"a long story": {answers: map[string]http.HandlerFunc{copyCall: func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, 400, strings.Repeat("c", 50_000), strings.Repeat("m", 5000))
		}}, class: "invalid"},
	} {
		a := newAPI(t, c.answers)
		f := a.target(t, func(cfg *target.FleetConfig) { cfg.Store.Verify = c.verify })
		result := f.Do(t.Context(), copyOf(3))
		if host := strings.TrimPrefix(a.URL, "http://"); result.Host != c.host && (c.host != "" || result.Host != host) {
			t.Errorf("%s: by %s", name, result.Host)
		}
		if result.Rest != c.rest || result.Down != (c.code == "api_broken_off") {
			t.Errorf("%s: rest %v, down %v", name, result.Rest, result.Down)
		}
		if (result.Fault == nil) != (c.class == "") {
			t.Errorf("%s: %+v", name, result.Fault)
			continue
		}
		if fault := result.Fault; fault != nil && (fault.Class != c.class || c.code != "" && fault.Code != c.code || !strings.Contains(fault.Message, c.says) ||
			len(fault.Message) > 800 || len(fault.Code) > 400 || strings.Contains(fault.Message, apiKey)) {
			t.Errorf("%s: %.600v", name, fault)
		}
	}
}

// What is asked for is one copy from a source of the load to a destination of its own.
func TestCopyCallAsksForOneCopy(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{copyCall: text(http.StatusOK, `{"results":[{"success":true}]}`)})
	f := a.target(t, nil)
	for n := range uint64(2) {
		if result := f.Do(t.Context(), copyOf(n+0x123)); result.Fault != nil {
			t.Fatal(result.Fault)
		}
	}
	want := `{"files":[{"id":"291","src":{"type":"objectLocation","bucket":"bench","key":"copyfleet-bench/r1/0/src/07/7"},` +
		`"dest":{"type":"objectLocation","bucket":"bench","key":"copyfleet-bench/r1/0/dst/23/291"}}]}`
	if a.bodies[0] != want {
		t.Errorf("%s", a.bodies[0])
	}
	if !strings.Contains(a.bodies[1], "dst/24/292") {
		t.Errorf("%s", a.bodies[1])
	}
}

// A copy that the run gives up is canceled, as is one whose answer was lost, once the API answers again.
func TestGivenUpCopiesAreCanceled(t *testing.T) {
	t.Parallel()
	var expected string // the batch of the idempotency key
	inside, hold := make(chan struct{}, 1), make(chan struct{})
	answers := map[string]http.HandlerFunc{}
	a := newAPI(t, answers)
	t.Cleanup(func() { close(hold) })
	takes := func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		expected = "POST /v1/batches/" + string(protocol.KeyedBatchID("ORG-1", r.Header.Get("Idempotency-Key"))) + "/cancel"
		answers[expected] = text(http.StatusOK, "{}")
	}
	answers[copyCall] = func(w http.ResponseWriter, r *http.Request) {
		takes(w, r)
		inside <- struct{}{}
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}
	canceled := func() int {
		a.mu.Lock()
		call := expected
		a.mu.Unlock()
		return a.called(call)
	}
	f := a.target(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan loadtest.Result, 1)
	go func() { result <- f.Do(ctx, copyOf(1)) }()
	<-inside
	cancel()
	if got := <-result; got.Fault == nil || got.Fault.Code != "given_up" || got.Down {
		t.Errorf("%+v", got)
	}
	if canceled() != 1 {
		t.Error("it was not canceled")
	}

	a.mu.Lock()
	answers[copyCall] = func(w http.ResponseWriter, r *http.Request) {
		takes(w, r)
		panic(http.ErrAbortHandler)
	}
	a.mu.Unlock()
	if got := f.Do(t.Context(), copyOf(2)); got.Fault == nil || !got.Down {
		t.Errorf("%+v", got)
	}
	if canceled() != 0 {
		t.Error("it is canceled at an API that went away")
	}
	a.mu.Lock()
	cancels := answers[expected]
	answers[expected] = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusServiceUnavailable, "not_ready", "wait")
	}
	a.mu.Unlock()
	if err := f.Settle(t.Context()); err == nil || !strings.Contains(err.Error(), "1 batches may still run") {
		t.Errorf("%v", err)
	}
	a.mu.Lock()
	answers[expected] = cancels
	a.mu.Unlock()
	if err := f.Settle(t.Context()); err != nil || canceled() != 2 {
		t.Errorf("%v, %d calls", err, canceled())
	}
	if err := f.Settle(t.Context()); err != nil || canceled() != 2 {
		t.Errorf("%v, %d calls", err, canceled())
	}
}

// A call that is given up while it is being accepted is asked for again with its key, which returns when the batch is there to be canceled.
func TestACopyThatIsBeingAcceptedIsCanceled(t *testing.T) {
	t.Parallel()
	answers := map[string]http.HandlerFunc{}
	a := newAPI(t, answers)
	inside := make(chan struct{}, 1)
	var keys []string
	canceled := 0
	answers[copyCall] = func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		a.mu.Unlock()
		if r.Header.Get("Prefer") != "respond-async" {
			inside <- struct{}{}
			<-r.Context().Done()
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		answers["POST /v1/batches/"+string(protocol.KeyedBatchID("ORG-1", keys[0]))+"/cancel"] = func(http.ResponseWriter, *http.Request) { canceled++ }
		w.WriteHeader(http.StatusAccepted)
	}
	f := a.target(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan loadtest.Result, 1)
	go func() { result <- f.Do(ctx, copyOf(1)) }()
	<-inside
	cancel()
	if got := next(t, result); got.Fault == nil || got.Fault.Code != "given_up" {
		t.Errorf("%+v", got)
	}
	if len(keys) != 2 || keys[0] != keys[1] || canceled != 1 {
		t.Errorf("keys %q, canceled %d times", keys, canceled)
	}
}

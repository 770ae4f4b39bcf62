package observe

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"context"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("status %d", answer.Code)
	}
	return answer.Body.String()
}

func TestMetricsShowWhatWasRecorded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	m, err := NewMetrics()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.WithoutCancel(ctx)) })
	m.Request(ctx, http.MethodPost, "/v1/batches", http.StatusAccepted, 30*time.Millisecond)
	m.Accepted(ctx, "bulk", 1000)
	m.Attempt(ctx, "succeeded", "", 4096)
	m.Attempt(ctx, "failed", "not_found", 0)
	m.Stage(ctx, StageCopy, 2*time.Millisecond)
	m.Storage(ctx, "object", "put", "throttled", 2*time.Millisecond)
	m.Fed(ctx, 7)
	m.Folded(ctx, 8)
	m.Commit(ctx, "ok", time.Millisecond)
	m.Webhook(ctx, "succeeded")
	m.Watching(ctx, +1)
	if err := m.WatchSlots(func() (int, int) { return 3, 29 }); err != nil {
		t.Fatal(err)
	}
	if err := m.WatchQueue(func(context.Context) ([]Queue, error) {
		return []Queue{{Lane: "bulk", Waiting: 5, Held: 2, Age: 1500 * time.Millisecond}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := m.WatchLag(func(context.Context) (Lag, error) { return Lag{Bundles: 4, Unfed: 9}, nil }); err != nil {
		t.Fatal(err)
	}
	shown := scrape(t, m)
	for _, line := range []string{
		`copyfleet_http_request_duration_seconds_count{method="POST",route="/v1/batches",status="2xx"} 1`,
		`copyfleet_accepted_items_total{lane="bulk"} 1000`, `copyfleet_accepted_batches_total{lane="bulk"} 1`,
		`copyfleet_attempts_total{class="",outcome="succeeded"} 1`, `copyfleet_attempts_total{class="not_found",outcome="failed"} 1`,
		`copyfleet_copied_bytes_total 4096`, `copyfleet_stage_duration_seconds_count{stage="copy"} 1`, `copyfleet_fed_items_total 7`,
		`copyfleet_storage_duration_seconds_count{class="throttled",driver="object",op="put"} 1`,
		`copyfleet_folded_reports_total 8`, `copyfleet_commit_duration_seconds_count{result="ok"} 1`, `copyfleet_webhooks_total{outcome="succeeded"} 1`,
		`copyfleet_watchers 1`, `copyfleet_slots{state="busy"} 3`, `copyfleet_slots{state="free"} 29`, `copyfleet_queue_items{lane="bulk",state="waiting"} 5`,
		`copyfleet_queue_items{lane="bulk",state="held"} 2`, `copyfleet_queue_age_seconds{lane="bulk"} 1.5`, `copyfleet_aggregator_lag 4`, `copyfleet_unfed_items 9`,
	} {
		if !strings.Contains(shown, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(shown) {
			if strings.HasPrefix(line, "copyfleet") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}

func TestRecordingIsCheap(t *testing.T) {
	ctx := t.Context()
	m, err := NewMetrics()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.WithoutCancel(ctx)) })
	record := func() {
		m.Attempt(ctx, "succeeded", "", 1)
		m.Stage(ctx, StageCopy, time.Millisecond)
	}
	record()
	if n := testing.AllocsPerRun(100, record); n > 2 {
		t.Errorf("%v allocations an item", n)
	}
}

func TestNilMeasuresNothing(t *testing.T) {
	t.Parallel()
	var m *Metrics
	m.Request(t.Context(), "GET", "/", 200, 0)
	m.Accepted(t.Context(), "bulk", 1)
	m.Watching(t.Context(), 1)
	m.Attempt(t.Context(), "failed", "denied", 1)
	m.Webhook(t.Context(), "failed")
	m.Stage(t.Context(), StageQueue, 1)
	m.Storage(t.Context(), "http", "open", "", 1)
	m.Fed(t.Context(), 1)
	m.Folded(t.Context(), 1)
	m.Commit(t.Context(), "ok", 1)
	if m.WatchSlots(nil) != nil || m.WatchQueue(nil) != nil || m.WatchLag(nil) != nil || m.Close(t.Context()) != nil {
		t.Error("nil metrics fail")
	}
	var traces *Traces
	ctx, span := traces.Call(t.Context(), http.Header{}, "GET")
	span.Accepted("o", "b", 1)
	span.Answered("GET", "/", 500)
	span.Failed("c", "c", "r")
	span.Moved(1)
	span.End()
	if Parent(ctx) != "" || traces.Close(ctx) != nil {
		t.Error("nil traces make a trace")
	}
}

const caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestTracesWithoutACollectorMakeNoSpans(t *testing.T) {
	t.Parallel()
	for _, env := range []map[string]string{{}, {envEndpoint: "http://127.0.0.1:1", envDisabled: "true"}} {
		traces, err := NewTraces(t.Context(), "api", "dev", func(name string) string { return env[name] })
		if err != nil {
			t.Fatal(err)
		}
		ctx, span := traces.Call(t.Context(), http.Header{"Traceparent": {caller}}, "POST")
		span.End()
		if got := Parent(ctx); got != "" || traces.Close(t.Context()) != nil {
			t.Errorf("%v: a trace %q", env, got)
		}
	}
}

// TestTracesReachACollector follows a call to its attempt, in a collector that speaks OTLP over HTTP. The collector is this
// test: what arrives there is decoded with the messages of the standard.
func TestTracesReachACollector(t *testing.T) {
	received := make(chan *coltrace.ExportTraceServiceRequest, 8)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		request := &coltrace.ExportTraceServiceRequest{}
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, request) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		received <- request
	}))
	defer collector.Close()
	t.Setenv(envEndpoint, collector.URL)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
	traces, err := NewTraces(t.Context(), "worker", "dev", func(name string) string {
		return map[string]string{envEndpoint: collector.URL}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, call := traces.Call(t.Context(), http.Header{"Traceparent": {caller}}, "POST")
	call.Accepted("ORG", "bat_1", 3)
	_, attempt := traces.Attempt(t.Context(), Parent(ctx), Item{Org: "ORG", Batch: "bat_1", Index: 2, Attempt: 1})
	attempt.Failed("not_found", "source_http_404", "404 Not Found")
	attempt.End()
	call.Answered("POST", "/v1/batches", http.StatusAccepted)
	call.End()
	if err := traces.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	names := map[string]string{} // by span id
	parents := map[string]string{}
	for len(received) > 0 {
		for _, r := range (<-received).GetResourceSpans() {
			for _, s := range r.GetScopeSpans() {
				for _, span := range s.GetSpans() {
					names[string(span.GetSpanId())] = span.GetName()
					parents[span.GetName()] = string(span.GetParentSpanId())
				}
			}
		}
	}
	if names[parents["copy"]] != "POST /v1/batches" {
		t.Errorf("the attempt is not below the call: %q", names)
	}
}

package observe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
)

// Metrics is what one process measures. Nil measures nothing.
type Metrics struct {
	provider *sdk.MeterProvider
	registry *prometheus.Registry
	meter    metric.Meter

	requests metric.Float64Histogram
	accepted metric.Int64Counter
	batches  metric.Int64Counter
	watchers metric.Int64UpDownCounter
	attempts metric.Int64Counter
	bytes    metric.Int64Counter
	stages   metric.Float64Histogram
	storage  metric.Float64Histogram
	fed      metric.Int64Counter
	folded   metric.Int64Counter
	commits  metric.Float64Histogram
	webhooks metric.Int64Counter
	sessions metric.Int64Counter
	parts    metric.Float64Histogram
	staged   metric.Int64Counter
	decided  metric.Int64Counter
	broken   metric.Int64Counter
	delays   metric.Float64Histogram
	oldest   oldest

	sets sets
}

// Bounds of the buckets, in seconds: from the microseconds of a claim to the hours of a large file.
var (
	shortBounds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	longBounds  = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400}
)

// NewMetrics returns metrics of their own registry, with those of the Go runtime and the process beside ours.
func NewMetrics() (*Metrics, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	m := &Metrics{provider: sdk.NewMeterProvider(sdk.WithReader(exporter)), registry: registry}
	m.meter = m.provider.Meter(scope)
	if err := m.instruments(); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Metrics) instruments() error {
	var failed error
	counter := func(name, unit, help string) metric.Int64Counter {
		c, err := m.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(help))
		failed = errors.Join(failed, err)
		return c
	}
	histogram := func(name, help string, bounds []float64) metric.Float64Histogram {
		h, err := m.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(help), metric.WithExplicitBucketBoundaries(bounds...))
		failed = errors.Join(failed, err)
		return h
	}
	m.requests = histogram(nameRequests, "Time to answer API calls.", longBounds)
	m.accepted = counter(nameAccepted, "", "Items that were accepted.")
	m.batches = counter(nameBatches, "", "Batches that were accepted.")
	m.attempts = counter(nameAttempts, "", "Attempts at items that ended.")
	m.bytes = counter(nameBytes, "By", "Bytes that arrived at destinations.")
	m.stages = histogram(nameStages, "Time that items spend in each stage.", longBounds)
	m.storage = histogram(nameStorage, "Time that uses of sources and destinations take.", longBounds)
	m.fed = counter(nameFed, "", "Items put into the queue from manifests.")
	m.folded = counter(nameFolded, "", "Reports folded into receipts.")
	m.commits = histogram(nameCommits, "Time to commit receipts.", shortBounds)
	m.webhooks = counter(nameWebhooks, "", "Attempts to tell of the end of a batch.")
	m.sessions = counter(nameSessions, "", "Upload sessions that came into a state.")
	m.parts = histogram(nameParts, "Time to take a part of an upload session.", longBounds)
	m.staged = counter(nameStaged, "By", "Bytes of parts of upload sessions that were accepted.")
	m.decided = counter(nameEvents, "", "Events that rules matched, once for each rule, by what became of them.")
	m.broken = counter(nameBroken, "", "Notifications that were dropped because they cannot be read.")
	m.delays = histogram(nameDelay, "Time from the storing of an event to the decision on it.", longBounds)
	failed = errors.Join(failed, m.watchEvents())
	var err error
	m.watchers, err = m.meter.Int64UpDownCounter(nameWatchers, metric.WithDescription("Open event streams."))
	if failed = errors.Join(failed, err); failed != nil {
		return fmt.Errorf("metrics: %w", failed)
	}
	return nil
}

// Handler shows the metrics in the text form of Prometheus.
func (m *Metrics) Handler() http.Handler {
	if m == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Close ends the collection.
func (m *Metrics) Close(ctx context.Context) error {
	if m == nil {
		return nil
	}
	if err := m.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// Request records an answered API call. route is the pattern of the route, never the path that was asked for.
func (m *Metrics) Request(ctx context.Context, method, route string, status int, took time.Duration) {
	if m != nil {
		m.requests.Record(ctx, took.Seconds(), m.sets.of(
			attribute.String(keyMethod, method), attribute.String(keyRoute, route), attribute.String(keyStatus, strconv.Itoa(status/100)+"xx")))
	}
}

// Accepted records an acceptance.
func (m *Metrics) Accepted(ctx context.Context, lane string, items int) {
	if m != nil {
		set := m.sets.of(attribute.String(keyLane, lane))
		m.accepted.Add(ctx, int64(items), set)
		m.batches.Add(ctx, 1, set)
	}
}

// Watching records that an event stream opened (+1) or closed (-1).
func (m *Metrics) Watching(ctx context.Context, change int) {
	if m != nil {
		m.watchers.Add(ctx, int64(change))
	}
}

// Attempt records the end of an attempt: what became of the item, the failure class ("" for none), and the bytes that arrived.
func (m *Metrics) Attempt(ctx context.Context, outcome, class string, bytes int64) {
	if m != nil {
		m.attempts.Add(ctx, 1, m.sets.of(attribute.String(keyOutcome, outcome), attribute.String(keyClass, class)))
		m.bytes.Add(ctx, bytes)
	}
}

// Webhook records an attempt to tell of the end of a batch.
func (m *Metrics) Webhook(ctx context.Context, outcome string) {
	if m != nil {
		m.webhooks.Add(ctx, 1, m.sets.of(attribute.String(keyOutcome, outcome)))
	}
}

// UploadSession records that an upload session came into a state.
func (m *Metrics) UploadSession(ctx context.Context, state string) {
	if m != nil {
		m.sessions.Add(ctx, 1, m.sets.of(attribute.String(keyState, state)))
	}
}

// UploadPart records a part of so many bytes that a client sent.
func (m *Metrics) UploadPart(ctx context.Context, outcome UploadOutcome, bytes int64, took time.Duration) {
	if m != nil {
		m.parts.Record(ctx, took.Seconds(), m.sets.of(attribute.String(keyOutcome, string(outcome))))
		if outcome == UploadAccepted {
			m.staged.Add(ctx, bytes)
		}
	}
}

// Stage records how long an item was in a stage.
func (m *Metrics) Stage(ctx context.Context, stage Stage, took time.Duration) {
	if m != nil {
		m.stages.Record(ctx, took.Seconds(), m.sets.of(attribute.String(keyStage, string(stage))))
	}
}

// Storage records a use of a source or a destination: the driver, the method, and the class of the failure ("": it was none).
func (m *Metrics) Storage(ctx context.Context, driver, op, class string, took time.Duration) {
	if m != nil {
		set := m.sets.of(attribute.String(keyDriver, driver), attribute.String(keyOp, op), attribute.String(keyClass, class))
		m.storage.Record(ctx, took.Seconds(), set)
	}
}

// Fed records items that came from a manifest into the queue.
func (m *Metrics) Fed(ctx context.Context, items int) {
	if m != nil {
		m.fed.Add(ctx, int64(items))
	}
}

// Folded records reports that became receipts.
func (m *Metrics) Folded(ctx context.Context, reports int) {
	if m != nil {
		m.folded.Add(ctx, int64(reports))
	}
}

// Commit records a commit of receipts. result is "ok", "lost" (a race) or "failed".
func (m *Metrics) Commit(ctx context.Context, result string, took time.Duration) {
	if m != nil {
		m.commits.Record(ctx, took.Seconds(), m.sets.of(attribute.String(keyResult, result)))
	}
}

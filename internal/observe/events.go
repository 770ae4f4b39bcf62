package observe

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// oldest is since when the oldest event of each reader waits.
type oldest struct {
	mu    sync.Mutex
	since map[string]time.Time
}

func (m *Metrics) watchEvents() error {
	gauge, err := m.meter.Float64ObservableGauge(nameEventAge, metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest event that was read and is not decided on; 0: there is none."))
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return m.observe(func(_ context.Context, o metric.Observer) error {
		m.oldest.mu.Lock()
		defer m.oldest.mu.Unlock()
		age := time.Duration(0)
		for _, since := range m.oldest.since {
			age = max(age, time.Since(since))
		}
		o.ObserveFloat64(gauge, age.Seconds())
		return nil
	}, gauge)
}

// OldestEvent says since when the oldest event of a reader waits; zero: it has none. The name of the reader is not shown.
func (m *Metrics) OldestEvent(reader string, since time.Time) {
	if m == nil {
		return
	}
	m.oldest.mu.Lock()
	defer m.oldest.mu.Unlock()
	if since.IsZero() {
		delete(m.oldest.since, reader)
		return
	}
	if m.oldest.since == nil {
		m.oldest.since = map[string]time.Time{}
	}
	m.oldest.since[reader] = since
}

// Decided records what became of an event for a rule that matched.
func (m *Metrics) Decided(ctx context.Context, outcome, source string) {
	if m != nil {
		m.decided.Add(ctx, 1, m.sets.of(attribute.String(keyOutcome, outcome), attribute.String(keySource, source)))
	}
}

// EventMalformed records a notification that cannot be read.
func (m *Metrics) EventMalformed(ctx context.Context, source string) {
	if m != nil {
		m.broken.Add(ctx, 1, m.sets.of(attribute.String(keySource, source)))
	}
}

// EventDelay records how long an event waited for its decision.
func (m *Metrics) EventDelay(ctx context.Context, took time.Duration) {
	if m != nil {
		m.delays.Record(ctx, took.Seconds())
	}
}
